"""Frames out of media files: decord, PyAV and Pillow behind one call and one error.

A reader is opened inside the call, with one thread, so that nothing of a decoder survives a fork. Frames are
numbered in presentation order. PyAV gives exactly the frames asked for: it reads the compressed packets of a
file once, numbers them by timestamp, and decodes from the keyframe before each frame that is wanted; where
timestamps cannot be trusted it decodes from the start. decord is exact on H.264, but on HEVC with B-frames it
was seen to give the frame after the one asked for, so it is there for comparison and never chosen by itself.

Truncated files: when a wanted frame does not decode, PyAV counts what does, up to the first broken packet,
and chooses again; decord believes the header and refuses.

Shapes: F frames asked for, H height, W width, N windows.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mac_ray.data.source import Source
from mac_ray.data.tar import contents_of

Choose = Callable[[int], Sequence[int]]
Window = tuple[float | None, float | None]  # seconds after the first frame; None: the file's own start or end
Times = NDArray[np.float64]  # when each frame of a file is shown, in seconds after the first
# which frames are wanted, given the times of all and how long the file lasts, in seconds
Select = Callable[[Times, float], Sequence[int]]
Frames = NDArray[np.uint8]
Media = Path | bytes  # a whole file on disk, or what was read of anything else

DECORD_INSTALLED = importlib.util.find_spec("decord") is not None  # wheels for x86-64 Linux only
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
PLAIN_JPEG = b"\xff\xd8\xff\xe0"  # JFIF; what a camera wrote starts otherwise, and may be turned
UNTIMED = ("avi",)  # containers that store no presentation time: what FFmpeg makes up is off by reordering
# codecs where leaving out unreferenced frames changes no other; dav1d, told to, gives frames the wrong time
SKIPPABLE = ("h264", "hevc")
TIME_TOLERANCE = 5e-4  # seconds; containers round timestamps to milliseconds


class DecodeError(Exception):
    """A sample that gives no frames, in one sentence: where it is, the backend and its reason."""

    def __init__(self, source: Source, reason: str) -> None:
        super().__init__(source, reason)  # both, so that it survives pickling between processes
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.source}: {self.reason}"


@dataclass(frozen=True)
class Probe:
    """What decoding the first, middle and last frame of a sample showed."""

    num_frames: int  # within the window
    duration_s: float  # of the whole file; 0 for pictures
    width: int  # pixels, upright
    height: int


def frames(
    source: Source,
    kind: str,
    choose: Choose,
    decoder: str,
    start: float | None = None,
    end: float | None = None,
) -> Frames:
    """The chosen frames of one sample, upright RGB, uint8 (F, H, W, 3).

    `choose` is given the number of frames from `start` to `end` (seconds after the first frame) and returns
    indices into them, non-decreasing, repeats allowed. It should depend on that number alone: it is asked a
    second time when fewer frames decode than the file promised. An image has one frame, and `decoder`, a name
    in DECODERS, counts for videos only.

    Raises DecodeError for whatever is wrong with the file.
    """
    return frames_of_windows(source, kind, lambda *_: [(start, end)], choose, decoder)


def frames_of_windows(
    source: Source, kind: str, plan: Callable[[Times, float], Sequence[Window]], choose: Choose, decoder: str
) -> Frames:
    """The frames chosen of each of several windows, in one pass over the file: (N·F, H, W, 3).

    `plan` is given the times of the file's frames and its duration, 0 for pictures, and returns the windows;
    like `choose` it is asked again, with fewer, when less decodes than the file promised.

    Raises DecodeError.
    """

    def select(times: Times, duration: float) -> list[int]:
        windows = [_window(source, times, start, end) for start, end in plan(times, duration)]
        return [window[index] for window in windows for index in choose(len(window))]

    return _decoded(source, kind, select, decoder)


def probe(
    source: Source, kind: str, decoder: str, start: float | None = None, end: float | None = None
) -> Probe:
    """Decode the first, middle and last frame of a sample. Raises DecodeError."""
    num_frames, duration_s = 0, 0.0

    def select(times: Times, duration: float) -> list[int]:
        nonlocal num_frames, duration_s
        window = _window(source, times, start, end)
        num_frames, duration_s = len(window), duration
        return [window[0], window[num_frames // 2], window[-1]]

    _, height, width, _ = _decoded(source, kind, select, decoder).shape
    return Probe(num_frames, duration_s, width, height)


def _decoded(source: Source, kind: str, select: Select, decoder: str) -> Frames:
    media = _media(source)
    if kind == "frames":
        return _pictures(source, media, select)
    if kind == "image":
        return _pillow(source, media, select)
    return DECODERS[decoder](source, media, select)


def _media(source: Source) -> Media:
    """What a backend opens: the path of a whole file on disk, else the bytes."""
    path = source.file
    if path is not None:
        if not path.is_file():
            raise DecodeError(source, "no such file")
        if path.stat().st_size == 0:
            raise DecodeError(source, "the file is empty")
        return path
    try:
        content = source.read()
    except OSError as error:
        raise DecodeError(source, f"cannot be read ({error.strerror or error})") from error
    if not content or len(content) < (source.length or 0):
        raise DecodeError(source, f"only {len(content)} bytes are there")
    return content


def _stream(media: Media) -> str | io.BytesIO:
    return io.BytesIO(media) if isinstance(media, bytes) else str(media)


# ---------------------------------------------------------------- backends, all of one signature


def _decord(source: Source, media: Media, select: Select) -> Frames:
    import decord

    errors = (decord.DECORDError, RuntimeError, IndexError)
    with _refusing(source, "decord", errors):
        reader = decord.VideoReader(_stream(media), ctx=decord.cpu(0), num_threads=1)
        stamps = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        rate = float(reader.get_avg_fps())
    indices = select(*_timeline(source, stamps, rate))
    with _refusing(source, "decord", errors):
        pixels: Frames = reader.get_batch(indices).asnumpy()
        return pixels


def _pyav(source: Source, media: Media, select: Select) -> Frames:
    """The compressed packets of the whole file are in memory while it is decoded."""
    errors = (av.error.FFmpegError, IndexError)
    with _refusing(source, "pyav", errors):
        # metadata is text that nobody reads here, often not in UTF-8
        container = av.open(_stream(media), metadata_errors="ignore")
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise DecodeError(source, "pyav: there is no video stream, or none of a known codec")
        context = stream.codec_context
        context.thread_count = 1
        unit, rate = float(stream.time_base), float(stream.average_rate or 0)
        with _refusing(source, "pyav", errors):
            packets = [packet for packet in container.demux(stream) if packet.size]
        # packets outside the file's edit list are decoded but never shown
        stamps = [packet.pts for packet in packets if not packet.is_discard]

        if container.format.name not in UNTIMED and None not in stamps and len(set(stamps)) == len(stamps):
            stamps.sort()
            wanted = [
                stamps[index]
                for index in select(*_timeline(source, np.array(stamps, np.float64) * unit, rate))
            ]
            with _refusing(source, "pyav", errors):
                found = _from_keyframes(context, packets, set(wanted))
                if found.keys() == set(wanted):
                    return _stacked(found, wanted)

        with _refusing(source, "pyav", errors):
            shown = [frame.pts for frame in _shown(context, packets)]
        wanted = list(select(*_timeline(source, np.array(shown, np.float64) * unit, rate)))
        with _refusing(source, "pyav", errors):
            numbered = enumerate(islice(_shown(context, packets), max(wanted) + 1))
            found = {index: frame for index, frame in numbered if index in wanted}
            return _stacked(found, wanted)


# those that this machine has
DECODERS: dict[str, Callable[[Source, Media, Select], Frames]] = {"pyav": _pyav}
if DECORD_INSTALLED:
    DECODERS["decord"] = _decord


def _pillow(source: Source, media: Media, select: Select) -> Frames:
    pixels = _picture(source, media)
    times = np.full(1, np.inf)  # its one frame is in every window
    return np.stack([pixels for _ in select(times, 0.0)])


def _pictures(source: Source, media: Media, select: Select) -> Frames:
    """Only the pictures that are chosen are decoded."""
    with _refusing(source, "tar", (OSError, ValueError)):
        run = contents_of(media if isinstance(media, bytes) else media.read_bytes())
    members = [content for name, content in run if name.endswith(PICTURES)]
    if not members:
        raise DecodeError(source, "tar: there is no picture in it")
    chosen = select(np.arange(len(members), dtype=np.float64), 0.0)
    pixels = {number: _frame(source, members[number]) for number in set(chosen)}
    if len({picture.shape for picture in pixels.values()}) > 1:
        raise DecodeError(source, "its pictures are not of one size")
    return np.stack([pixels[number] for number in chosen])


def _frame(source: Source, content: memoryview) -> Frames:
    """(H, W, 3). Plain JPEG is decoded by torchvision: the pixels are those of Pillow, in 0.6 of the time."""
    if content[:4] == PLAIN_JPEG:
        import torch  # takes seconds, which what decodes no frames should not wait for
        from torchvision.io import ImageReadMode, decode_jpeg

        with suppress(RuntimeError):  # Pillow says what is wrong with it
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            planes = decode_jpeg(data, mode=ImageReadMode.RGB)
            return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())
    return _picture(source, bytes(content))


def _picture(source: Source, media: Media) -> Frames:
    """(H, W, 3), upright."""
    errors = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    with (
        _refusing(source, "pillow", errors),
        Image.open(io.BytesIO(media) if isinstance(media, bytes) else media) as image,
    ):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


# ---------------------------------------------------------------- frames by number and by time


def _from_keyframes(context: Any, packets: Sequence[Any], wanted: set[int]) -> dict[int, Any]:
    """Wanted frames by timestamp, decoding from the last keyframe before each; those that fail are absent."""
    keyframes = [position for position, packet in enumerate(packets) if packet.is_keyframe]
    runs: dict[int, set[int]] = {}
    for stamp in wanted:
        before = (position for position in keyframes if (packets[position].pts or 0) <= stamp)
        runs.setdefault(max(before, default=0), set()).add(stamp)
    found = {}
    for first, stamps in runs.items():
        for frame in _shown(context, packets[first:], stamps):
            if frame.pts in stamps:
                found[frame.pts] = frame
            if stamps <= found.keys():
                break
    return found


def _shown(context: Any, packets: Sequence[Any], wanted: set[int] | None = None) -> Iterator[Any]:
    """Frames in presentation order, up to the first packet that does not decode.

    With `wanted` timestamps, frames that no other frame refers to are skipped unless they are wanted.
    """
    context.flush_buffers()
    for packet in packets:
        if context.name in SKIPPABLE:
            skipped = wanted is not None and packet.pts not in wanted
            context.skip_frame = "NONREF" if skipped else "DEFAULT"
        try:
            decoded = context.decode(packet)
        except av.error.InvalidDataError:
            break
        yield from decoded
    yield from context.decode(None)


def _stacked(found: Mapping[int, Any], wanted: Sequence[int]) -> Frames:
    """The wanted frames upright and, where a stream changes size midway, in the size of its first."""
    width, height = found[wanted[0]].width, found[wanted[0]].height
    pixels = {
        key: np.rot90(
            frame.to_ndarray(format="rgb24", width=width, height=height), round(frame.rotation / 90)
        )
        for key, frame in found.items()
    }
    return np.stack([pixels[key] for key in wanted])


def _timeline(source: Source, stamps: Times, rate: float) -> tuple[Times, float]:
    """When each frame is shown, in seconds after the first, and how long the whole lasts.

    Stamps that do not increase (or are missing: NaN) are replaced by the frame rate.
    """
    if not len(stamps):
        raise DecodeError(source, "no frame of it decodes")
    gap = 1 / rate if rate > 0 else 0.0
    usable = bool(np.isfinite(stamps).all() and (np.diff(stamps) > 0).all())
    times = stamps - stamps[:1] if usable else np.arange(len(stamps), dtype=np.float64) * np.float64(gap)
    if len(times) > 1:
        gap = times[-1] / (len(times) - 1)
    return times, float(times[-1] + gap)


def _window(source: Source, times: Times, start: float | None, end: float | None) -> range:
    """Numbers of the frames shown from start to end; at least one, if the file is long enough."""
    first = 0 if start is None else int(np.searchsorted(times, start - TIME_TOLERANCE))
    last = len(times) if end is None else int(np.searchsorted(times, end - TIME_TOLERANCE))
    if first == len(times):
        raise DecodeError(
            source, f"its window starts at {start} s, but the last frame is at {times[-1]:.3f} s"
        )
    return range(first, max(last, first + 1))


@contextmanager
def _refusing(source: Source, backend: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn a backend's errors into DecodeError. Only library calls go inside: no bug of ours is taken in."""
    try:
        yield
    except errors as error:
        text = error.strerror if isinstance(error, av.error.FFmpegError | OSError) else str(error)
        lines = (text or str(error)).strip().splitlines() or [type(error).__name__]
        # decord puts the time and the place in its source before its reason
        reason = re.sub(r"\[\d\d:\d\d:\d\d\] \S+: ", "", lines[0])
        raise DecodeError(source, f"{backend}: {reason}") from error
