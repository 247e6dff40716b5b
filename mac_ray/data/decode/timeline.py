"""Frames by number and by time: when each frame of a file is shown, and which of them are meant.

Whoever chooses frames (`Choose`) thinks in frames of equal length. Where a file's frames are not of equal length,
its window is divided into as many equal slots of time as it has frames, and a slot stands for the frame shown at
its middle: what is evenly spread over the slots is evenly spread over time. At a constant frame rate slot k is
frame k, and jitter of up to half a frame changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mac_ray.data.decode.error import DecodeError
from mac_ray.data.source import Source

Choose = Callable[[int], Sequence[int]]
Window = tuple[float | None, float | None]  # seconds after the first frame; None: the file's own start or end
Times = NDArray[np.float64]  # when each frame of a file is shown, in seconds after the first
# which frames are wanted, given the times of all and how long the file lasts, in seconds
Select = Callable[[Times, float], Sequence[int]]

TIME_TOLERANCE = 5e-4  # seconds; containers round timestamps to milliseconds


def timeline(source: Source, stamps: Times, rate: float) -> tuple[Times, float]:
    """When each frame is shown, in seconds after the first, and how long the whole lasts.

    Stamps that do not increase (or are missing: NaN) are replaced by the frame rate. Raises DecodeError where
    there is no frame.
    """
    if not len(stamps):
        raise DecodeError(source, "no frame of it decodes")
    gap = 1 / rate if rate > 0 else 0.0
    usable = bool(np.isfinite(stamps).all() and (np.diff(stamps) > 0).all())
    times = stamps - stamps[:1] if usable else np.arange(len(stamps), dtype=np.float64) * np.float64(gap)
    if len(times) > 1:
        gap = times[-1] / (len(times) - 1)
    return times, float(times[-1] + gap)


def window(source: Source, times: Times, duration: float, start: float | None, end: float | None) -> range:
    """Numbers of the frames that begin from start to end, or of the one that is on the screen while none begins.

    Raises DecodeError where the file is not so long.
    """
    first = 0 if start is None else int(np.searchsorted(times, start - TIME_TOLERANCE))
    last = len(times) if end is None else int(np.searchsorted(times, end - TIME_TOLERANCE))
    if first == len(times) and start is not None and start > duration - TIME_TOLERANCE:
        raise DecodeError(source, f"its window starts at {start} s, but it ends at {duration:.3f} s")
    return range(first, last) if first < last else range(max(first - 1, 0), max(first, 1))


def evenly_in_time(
    times: Times, duration: float, numbers: range, end: float | None = None
) -> Sequence[int] | NDArray[np.int64]:
    """The frame of each of as many equal slots of time as a window has frames.

    `numbers` are its frames. The last is shown until the next frame of the file begins, or until `end`, where that
    comes first: but for as long as the others, because an end in its midst says nothing about the frame rate.
    """
    start = times[numbers.start]
    until = times[numbers.stop] if numbers.stop < len(times) else duration
    if len(numbers) < 2 or not until > start:  # one picture; a file whose times are not known
        return numbers
    if end is not None:
        until = min(until, max(end, times[numbers[-1]] + (times[numbers[-1]] - start) / (len(numbers) - 1)))
    middles = start + (np.arange(len(numbers)) + 0.5) * (until - start) / len(numbers)
    shown: NDArray[np.int64] = np.searchsorted(times, middles, side="right") - 1
    return shown
