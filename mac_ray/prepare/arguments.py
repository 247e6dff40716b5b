"""Kinds of arguments of the commands, and those of a reader, which are the parameters of its function."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mac_ray.config import Cluster
from mac_ray.data.decode import unusable
from mac_ray.data.source import absolute_place, is_url


def existing_folder(text: str) -> Path:
    path = (
        Path(text).expanduser().absolute()
    )  # readers join names to it, and the root of a manifest is absolute
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def existing(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no file or folder {text}")
    return path


def file_to_write(text: str) -> Path:
    """Whether its folder is there is asked before hours of work, not after."""
    path = Path(text).expanduser()
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent} to write {path.name} to")
    return path


def place(text: str) -> str:
    """A path, absolute as workers elsewhere need it, or a URL."""
    return absolute_place(text)


def local_file_to_write(text: str) -> Path:
    if is_url(text):
        raise argparse.ArgumentTypeError(
            f"{text} is a URL; write the manifest to this machine and copy it there"
        )
    return Path(text)


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return int(text)


def positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return seconds


def size_of_split(text: str) -> tuple[str, int]:
    split, equals, size = text.rpartition("=")
    if not (split and equals and size.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not SPLIT=SAMPLES, such as test=1000")
    return split, int(size)


def add_reader(readers: Any, name: str, read: Callable[..., Any]) -> argparse.ArgumentParser:
    """The sub-command of a reader, by the signature of its function.

    A Path is a file or folder that exists, a Literal a choice, a bool a flag (off by default), anything else a value of
    its type; what has a default may be left out. A function of one Path takes it by position, any other by option.
    `Annotated[float, "share of the samples"]` holds the help; that of the command is the module's first paragraph.
    """
    about = " ".join((inspect.getdoc(inspect.getmodule(read)) or "").split("\n\n")[0].split())
    parser: argparse.ArgumentParser = readers.add_parser(name, help=about, description=about)
    hints = get_type_hints(read, include_extras=True)
    parameters = inspect.signature(read).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    for parameter in parameters:
        options = _of_type(hints[parameter.name])
        if [parameter.name] == needed:
            parser.add_argument(parameter.name, **options)
        elif parameter.name in needed:
            parser.add_argument(_option(parameter.name), required=True, **options)
        else:
            parser.add_argument(_option(parameter.name), default=parameter.default, **options)
    return parser


def media_root(read: Callable[..., Any], given: Mapping[str, Any]) -> Path:
    """The folder that paths of samples are relative to: the last Path of a reader's signature that was given."""
    values = [given[name] for name in inspect.signature(read).parameters]
    last: Path = [path for path in values if isinstance(path, Path)][-1]
    return last if last.is_dir() else last.parent


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _of_type(hint: Any) -> dict[str, Any]:
    """What argparse has to know of a parameter's type."""
    if get_origin(hint) is Annotated:
        of, *notes = get_args(hint)
        return _of_type(of) | {"help": next((note for note in notes if isinstance(note, str)), None)}
    if get_origin(hint) in (Union, UnionType):  # with None, for what may be left out
        (hint,) = (part for part in get_args(hint) if part is not type(None))
        return _of_type(hint)
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if hint is bool:
        return {"action": "store_true"}
    return {"type": existing if hint is Path else hint}


def decoder(name: str) -> str:
    """One that this machine has."""
    known = get_args(Cluster.model_fields["decoder"].annotation)
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
    if reason := unusable(name):
        raise argparse.ArgumentTypeError(f"{name}, {reason}")
    return name
