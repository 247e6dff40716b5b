"""pydantic's validation errors as sentences for people: the path, the value, the remedy.

The remedies come from the JSON schema of the sections, so a new field needs no words here. pydantic reports a
union once per member, under names of its own making; a path here ends where the schema's names end, and what
is reported twice for one path is said once.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Schema = Mapping[str, Any]
LONGEST_VALUE = 60  # characters of a wrong value that are repeated


def sentences(error: ValidationError, section: type[BaseModel], place: str = "") -> list[str]:
    """One sentence per problem; `place`, such as "stages.0.masking", is where the section stands."""
    schema, prefix = _schema(section), f"{place}." if place else ""
    problems = error.errors()
    # entries that are wrong are not counted, so a list of them is called too short as well; and a section that
    # stands where a number could stand is called no number as well
    problems = [problem for problem in problems if not _has_inner(problem, problems, schema)]
    # a rule over several sections may itself have several sentences to say, a line each
    lines = [line for problem in problems for line in _sentence(problem, schema, prefix).splitlines()]
    return list(dict.fromkeys(lines))


@lru_cache  # a search meets hundreds of points that cannot be trained
def _schema(section: type[BaseModel]) -> Schema:
    return section.model_json_schema()


def _has_inner(problem: ErrorDetails, problems: list[ErrorDetails], schema: Schema) -> bool:
    place = _place(problem, schema)
    places = (_place(other, schema) for other in problems)
    return any(len(other) > len(place) and other[: len(place)] == place for other in places)


def _place(problem: ErrorDetails, schema: Schema) -> list[str]:
    """Where a problem is, without the names of union members."""
    *outer, last = problem["loc"] or ("",)
    if problem["type"] == "extra_forbidden":  # the schema does not know the key
        return [*_walk(schema, tuple(outer))[0], str(last)]
    return _walk(schema, problem["loc"])[0]


def _sentence(problem: ErrorDetails, schema: Schema, prefix: str) -> str:
    kind, place = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        names, node = _walk(schema, place[:-1])
        return _unknown_key(".".join(names), str(place[-1]), node, schema, prefix)
    names, node = _walk(schema, place)
    path = (prefix + ".".join(names)).removesuffix(".")
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{path}.{message}" if path else message
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        choices = f"give {_one_of(node['discriminator']['mapping'])}"
        if kind == "union_tag_not_found":
            return f"{path}.kind is missing; {choices}"
        return f"{path}.kind is {shown(problem['ctx']['tag'])}; {choices}"
    if kind == "missing":
        return f"{path} is missing; give {_described(node, schema)}"
    remedy = _described(node, schema) + (", or leave it out" if problem["input"] is None else "")
    return f"{path} is {shown(problem['input'])}; give {remedy}"


def _unknown_key(path: str, key: str, node: Schema, schema: Schema, prefix: str) -> str:
    """The nearest name in the same section, else the same name in other sections, else all that is there."""
    known = [name for option in _options(node, schema) for name in option.get("properties", {})]
    elsewhere = [other for other in _paths(schema, schema) if other.rpartition(".")[2] == key]
    if near := difflib.get_close_matches(key, known, n=1):
        remedy = f"did you mean {near[0]!r}?"
    elif elsewhere:
        remedy = f"did you mean {' or '.join(prefix + other for other in elsewhere)}?"
    else:
        remedy = f"the keys here are {', '.join(known)}"
    return f"unknown key {prefix}{path}{'.' if path else ''}{key}; {remedy}"


def shown(value: Any) -> str:
    """A value as one would write it in YAML, shortened."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


# ---------------------------------------------------------------- in the schema


def _walk(schema: Schema, place: tuple[int | str, ...]) -> tuple[list[str], Schema]:
    """The names along a pydantic location, without those of union members, and the schema at its end."""
    names: list[str] = []
    node = schema
    for part in place:
        tags = node.get("discriminator", {}).get("mapping", {})
        if part in tags:
            node = {"$ref": tags[part]}
            continue
        children = [child for option in _options(node, schema) if (child := _child(option, part)) is not None]
        if not children:  # the name of a union's member
            continue
        names.append(str(part))
        node = children[0]
    return names, node


def _child(node: Schema, part: int | str) -> Schema | None:
    child: Any = None
    if isinstance(part, str):
        child = node.get("properties", {}).get(part, node.get("additionalProperties"))
    elif part < len(node.get("prefixItems", ())):
        child = node["prefixItems"][part]
    else:
        child = node.get("items")
    return child if isinstance(child, Mapping) else None


def _options(node: Schema, schema: Schema) -> list[Schema]:
    """The members of a union; of anything else, itself."""
    if "$ref" in node:
        return _options(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    members = node.get("anyOf") or node.get("oneOf")
    return [option for member in members for option in _options(member, schema)] if members else [node]


def _paths(node: Schema, schema: Schema, prefix: str = "") -> Iterator[str]:
    """Every dotted path below a section, through the first member of a list."""
    for option in _options(node, schema):
        if isinstance(option.get("items"), Mapping):
            yield from _paths(option["items"], schema, f"{prefix}0.")
        for name, child in option.get("properties", {}).items():
            yield prefix + name
            yield from _paths(child, schema, f"{prefix}{name}.")


# ---------------------------------------------------------------- what may stand there


def _described(node: Schema, schema: Schema) -> str:
    return ", or ".join(dict.fromkeys(_described_option(option, schema) for option in _options(node, schema)))


def _described_option(node: Schema, schema: Schema) -> str:
    if "enum" in node or "const" in node:
        return _one_of(node.get("enum") or [node["const"]])
    match node.get("type", "anything"):
        case "integer":
            return "a whole number" + _bounds(node)
        case "number":
            return "a number" + _bounds(node)
        case "string":
            characters = f" {node['description']}" if "pattern" in node else ""
            return f"text{characters}, in quotes if it looks like a number"
        case "boolean":
            return "true or false"
        case "array":
            members = node.get("prefixItems") or [node["items"]]
            each = " and ".join(dict.fromkeys(_described(member, schema) for member in members if member))
            size = len(members) if "prefixItems" in node else node.get("minItems", 0)
            count = f"{size} entries" if "prefixItems" in node else f"{size} or more entries"
            return (f"a list of {count}" if size else "a list") + (f", each {each}" if each else "")
        case "object":
            if isinstance(node.get("additionalProperties"), Mapping):
                return "a section with a name for each entry"
            names = ", ".join(node.get("properties", {}))
            return f"a section with any of {names}" if names else "a section"
        case "anything":
            return "what a config holds"
        case _:
            return "null"


def _bounds(node: Schema) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
        "multipleOf": "a multiple of",
    }
    bounds = [f"{word} {_number(node[bound])}" for bound, word in words.items() if bound in node]
    return f", {' and '.join(bounds)}" if bounds else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _one_of(choices: Any) -> str:
    return "one of " + ", ".join(repr(choice) for choice in choices) if len(choices) > 1 else repr(*choices)
