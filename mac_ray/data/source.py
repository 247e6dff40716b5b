"""Where the bytes of a sample are: a file or a part of one, such as a member of a tar, on disk or behind a URL.

Whole files on disk are opened by their path, so that a decoder reads of them what it needs; of anything else the
bytes are fetched first. Shards behind a URL that pyarrow knows stay open in the process, because opening one asks for
its size, which would double the number of requests.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

import fsspec
import fsspec.core
import pyarrow as pa
from pyarrow import fs

from mac_ray.files import replaced
from mac_ray.passwords import without_passwords

SizeOf = Callable[[str], int | None]
PYARROW_SCHEMES = ("file", "mock", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
WEB_SCHEMES = ("http", "https")
# what a web server answers that may answer otherwise later, beside errors of its own
HEALING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
SLOWEST_READ = 20e6  # bytes a second, where several read at once: what a large file is given time by
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
        if isinstance(system, fs.PyFileSystem):
            return self._read_by_fsspec(system.handler.fs, path)
        content: bytes
        if self.offset is None:
            with system.open_input_file(path) as remote:
                content = remote.read()
        else:
            content = _kept_open(self.place).read_at(self.length, self.offset)
        return content

    def _read_by_fsspec(self, system: fsspec.AbstractFileSystem, path: str) -> bytes:
        """In one request, which opening such a file would make three of. Raises OSError."""
        start, length = self.offset or 0, self.length
        try:
            content: bytes = system.cat_file(path, self.offset, None if length is None else start + length)
        except OSError:
            raise
        except Exception as error:  # each kind has errors of its own, of what it was answered
            if _answer(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b""  # it ends before
            raise _as_os_error(error) from error
        if length is not None and len(content) > length:  # a web server may not know of parts
            content = content[start : start + length]
        return content

    def __str__(self) -> str:
        """As people read it."""
        place = without_passwords(self.place) if is_url(self.place) else self.place
        if self.offset is None:
            return place
        return f"{place} (bytes {self.offset} to {self.offset + (self.length or 0)})"


def is_url(place: str) -> bool:
    return URL.match(place) is not None


def base_of(place: str) -> str:
    """Without what follows the ? of a URL; a path may have a ? too."""
    return place.partition("?")[0] if is_url(place) else place


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
    mark = "&" if question and "?" in path else question
    return f"{base.rstrip('/')}/{path}{mark}{options}"


def size_of(place: str) -> int | None:
    """Bytes of a file; None where there is none. Raises OSError where nobody can tell."""
    state = state_of(place)
    return None if state is None else state.num_bytes


def state_of(place: str) -> State | None:
    """None where there is no such file. Raises OSError where nobody can tell."""
    if not is_url(place):
        try:
            status = Path(place).stat()
        except ValueError:  # of a name that none can have
            return None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return State(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
    system, path_there = file_system(place)
    if isinstance(system, fs.PyFileSystem):
        return _state_by_fsspec(system.handler.fs, path_there)
    info = system.get_file_info(path_there)
    return State(int(info.size), info.mtime_ns or 0) if info.type == fs.FileType.File else None


def _state_by_fsspec(system: fsspec.AbstractFileSystem, path: str) -> State | None:
    """Raises OSError also for a web server that is away, of whose files fsspec says that there are none."""
    try:
        info = system.info(path)
    except FileNotFoundError as error:
        found = error.__cause__
        if not isinstance(found, Exception) or _answer(found) in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return None
        raise _as_os_error(found) from error
    except OSError:
        raise
    except Exception as error:
        raise _as_os_error(error) from error
    if info["type"] != "file":
        return None
    if info["size"] is None:
        raise OSError(errno.EACCES, f"{path} does not say how large it is")
    modified = info.get("mtime") or 0.0
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    return State(int(info["size"]), int(seconds * 1e9))


def _answer(error: Exception) -> int | None:
    """The status that a web server answered with."""
    status: int | None = getattr(error, "status", None)
    return status


def _as_os_error(error: Exception) -> OSError:
    """What fsspec raised, by whether it may heal by itself: then it has no number."""
    answer, said = _answer(error), f"{type(error).__name__}: {error}"
    heals = answer is None or answer in HEALING or answer >= HTTPStatus.INTERNAL_SERVER_ERROR
    return OSError(said) if heals else OSError(errno.EACCES, said)


def file_system(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL, opened once per process and host, and the path in it.

    Options go into the URL, as pyarrow takes them: s3://bucket/shards?endpoint_override=host:9000&scheme=http.
    What pyarrow does not know is opened by fsspec, whose options go there too; but what follows the ? of a web server's
    URL is for that. Raises OSError for a URL that neither knows.
    """
    try:
        base, question, options = url.partition("?")
        scheme, _, rest = base.partition("://")
        host, slash, path = rest.partition("/")
        asked = f"{question}{options}"
        if scheme.lower() in WEB_SCHEMES:
            path, asked = f"{path}{asked}", ""
        system, root = _opened(f"{scheme}://{host}{asked}")
    # a scheme or an option that there is not, or no package for it
    except (ValueError, ImportError) as error:
        raise OSError(f"cannot open {url}: {error}") from error
    return system, f"{root.rstrip('/')}{slash}{path}"


def local_copy(place: str, folder: Path) -> Path:
    """The path of a file, after fetching what is behind a URL into `folder`; again only when it has changed.

    Raises OSError.
    """
    if not is_url(place):
        return Path(place)
    system, path = file_system(place)
    info = system.get_file_info(path)
    if info.type != fs.FileType.File:
        raise FileNotFoundError(f"there is no file {place}")
    version = hashlib.sha256(f"{place} {info.size} {info.mtime_ns}".encode()).hexdigest()[:16]
    copy = folder / f"{version}-{Path(path).name}"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (
            replaced(copy) as temporary,
            system.open_input_stream(path) as remote,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(remote, file)
    return copy


@lru_cache
def _opened(url: str) -> tuple[fs.FileSystem, str]:
    try:
        system, path = fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid as unknown:
        base, _, options = url.partition("?")
        if base.partition("://")[0] in PYARROW_SCHEMES:
            raise
        try:
            files, path = fsspec.core.url_to_fs(base, **dict(parse_qsl(options)))
        except TypeError as error:  # an option that this kind of file system does not have
            raise ValueError(str(error)) from unknown
        system = fs.PyFileSystem(fs.FSSpecHandler(files))
    return system, path


@lru_cache(maxsize=1024)
def _kept_open(url: str) -> pa.NativeFile:
    system, path = file_system(url)
    return system.open_input_file(path)
