"""Windows of time, and the clips that stand for them: the frames that evaluation would take of such a sample.

W windows, F frames, S pixels, the tower's square input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mac_ray.config import Data, Search
from mac_ray.data.decode import Times, frames_of_windows
from mac_ray.data.pool import midpoints, through_pool
from mac_ray.data.sizes import Pixels, centre_crop, with_short_side
from mac_ray.data.source import Source
from mac_ray.encoder import DECODER, patience_with

SHORTEST_REST = 0.1  # of a hop: what is left at the end, if shorter, belongs to the window before


@dataclass(frozen=True)
class Window:
    start: float  # seconds after the first frame
    end: float  # seconds; 0 for an image


Cut = Callable[[float], list[Window]]  # windows of a file of so many seconds


@dataclass(frozen=True)
class Stretch:
    """Some consecutive windows of a file, decoded."""

    windows: Sequence[Window]  # W
    clips: Pixels  # (W, F, 3, S, S)
    frame_bytes: int  # of one frame, as it was decoded
    total: int  # windows that the whole file has
    lost: float  # seconds at the end of the file that do not decode, though its header promises them


def sliding(duration: float, section: Search) -> list[Window]:
    """Windows of `section.window` seconds every `section.hop` seconds, the last one up to the end.

    A file that is no longer than a window is one window.
    """
    starts = [0.0]
    while starts[-1] + section.window < duration - SHORTEST_REST * section.hop:
        starts.append(min(starts[-1] + section.hop, duration - section.window))
    ends = [start + section.window for start in starts[:-1]]
    return [Window(start, end) for start, end in zip(starts, [*ends, duration], strict=True)]


def read_stretch(
    path: Path, kind: str, first: int, at_once: int, cut: Cut, data: Data, num_frames: int
) -> Stretch:
    """So many windows from number `first` on, decoded in one pass over the file. Raises DecodeError.

    There may be fewer or none left, when less of the file decodes than its header promised.
    """
    cuts: list[list[Window]] = []
    durations: list[float] = []

    def chosen() -> list[Window]:
        return cuts[-1][first : first + at_once]

    def plan(times: Times, duration: float) -> list[tuple[float, float]]:
        cuts.append(cut(duration))
        durations.append(duration)
        # something has to be asked for, so the last window stands in where there are none left
        return [(window.start, window.end) for window in chosen() or cuts[-1][-1:]]

    choose = through_pool(data, lambda size: midpoints(size, num_frames))
    pixels = frames_of_windows(Source.of(path), kind, plan, choose, DECODER, timeout_s=patience_with(path))
    frame_bytes = pixels[0].nbytes
    if data.short_side:
        pixels = with_short_side(pixels, data.short_side)
    clips = centre_crop(pixels, data.image_size).transpose(0, 3, 1, 2)
    kept = chosen()
    return Stretch(
        windows=kept,
        clips=np.ascontiguousarray(clips.reshape(-1, num_frames, *clips.shape[1:])[: len(kept)]),
        frame_bytes=frame_bytes,
        total=len(cuts[-1]),
        lost=durations[0] - durations[-1],
    )


def thumbnail(path: Path, kind: str, window: Window | None, longest_side: int) -> Pixels:
    """The middle frame of a window, or of the file, (H, W, 3), no side longer than asked. Raises DecodeError."""

    def plan(times: Times, duration: float) -> list[tuple[float, float]]:
        chosen = window or Window(0.0, duration)
        return [(chosen.start, chosen.end)]

    pixels = frames_of_windows(
        Source.of(path), kind, plan, lambda size: [size // 2], DECODER, timeout_s=patience_with(path)
    )
    height, width = pixels.shape[1:3]
    scale = min(1.0, longest_side / max(height, width))
    scaled: Pixels = with_short_side(pixels, max(1, round(min(height, width) * scale)))[0]
    return scaled


def shown(window: Window) -> str:
    """A window for people, mm:ss–mm:ss in rounded seconds, at least one."""
    if not window.end:
        return "image"
    start = round(window.start)
    return f"{_clock(start)}–{_clock(max(start + 1, round(window.end)))}"


def _clock(seconds: int) -> str:
    """mm:ss, or h:mm:ss from an hour on."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
