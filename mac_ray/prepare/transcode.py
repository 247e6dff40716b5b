"""One sample to the members of its shard: JPEG pictures, or a short H.264 file that can be entered anywhere.

Videos are decoded some frames at a time, so that an hour of one takes no more memory than a minute. Nothing is made
larger than it was. JPEG is 4:2:0, as the videos were, at the quality asked for. H.264 has a key frame every 12 frames
and no B-frames, so that a frame in the middle costs few others.

F frames at a time, H height, W width.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from typing import Literal

import av
import numpy as np
from PIL import Image

from mac_ray.data.decode import DecodeError, Frames, Times, Window, frames_of_windows
from mac_ray.data.manifest import Sample
from mac_ray.data.pool import midpoints
from mac_ray.data.sizes import resized
from mac_ray.data.source import SLOWEST_READ, Source

AT_ONCE = 32  # frames decoded and not yet written; 32 of 1080p are 200 MB
# for a part, beside reading its file; what takes longer hangs, and is one more sample that does not decode
TIMEOUT_S = 120.0
KEYFRAME_EVERY = 12
LARGEST_DENOMINATOR = 100_000  # of a rate; that of television is 1001, that of a frame an hour 3600
CRF = 20  # x264's constant quality; its own default of 23 shows on small pictures


@dataclass(frozen=True)
class Options:
    """What decides the bytes of a shard, beside the manifest and the media."""

    form: Literal["jpeg", "h264"]
    frames: int | None  # of a sample, evenly spaced; None: all, or as many as `rate` says
    rate: float | None  # frames per second
    short_side: int | None  # pixels, at most; None: as it is
    quality: int  # of JPEG
    decoder: str


@dataclass(frozen=True)
class Transcoded:
    """The members of a sample: ending and content, pictures first."""

    members: list[tuple[str, bytes]]
    kind: str  # in the new manifest
    num_frames: int
    width: int
    height: int
    shortened: str | None = None  # what the file promises and does not give


@dataclass(frozen=True)
class Part:
    """Some frames of a sample (F, H, W, 3), of `num_frames` in all that last `seconds`."""

    frames: Frames
    num_frames: int
    seconds: float  # 0 for pictures
    shortened: str | None  # what the file promises and does not give


class UnstorableError(Exception):
    """Pixels that the form does not take."""


class _FewerFramesError(Exception):
    """A file has fewer frames than it promised when its first part was decoded."""

    def __init__(self, num_frames: int) -> None:
        super().__init__(num_frames)
        self.num_frames = num_frames


def transcode(sample: Sample, options: Options) -> Transcoded:
    """Raises DecodeError, also for what decodes and cannot be encoded."""
    # pictures of a shard have no times that a video could keep
    form = options.form if sample.kind == "video" else "jpeg"
    encode = _picture if sample.kind == "image" else FORMS[form]
    at_most = None
    while True:
        try:
            found: list[str] = []
            made = encode(_noting(parts(sample, options, at_most), found), options)
            return replace(made, shortened=found[0] if found else None)
        except _FewerFramesError as error:
            at_most = error.num_frames
        # FFmpeg's are the encoder's: decoders have theirs in other processes
        except (UnstorableError, av.error.FFmpegError) as error:
            raise DecodeError(sample.source, f"cannot be stored as {form} ({error})") from error


def _noting(found: Iterator[Part], shortened: list[str]) -> Iterator[Part]:
    """The same parts, while what they lack is noted."""
    for part in found:
        if part.shortened:
            shortened.append(part.shortened)
        yield part


def parts(sample: Sample, options: Options, at_most: int | None = None) -> Iterator[Part]:
    """The frames wanted of a sample, in order, AT_ONCE at a time and in their final size.

    `at_most`: how many there are before a break that is known. Raises DecodeError, and _FewerFramesError after some
    parts.
    """
    seconds, available, num_frames, over_the_break = 0.0, 0, 0, False
    size: tuple[int, int] | None = None  # of the first part; streams may change theirs midway

    def plan(times: Times, duration: float) -> list[Window]:
        nonlocal seconds
        end = duration if sample.end is None else min(sample.end, duration)
        seconds = max(0.0, end - (sample.start or 0.0))
        return [(sample.start, sample.end)]

    patience = _patience(sample.source)
    for first in count(0, AT_ONCE):

        def choose(length: int, first: int = first) -> Sequence[int]:
            nonlocal available, num_frames, over_the_break
            over_the_break = False
            if at_most is not None and length > at_most:
                over_the_break = True
                # asked for what does not decode, the decoder asks again, in the times of what does
                return range(at_most, min(length, at_most + AT_ONCE))
            if first and length < available:
                raise _FewerFramesError(length)
            available = length
            num_frames = _wanted(available, seconds, options)
            return [int(i) for i in midpoints(available, num_frames)[first : first + AT_ONCE]]

        told: list[str] = []
        frames = frames_of_windows(
            sample.source, sample.kind, plan, choose, options.decoder, patience, told.append
        )
        if over_the_break:
            raise DecodeError(sample.source, f"its frame {at_most} decodes at times, and at times does not")
        size = size or _size(frames, options.short_side)
        yield Part(resized(frames, size), num_frames, seconds, told[0] if told else None)
        if first + AT_ONCE >= num_frames:
            return


def _patience(source: Source) -> float:
    """Seconds for a part: all packets of its file are read for the times of its frames."""
    try:
        num_bytes = source.size() or 0
    except OSError:  # whoever decodes it says why
        num_bytes = 0
    return TIMEOUT_S + num_bytes / SLOWEST_READ


def _wanted(available: int, seconds: float, options: Options) -> int:
    if options.frames is not None:
        return min(available, options.frames)
    if options.rate is not None and seconds:
        return min(available, max(1, round(seconds * options.rate)))
    return available


def _size(frames: Frames, short_side: int | None) -> tuple[int, int]:
    """(H, W) to store: no more than there is."""
    height, width = frames.shape[1:3]
    scale = min(1.0, short_side / min(height, width)) if short_side else 1.0
    return max(1, round(height * scale)), max(1, round(width * scale))


# ---------------------------------------------------------------- forms, all of one signature


def _jpegs(found: Iterator[Part], options: Options) -> Transcoded:
    members: list[tuple[str, bytes]] = []
    height = width = 0
    for part in found:
        height, width = part.frames.shape[1:3]
        digits = max(3, len(str(part.num_frames - 1)))
        members += (
            (f"{number:0{digits}}.jpg", jpeg(pixels, options.quality))
            for number, pixels in enumerate(part.frames, len(members))
        )
    return Transcoded(members, "frames", len(members), width, height)


def _picture(found: Iterator[Part], options: Options) -> Transcoded:
    (part,) = found
    height, width = part.frames.shape[1:3]
    return Transcoded([("jpg", jpeg(part.frames[0], options.quality))], "image", 1, width, height)


def _h264(found: Iterator[Part], options: Options) -> Transcoded:
    """The frames at the rate at which they fill the time of the window."""
    buffer = io.BytesIO()
    num_frames = height = width = 0
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = None
        for part in found:
            # 4:2:0 stores colour for squares of 2 × 2
            height, width = (side // 2 * 2 or 2 for side in part.frames.shape[1:3])
            if stream is None:
                rate = Fraction(part.num_frames / part.seconds if part.seconds else 1.0)
                # one thread: what x264 makes depends on their number. Without the macroblock tree, with which one
                # call in twenty gave other bytes for the same frames.
                stream = container.add_stream(
                    "libx264",
                    rate=rate.limit_denominator(LARGEST_DENOMINATOR),
                    options={
                        "preset": "veryfast",
                        "crf": str(CRF),
                        "g": str(KEYFRAME_EVERY),
                        "bf": "0",
                        "threads": "1",
                        "x264-params": "mbtree=0",
                        "flags": "+bitexact",
                    },
                )
                stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for pixels in resized(part.frames, (height, width)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                container.mux(stream.encode(frame))
            num_frames += len(part.frames)
        assert stream is not None, "there is always a first part"
        container.mux(stream.encode(None))
    return Transcoded([("mp4", buffer.getvalue())], "video", num_frames, width, height)


FORMS: dict[str, Callable[[Iterator[Part], Options], Transcoded]] = {"jpeg": _jpegs, "h264": _h264}


def jpeg(pixels: Frames, quality: int) -> bytes:
    """One picture (H, W, 3) as a file. Raises UnstorableError."""
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    except (OSError, ValueError) as error:  # what Pillow makes of a side of more than 65,500 pixels
        height, width = pixels.shape[:2]
        raise UnstorableError(f"{width} x {height} pixels: {error}") from error
    return buffer.getvalue()
