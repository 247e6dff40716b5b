"""A Config from its three sources, defaults < YAML file < dotted overrides, and back to YAML.

YAML here knows the plain values of YAML 1.2: null, true, false, decimal numbers, text. PyYAML's own 1.1 reads
`no` and `on` as booleans, 1e-4 as text, 010 as 8 and 1:30 as 90. A key given twice is an error, not the last.
"""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mac_ray.config import Config, ConfigError
from mac_ray.config.sentences import sentences, shown


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The file's values over the defaults, and over both the overrides, such as `stages.0.epochs=2`.

    Raises ConfigError: a sentence per problem, each starting with the file or override that brought it.
    """
    sources = [f"override {override!r}" for override in overrides]
    return changed(path, [parsed_override(override) for override in overrides], sources)


def changed(
    path: str | Path | None, changes: Sequence[tuple[str, Any]], sources: Sequence[str] | None = None
) -> Config:
    """As `load`, with overrides as pairs of dotted path and value; `sources` is what errors call each, "" for nothing.

    Raises ConfigError as `load` does.
    """
    if sources is None:
        sources = [f"override '{key}={shown(value)}'" for key, value in changes]
    layers = [_read(Path(path)) if path is not None else {}]
    for (key, value), source in zip(changes, sources, strict=True):
        layers.append(_overridden(layers[-1], key, value, source))
    try:
        return Config.model_validate(layers[-1])
    except ValidationError as error:
        explained = _with_their_source(sentences(error, Config), layers, [str(path), *sources])
        raise ConfigError("\n".join(explained)) from None


def to_yaml(config: Config) -> str:
    """Every value, defaults included; `load` of it gives the same config."""
    plain = config.model_dump(mode="json")
    text: str = yaml.dump(plain, Dumper=_PlainDumper, sort_keys=False, width=110, allow_unicode=True)
    return text


def _with_their_source(problems: list[str], layers: list[dict[str, Any]], sources: list[str]) -> list[str]:
    """A problem is of the source since which it has been there: of overrides, the one that broke a rule."""
    history = [_problems(layer) for layer in layers]
    explained = []
    for problem in problems:
        before = [number for number, found in enumerate(history) if problem not in found]
        explained.append(_said(sources[before[-1] + 1 if before else 0], problem))
    return explained


def _said(source: str, problem: str) -> str:
    return f"{source}: {problem}" if source else problem


def _problems(raw: dict[str, Any]) -> list[str]:
    try:
        Config.model_validate(raw)
    except ValidationError as error:
        return sentences(error, Config)
    return []


# ---------------------------------------------------------------- YAML


class _PlainLoader(yaml.SafeLoader):
    """Mappings with each key once, and the plain values of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's name for what it looks up

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (TEXT, MERGE):
                problem = f"the key {key.value} is not text; put it in quotes"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if key.value in seen:
                problem = f"{key.value!r} is given twice in one section; keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _PlainDumper(yaml.SafeDumper):
    """Text that either version of YAML reads as something else goes into quotes."""


TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
PLAIN_VALUES = (  # what they are, how they look, how they start
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
)
for _tag, _pattern, _starts in PLAIN_VALUES:
    for _reader_or_writer in (_PlainLoader, _PlainDumper):
        _reader_or_writer.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), _starts
        )


def _parsed(text: str | bytes, place: str) -> Any:
    try:
        return yaml.load(text, _PlainLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{place}{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # the last of what a tag asks for, such as !!int abc
        raise ConfigError(f"{place} is not YAML text: {' '.join(str(error).split())}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the config {path}: {error.strerror}; give a YAML file, or section.key=value to override"
        ) from error
    parsed = _parsed(text, str(path))
    if not isinstance(parsed, dict | None):
        raise ConfigError(f"{path} holds {shown(parsed)}; a config is a mapping of sections such as `model:`")
    return parsed or {}


# ---------------------------------------------------------------- overrides


def is_override(argument: str) -> bool:
    """section.key=value, and not a file: in the names of runs, and so in the paths of their configs, is an = too."""
    path, equals, _ = argument.partition("=")
    return bool(equals) and "/" not in path and not Path(argument).is_file()


def path_and_overrides(first: str | None, rest: list[str]) -> tuple[str | None, list[str]]:
    """Of a command line of [CONFIG.yaml] [section.key=value …]: without a config, `first` is an override too."""
    if first is not None and is_override(first):
        return None, [first, *rest]
    return first, rest


def reads_as_itself(text: str) -> bool:
    """Whether it may stand in an override without quotes."""
    try:
        return bool(_parsed(text, "") == text)
    except ConfigError:
        return False


def parsed_override(override: str) -> tuple[str, Any]:
    """Path and value of section.key=value."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"override {override!r} is not of the form section.key=value, such as seed=1")
    return key, _parsed(text, f"override {override!r}")


def _overridden(raw: dict[str, Any], key: str, value: Any, source: str) -> dict[str, Any]:
    """A copy of `raw` with one value set; sections on the way that are absent or null are made."""
    names = key.split(".")
    tree = copy.deepcopy(raw)
    _write_out_defaults(tree, names)
    node: Any = tree
    members: Any
    member: int | str
    for depth, name in enumerate(names):
        place = ".".join(names[:depth])
        if isinstance(node, list):
            if not (name.isascii() and name.isdigit()) or int(name) >= len(node):
                entries = ", ".join(f"{place}.{number}" for number in range(len(node))) or "none"
                raise ConfigError(_said(source, f"no entry {name!r} in {place}; there are {entries}"))
            members, member = node, int(name)
        elif isinstance(node, dict):
            members, member = node, name
            node.setdefault(name, None)
        else:
            raise ConfigError(_said(source, f"{place} is {shown(node)}, a value and not a section"))
        if depth == len(names) - 1:
            members[member] = value
        elif members[member] is None:
            members[member] = {}
        node = members[member]
    return tree


def _write_out_defaults(tree: dict[str, Any], names: list[str]) -> None:
    """Stages and sets replace the default ones as a whole: before one of them is changed, all must be there."""
    if names[0] == "stages" and len(names) > 1 and tree.get("stages") is None:
        tree["stages"] = Config().model_dump(mode="json")["stages"]
    if names[:2] == ["data", "sets"] and len(names) > 2:
        data = tree["data"] = {} if tree.get("data") is None else tree["data"]
        if isinstance(data, dict) and data.get("sets") is None:
            data["sets"] = Config().model_dump(mode="json")["data"]["sets"]
