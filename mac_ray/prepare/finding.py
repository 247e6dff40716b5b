"""What the bytes of one sample show: their hash, what the file says of itself, and whether its frames decode.

What a file says of itself is read by FFmpeg and Pillow whatever decodes the frames, so that reports compare.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import av
import pyarrow as pa
from PIL import Image

from mac_ray.data.decode import DecodeError, UnreadableError, probe
from mac_ray.data.source import Source
from mac_ray.data.tar import contents_of

VERSION = 2  # of what is found; a higher one makes what was found before count no more
HASH_BYTES = 16
CONTAINERS = {"mov": "mp4/mov", "matroska": "mkv/webm"}  # FFmpeg does not tell the members of a family apart


@dataclass(frozen=True)
class Asked:
    """A sample to look at, and the state of its file by then."""

    path: str  # as the manifest has it
    source: Source
    kind: str
    start: float | None  # seconds
    end: float | None
    num_bytes: int
    modified_ns: int

    def key(self, decoder: str) -> int:
        """The same only for what would give the same finding."""
        part = (self.path, self.source.offset, self.source.length, self.kind, self.start, self.end)
        content = json.dumps([VERSION, decoder, *part, self.num_bytes, self.modified_ns])
        digest = hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True)
class Finding:
    """A reason says why the sample is not usable; what could be read of it is there all the same."""

    key: int
    path: str
    reason: str | None = None
    # by the time-out; 0: it ended the process that looked at it, or could not be read, so that it is tried again
    stopped_after_s: float | None = None
    digest: str | None = None
    container: str | None = None
    codec: str | None = None
    pixel_format: str | None = None
    rate: float | None = None  # frames per second, in the mean
    width: int | None = None  # pixels, upright
    height: int | None = None
    num_frames: int | None = None  # within the window
    duration: float | None = None  # seconds of the whole file; 0 for pictures
    shortened: str | None = None  # what the file promises and does not give


SCHEMA = pa.schema(
    [
        ("key", pa.int64()),
        ("path", pa.string()),
        ("reason", pa.string()),
        ("stopped_after_s", pa.float64()),
        ("digest", pa.string()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("pixel_format", pa.string()),
        ("rate", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("num_frames", pa.int64()),
        ("duration", pa.float64()),
        ("shortened", pa.string()),
    ]
)


def look_at(asked: Asked, decoder: str, read: Callable[[], None] | None = None) -> Finding:
    """Read all bytes of a sample, and decode its first, middle and last frame. `read` is called once all are read."""
    finding = Finding(asked.key(decoder), asked.path)
    try:
        # a part of a file, or what is behind a URL, is read once for both
        is_whole = asked.source.file is not None and asked.kind != "frames"
        content = None if is_whole else asked.source.read()
        finding = replace(finding, digest=_digest(asked, content))
        if read is not None:
            read()
        finding = replace(finding, **_told(asked, content))
    except OSError as error:
        return replace(finding, reason=f"cannot be read ({error.strerror or error})", stopped_after_s=0.0)
    try:
        found = probe(asked.source, asked.kind, decoder, asked.start, asked.end)
    except UnreadableError as error:
        return replace(finding, reason=error.reason, stopped_after_s=0.0)
    except DecodeError as error:
        return replace(finding, reason=error.reason)
    return replace(
        finding,
        width=found.width,
        height=found.height,
        num_frames=found.num_frames,
        duration=found.duration_s,
        shortened=found.shortened,
    )


def _digest(asked: Asked, content: bytes | None) -> str:
    """Of what is shown, so that copies are found under any name: of frames in a tar without their headers."""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    if content is None:
        assert asked.source.file is not None
        with asked.source.file.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    elif asked.kind == "frames" and (pictures := _members(content)):
        for _, picture in pictures:
            digest.update(picture)
    else:
        digest.update(content)
    return digest.hexdigest()


def _members(run: bytes) -> list[tuple[str, memoryview]]:
    """Of a run of frames; none where it is broken."""
    with suppress(OSError, ValueError):
        return contents_of(run)
    return []


def _told(asked: Asked, content: bytes | None) -> dict[str, Any]:
    """What a file says of itself, as fields of a finding. Where it is broken nothing: the decoder says why."""
    if asked.kind == "image":
        return _of_picture(asked.source.file if content is None else io.BytesIO(content))
    if asked.kind == "frames":
        pictures = _members(content or b"")
        return _of_picture(io.BytesIO(pictures[0][1])) | {"container": "tar"} if pictures else {}
    with (
        suppress(av.error.FFmpegError),
        av.open(
            str(asked.source.file) if content is None else io.BytesIO(content), metadata_errors="ignore"
        ) as container,
    ):
        family = container.format.name.split(",")[0]
        told: dict[str, Any] = {"container": CONTAINERS.get(family, family)}
        stream = container.streams.best("video")
        if stream is not None and stream.codec_context is not None:
            context = stream.codec_context
            told |= {"codec": context.codec.canonical_name, "pixel_format": context.pix_fmt}
            told["rate"] = float(stream.average_rate) if stream.average_rate else None
        return told
    return {}


def _of_picture(content: Any) -> dict[str, Any]:
    with (
        suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError),
        Image.open(content) as image,
    ):
        name = (image.format or "").lower() or None
        return {"container": name, "codec": name, "pixel_format": image.mode}
    return {}
