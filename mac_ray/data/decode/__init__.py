"""Frames out of media files: PyAV, decord, torchcodec and Pillow behind one call and one error.

Which decoder is asked for changes how long it takes and nothing else. A reader is opened inside the call, with one
thread, so that nothing of a decoder survives a fork. Frames are numbered in the order in which they are shown.

What the kinds of file that give trouble come to, with any decoder:

    rotated, by the container        upright
    several video streams            the one that FFmpeg holds to be the best
    variable frame rate              frames are chosen evenly in time (module timeline)
    cut short, or broken midway      the frames before the break, and `shortened` says so
    alpha                            left out
    no video stream, not media       DecodeError

What decord and torchcodec are not given, or do not get through, PyAV decodes (modules decord, torchcodec):

                                     PyAV   decord   torchcodec
    H.264, 8 bits, MP4, Matroska     yes    yes      yes
    VP8, VP9 in WebM                 yes    yes¹     yes
    HEVC, MPEG-4, MJPEG in MP4       yes    no       yes
    AV1, GIF                         yes    no       yes
    AVI, FLV, MPEG streams           yes    no       no
    more than 8 bits                 yes    no       no
    several video streams            yes    no       yes
    broken where a frame is wanted   yes    no       no
    pictures of 1 × 1                yes    no       yes

¹ unless the header has no duration

Shapes: F frames asked for, H height, W width, N windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mac_ray.data.decode.apart import decode_apart
from mac_ray.data.decode.backends import (
    DECODERS,
    DECORD_INSTALLED,
    Decoded,
    Frames,
    decode,
    unreadable,
    unusable,
)
from mac_ray.data.decode.error import AwayError, DecodeError, DecoderDiedError, UnreadableError
from mac_ray.data.decode.timeline import Choose, Select, Times, Window, evenly_in_time, window
from mac_ray.data.source import Source

__all__ = [
    "DECODERS",
    "DECORD_INSTALLED",
    "AwayError",
    "DecodeError",
    "Decoded",
    "DecoderDiedError",
    "Frames",
    "Probe",
    "Times",
    "UnreadableError",
    "Window",
    "frames",
    "frames_of_windows",
    "probe",
    "unreadable",
    "unusable",
]

Told = Callable[[str], object]


@dataclass(frozen=True)
class Probe:
    """What decoding the first, middle and last frame of a sample showed."""

    num_frames: int  # within the window
    duration_s: float  # of the whole file; 0 for pictures
    width: int  # pixels, upright
    height: int
    shortened: str | None = None  # in words, what the file promises and does not give


def frames(
    source: Source,
    kind: str,
    choose: Choose,
    decoder: str,
    start: float | None = None,
    end: float | None = None,
    timeout_s: float | None = None,
    shortened: Told | None = None,
) -> Frames:
    """The chosen frames of one sample, upright RGB, uint8 (F, H, W, 3).

    `choose` is given the number of frames from `start` to `end` (seconds after the first frame) and returns
    indices into them, non-decreasing, repeats allowed. It should depend on that number alone: it is asked a
    second time when fewer frames decode than the file promised. An image has one frame, and `decoder`, a name
    in DECODERS, counts for videos only. With `timeout_s` a video is decoded in a process of its own, which is
    killed after so many seconds. `shortened` is told what a file promises and does not give.

    Raises DecodeError for whatever is wrong with the file.
    """
    return frames_of_windows(
        source, kind, lambda *_: [(start, end)], choose, decoder, timeout_s=timeout_s, shortened=shortened
    )


def frames_of_windows(
    source: Source,
    kind: str,
    plan: Callable[[Times, float], Sequence[Window]],
    choose: Choose,
    decoder: str,
    timeout_s: float | None = None,
    shortened: Told | None = None,
) -> Frames:
    """The frames chosen of each of several windows, in one pass over the file: (N·F, H, W, 3).

    `plan` is given the times of the file's frames and its duration, 0 for pictures, and returns the windows;
    like `choose` it is asked again, with fewer, when less decodes than the file promised.

    Raises DecodeError.
    """

    def select(times: Times, duration: float) -> list[int]:
        chosen: list[int] = []
        for start, end in plan(times, duration):
            slots = evenly_in_time(times, duration, window(source, times, duration, start, end), end)
            chosen.extend(int(slots[index]) for index in choose(len(slots)))
        return chosen

    decoded = _decoded(source, kind, select, decoder, timeout_s)
    if shortened is not None and decoded.shortened is not None:
        shortened(f"{source}: {decoded.shortened}")
    return decoded.frames


def probe(
    source: Source,
    kind: str,
    decoder: str,
    start: float | None = None,
    end: float | None = None,
    timeout_s: float | None = None,
) -> Probe:
    """Decode the first, middle and last frame of a sample. Raises DecodeError."""
    num_frames, duration_s = 0, 0.0

    def select(times: Times, duration: float) -> list[int]:
        nonlocal num_frames, duration_s
        numbers = window(source, times, duration, start, end)
        num_frames, duration_s = len(numbers), duration
        return [numbers[0], numbers[num_frames // 2], numbers[-1]]

    decoded = _decoded(source, kind, select, decoder, timeout_s)
    _, height, width, _ = decoded.frames.shape
    return Probe(num_frames, duration_s, width, height, decoded.shortened)


def _decoded(source: Source, kind: str, select: Select, decoder: str, timeout_s: float | None) -> Decoded:
    # pictures were never seen to hang, and take about as long to decode as to hand over
    if timeout_s is None or kind != "video":
        return decode(source, kind, select, decoder)
    return decode_apart(source, kind, select, decoder, timeout_s)
