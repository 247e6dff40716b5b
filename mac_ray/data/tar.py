"""Tar files as shards are made of them: where the members lie, without reading them, and how they are written.

A tar has no table of contents: each header says how far the next one is. So they are walked, in ranged reads of a
few kilobytes that skip what lies between; of a shard behind a URL a read that covers several headers costs no more
than one that covers one.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from mac_ray.data.source import Source, is_url, size_of

BLOCK = tarfile.BLOCKSIZE
PLAIN = (b"0", b"\0")  # the type of a regular file
END = bytes(2 * BLOCK)  # what a whole tar ends with
AHEAD = {False: 4096, True: 65536}  # bytes read at once, by whether it is behind a URL
PADDING_AT_MOST = 1 << 16  # bytes of zeros behind the last member: tar fills up 10,240, or a multiple
HEADER_AT_MOST = (
    1 << 20
)  # of the names and attributes of one member; more is no tar that anybody wrote in earnest
CONTENT_AT_MOST = 16 << 20
Ask = Callable[[Source, Callable[[], Any]], Any]
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def at_once(source: Source, ask: Callable[[], Any]) -> Any:
    """What storage answers about a source, whatever that is."""
    return ask()


class TarError(ValueError):
    """A tar that cannot be used, in one sentence."""


class CutShortError(TarError):
    """A tar that ends before it should. The members before that are whole."""


@dataclass(frozen=True)
class Member:
    """A regular file in a tar. `content` is there if it was asked for."""

    name: str
    start: int  # bytes; where its header begins, so that all from here to `end` is a tar of its own
    offset: int  # of its content
    length: int
    content: bytes | None = None

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.offset + padded(self.length)


def members(place: str, contents: Sequence[str] = (), ask: Ask = at_once) -> Iterator[Member]:
    """The regular files in a tar on disk or behind a URL, in order; read are those whose name ends in `contents`.

    `ask` may ask storage again where it is away.

    Raises TarError for what is no plain tar or has names that lead out of it, CutShortError after the last whole
    member, and OSError.
    """
    size: int | None = ask(Source(place), partial(size_of, place))
    if size is None:
        raise TarError(f"there is no file {place}")
    headers = _Headers(place, ask)
    packed = next((name for magic, name in COMPRESSED.items() if headers.at(0, 8).startswith(magic)), None)
    if packed:
        raise TarError(
            f"{place} is compressed with {packed}, so nothing in it can be read by itself; unpack it to a plain .tar"
        )
    end = 0
    try:
        with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]  # reads, seeks, tells
            while (found := tar.next()) is not None:
                if found.size < 0 or found.issparse():
                    what = "is sparse" if found.issparse() else f"has a size of {found.size} bytes"
                    raise TarError(
                        f"{place} holds a member that {what}, {found.name!r}; write it again with GNU tar"
                    )
                member = _member(place, found)
                if tar.offset > size:
                    raise _cut_short(place, size, end)
                end = tar.offset
                if member is not None:
                    yield _with_content(member, headers) if member.name.endswith(tuple(contents)) else member
    except tarfile.TarError as error:
        if end:
            raise _cut_short(place, size, end) from error
        raise TarError(f"{place} is no tar ({error})") from error
    # tarfile takes whatever is no header for the end
    if headers.at(end, BLOCK) != bytes(BLOCK):
        raise _cut_short(place, size, end)
    if headers.at(end, min(size - end, PADDING_AT_MOST)).strip(b"\0"):
        raise CutShortError(
            f"{place} goes on after its end at byte {end}, as tars do that were joined by `cat`; what follows is not "
            "read, so split it, or unpack it and write one tar"
        )


def contents_of(run: bytes) -> list[tuple[str, memoryview]]:
    """Name and content of the members of a run of them that is in memory, such as the pictures of a clip.

    Plain headers are read here, because tarfile takes longer for one than a small picture does to decode. Raises
    TarError.
    """
    found = []
    content, position = memoryview(run), 0
    while position < len(run):
        block = run[position : position + BLOCK]
        # a name of its own, neither split in two nor in a header before this one
        if block[257:262] != b"ustar" or block[156:157] not in PLAIN or block[345:346] != b"\0":
            return _by_tarfile(run)
        length = int(block[124:136].rstrip(b" \0") or b"0", 8)
        position += BLOCK
        if position + length > len(run):
            raise TarError("its last member is cut short")
        found.append((block[:100].rstrip(b"\0").decode(), content[position : position + length]))
        position += padded(length)
    return found


def append(file: BinaryIO, name: str, content: bytes) -> Member:
    """Write a member at the end of a file; the same bytes for everybody and always. A tar is whole once END follows."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    start = file.tell()
    header = info.tobuf(tarfile.PAX_FORMAT)
    file.write(header + content + bytes(padded(len(content)) - len(content)))
    return Member(name, start, start + len(header), len(content))


def padded(length: int) -> int:
    """Bytes that content of a length takes."""
    return -(-length // BLOCK) * BLOCK


def _by_tarfile(run: bytes) -> list[tuple[str, memoryview]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(run)) as tar:
            found = [member for member in tar if member.isreg()]
    except tarfile.TarError as error:
        raise TarError(str(error)) from error
    return [(member.name, memoryview(run)[member.offset_data :][: member.size]) for member in found]


def _member(place: str, found: tarfile.TarInfo) -> Member | None:
    """None for folders, links and devices, which are no media; refuses names that lead out of the tar."""
    path = PurePosixPath(found.name)
    if path.is_absolute() or ".." in path.parts or "\\" in found.name or "\0" in found.name:
        raise TarError(
            f"{place} holds a member named {found.name!r}, which leads out of it; no set has such names, so nothing of "
            "this file is used"
        )
    if not found.isreg():
        return None
    return Member(str(path), found.offset, found.offset_data, found.size)


def _with_content(member: Member, headers: _Headers) -> Member:
    if member.length > CONTENT_AT_MOST:
        return member
    content = headers.at(member.offset, member.length)
    return Member(member.name, member.start, member.offset, member.length, content)


def _cut_short(place: str, size: int, end: int) -> CutShortError:
    return CutShortError(
        f"{place} is cut short or damaged: of its {size} bytes, those after {end} are no whole member and no end"
    )


class _Headers:
    """As much of a file as tarfile uses, through a window that is moved along it."""

    def __init__(self, place: str, ask: Ask) -> None:
        self._place = place
        self._ask = ask
        self._ahead = AHEAD[is_url(place)]
        self._position = 0
        self._start, self._window = 0, b""

    def at(self, offset: int, length: int) -> bytes:
        """Less where the file ends."""
        first = offset - self._start
        if not 0 <= first <= first + length <= len(self._window):
            window = Source(self._place, offset, max(length, self._ahead))
            self._start, first = offset, 0
            self._window = self._ask(window, window.read)
        return self._window[first : first + length]

    def read(self, length: int) -> bytes:
        if not 0 <= length <= HEADER_AT_MOST:
            raise tarfile.ReadError(f"a header of {length} bytes")
        content = self.at(self._position, length)
        self._position += len(content)
        return content

    def seek(self, position: int) -> None:
        self._position = position

    def tell(self) -> int:
        return self._position
