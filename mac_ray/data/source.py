"""Where the bytes of a sample are: a file or a part of one, such as a member of a tar, on disk or behind a URL.

Whole files on disk are opened by their path, so that a decoder reads of them what it needs; of anything else the
bytes are fetched first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pyarrow import fs

SizeOf = Callable[[str], int | None]
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


class State(NamedTuple):
    """By which a file that was changed is known."""

    num_bytes: int
    modified_ns: int  # since 1970; 0 where the place does not say


@dataclass(frozen=True)
class Source:
    """`place` is an absolute path or a URL; without `offset` and `length` all of it is meant."""

    place: str
    offset: int | None = None  # bytes
    length: int | None = None

    @classmethod
    def of(cls, path: str | Path) -> Source:
        """A whole file."""
        return cls(absolute_place(str(path)))

    @property
    def file(self) -> Path | None:
        """The path of a whole file on disk; None for anything else."""
        return None if is_url(self.place) or self.offset is not None else Path(self.place)

    def size(self, size_of_file: SizeOf | None = None) -> int | None:
        """Number of bytes; None where there is no such file, or it ends before this part of it does.

        `size_of_file` may remember the size of a file that many samples are parts of.
        """
        whole = (size_of_file or size_of)(self.place)
        if whole is None or self.offset is None or self.length is None:
            return whole
        return self.length if self.offset + self.length <= whole else None

    def read(self) -> bytes:
        """All bytes; fewer where the file ends before. Raises OSError."""
        if not is_url(self.place):
            with Path(self.place).open("rb") as file:
                file.seek(self.offset or 0)
                return file.read(-1 if self.length is None else self.length)
        system, path = file_system(self.place)
        with system.open_input_file(path) as remote:
            remote.seek(self.offset or 0)
            content: bytes = remote.read(self.length)
            return content

    def __str__(self) -> str:
        if self.offset is None:
            return self.place
        return f"{self.place} (bytes {self.offset} to {self.offset + (self.length or 0)})"


def is_url(place: str) -> bool:
    return URL.match(place) is not None


def absolute_place(place: str) -> str:
    """A URL as it is; a path absolute, taken from the working folder."""
    return place if is_url(place) else str(Path(place).expanduser().absolute())


def joined(root: str, path: str) -> str:
    """`path` below `root`, either of which may be a URL; a path that is absolute stays so."""
    if is_url(path):
        return path
    if not is_url(root):
        return os.path.join(root, path)  # noqa: PTH118 - asked for every sample, and 20 times as fast
    base, question, options = root.partition("?")
    return f"{base.rstrip('/')}/{path}{question}{options}"


def size_of(place: str) -> int | None:
    """Bytes of a file; None where there is none. Raises OSError where nobody can tell."""
    state = state_of(place)
    return None if state is None else state.num_bytes


def state_of(place: str) -> State | None:
    """None where there is no such file. Raises OSError where nobody can tell."""
    if not is_url(place):
        path = Path(place)
        if not path.is_file():
            return None
        status = path.stat()
        return State(status.st_size, status.st_mtime_ns)
    system, path_there = file_system(place)
    info = system.get_file_info(path_there)
    return State(int(info.size), info.mtime_ns or 0) if info.type == fs.FileType.File else None


def file_system(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL, opened once per process and host, and the path in it.

    Options go into the URL, as pyarrow takes them: s3://bucket/shards?endpoint_override=host:9000&scheme=http.
    Raises OSError for a URL that pyarrow does not know.
    """
    try:
        base, question, options = url.partition("?")
        scheme, _, rest = base.partition("://")
        host, slash, path = rest.partition("/")
        system, root = _opened(f"{scheme}://{host}{question}{options}")
    except ValueError as error:  # of pyarrow's, for a scheme or an option that it does not have
        raise OSError(f"cannot open {url}: {error}") from error
    return system, f"{root.rstrip('/')}{slash}{path}"


@lru_cache
def _opened(url: str) -> tuple[fs.FileSystem, str]:
    system, path = fs.FileSystem.from_uri(url)
    return system, path
