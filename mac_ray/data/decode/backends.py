"""The decoders that this machine has, behind one signature.

PyAV opens every video and says what its frames are; decord and torchcodec turn numbers of frames into pixels. A
file that they do not suit, or do not get through, is decoded by PyAV. So which one is asked for changes how long it
takes, and nothing else: not which frames come, nor which error.
"""

from __future__ import annotations

import errno
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from types import ModuleType
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mac_ray.data.decode import decord, pyav, torchcodec
from mac_ray.data.decode.error import AwayError, DecodeError, UnreadableError
from mac_ray.data.decode.pictures import decode_image, decode_pictures
from mac_ray.data.decode.timeline import Select
from mac_ray.data.decode.video import Media, opened
from mac_ray.data.source import Source

Frames = NDArray[np.uint8]
READ_AT_ONCE = 2**24  # bytes

DECORD_INSTALLED = importlib.util.find_spec("decord") is not None  # wheels for x86-64 Linux only
INSTALLING = {
    "decord": "it has wheels for x86-64 Linux only (pip install decord)",
    "torchcodec": "it is an extra (pip install 'mac-ray[torchcodec]')",
}


@dataclass(frozen=True)
class Decoded:
    frames: Frames  # (F, H, W, 3), upright RGB
    decoder: str  # that decoded them, which is PyAV where another was asked for and did not suit
    shortened: str | None  # in words, what the file promises and does not give; None: nothing


# What storage answers while it is away, of object stores by their text. Others will not change by waiting.
HEALING = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
REFUSED = re.compile(
    "access.?denied|access.key|signature|no.such|forbidden|credentials|cannot open", re.IGNORECASE
)


def decode(
    source: Source, kind: str, select: Select, decoder: str, read: Callable[[], None] | None = None
) -> Decoded:
    """The frames selected, decoded in this process. Raises DecodeError.

    `read` is called once storage has given what is decoded: all of it, or of a whole file on disk its beginning.
    """
    media = _media(source)
    if read is not None:
        read()
    try:
        return _decoded(source, media, kind, select, decoder)
    except DecodeError as error:
        if not (isinstance(media, Path) and isinstance(error.__cause__, OSError)):
            raise
    # what fails in the midst of a file may be its storage, which backends do not tell from broken contents
    _require_whole(source, media)
    return _decoded(source, media, kind, select, decoder)


def _decoded(source: Source, media: Media, kind: str, select: Select, decoder: str) -> Decoded:
    if kind == "frames":
        return Decoded(decode_pictures(source, media, select), "pillow", None)
    if kind == "image":
        return Decoded(decode_image(source, media, select), "pillow", None)
    return DECODERS[decoder](source, media, select)


def _require_whole(source: Source, path: Path) -> None:
    """Raises UnreadableError where it cannot be read to its end."""
    try:
        with path.open("rb") as file:
            while file.read(READ_AT_ONCE):
                pass
    except OSError as error:
        raise unreadable(source, error) from error


def _media(source: Source) -> Media:
    """What a backend opens: the path of a whole file on disk, else the bytes."""
    path = source.file
    if path is not None:
        try:
            with path.open("rb") as file:
                is_empty = not file.read(1)
        except OSError as error:
            raise unreadable(source, error) from error
        if is_empty:
            raise DecodeError(source, "the file is empty")
        return path
    try:
        content = source.read()
    except OSError as error:
        raise unreadable(source, error) from error
    if not content or len(content) < (source.length or 0):
        raise DecodeError(source, f"only {len(content)} bytes are there")
    return content


def unreadable(source: Source, error: OSError) -> UnreadableError:
    """What storage answered, and whether it may heal by itself."""
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return UnreadableError(source, "no such file")
    # a name may say "signature" or "forbidden" itself
    key = urlsplit(source.place).path.strip("/")
    said = str(error).replace(key, "").replace(PurePath(key).name, "")
    heals = error.errno in HEALING or (error.errno is None and not REFUSED.search(said))
    return (AwayError if heals else UnreadableError)(source, f"cannot be read ({error.strerror or error})")


def unusable(decoder: str) -> str | None:
    """Why this machine cannot decode with it, and what to do about it, in words; None: it can."""
    if decoder not in DECODERS:
        return f"which is not installed on this machine; {INSTALLING[decoder]}"
    if decoder == "torchcodec" and not torchcodec.finds_ffmpeg():
        return "which finds no FFmpeg libraries on this machine; install them (apt-get install ffmpeg)"
    return None


def _with_pyav(source: Source, media: Media, select: Select) -> Decoded:
    with opened(source, media) as video:
        frames, shortened = pyav.decode(video, select)
        return Decoded(frames, "pyav", shortened)


def _with(name: str, backend: ModuleType, source: Source, media: Media, select: Select) -> Decoded:
    with opened(source, media) as video:
        # how 10 bits become 8 differs between versions of FFmpeg
        if video.bits <= 8 and backend.suits(video):
            times, duration = video.timeline()
            pixels = backend.decode(media, video, select(times, duration), times)
            if pixels is not None:
                return Decoded(pixels, name, video.missing)
        frames, shortened = pyav.decode(video, select)
        return Decoded(frames, "pyav", shortened)


# those that this machine has
DECODERS: dict[str, Callable[[Source, Media, Select], Decoded]] = {"pyav": _with_pyav}
if DECORD_INSTALLED:
    DECODERS["decord"] = partial(_with, "decord", decord)
if importlib.util.find_spec("torchcodec") is not None:
    DECODERS["torchcodec"] = partial(_with, "torchcodec", torchcodec)
