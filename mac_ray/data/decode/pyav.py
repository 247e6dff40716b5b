"""PyAV: exact for every codec, and what the other backends hand over to.

It decodes from the last keyframe before each frame that is wanted, without the frames between that no other frame
refers to. Where stamps cannot be trusted, or a wanted frame does not decode, it decodes from the start and counts.

Shapes: F frames wanted, H height, W width.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from operator import itemgetter
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mac_ray.data.decode.error import refusing
from mac_ray.data.decode.timeline import Select, timeline
from mac_ray.data.decode.video import ERRORS, Video

# codecs where leaving out unreferenced frames changes no other; dav1d, told to, gives frames the wrong time
SKIPPABLE = ("h264", "hevc")


def decode(video: Video, select: Select) -> tuple[NDArray[np.uint8], str | None]:
    """The frames selected (F, H, W, 3), and in words what the file promises and does not give.

    `select` is asked again, about fewer frames, where less decodes than the file promised. Raises DecodeError.
    """
    times, duration = video.timeline()
    numbers = select(times, duration)
    if video.is_timed:
        wanted = [video.stamps[number] for number in numbers]
        with refusing(video.source, "pyav", ERRORS):
            found = _from_keyframes(video, set(wanted))
            if found.keys() == set(wanted):
                return _stacked(found, wanted), video.missing

    with refusing(video.source, "pyav", ERRORS):
        stamps, found, is_broken = _from_start(video, set(numbers))
    if len(stamps) != len(times) or None in video.stamps:
        times, duration = timeline(video.source, np.array(stamps, np.float64) * video.unit, video.rate)
        numbers = select(times, duration)
        with refusing(video.source, "pyav", ERRORS):
            _, found, _ = _from_start(video, set(numbers), up_to=max(numbers))
    broken = (
        f"only {len(stamps)} of the {video.promised} frames that it promises decode" if is_broken else None
    )
    with refusing(video.source, "pyav", ERRORS):
        return _stacked(found, numbers), broken or video.missing


def _from_keyframes(video: Video, wanted: set[int]) -> dict[int, Any]:
    """Wanted frames by stamp, decoding from the last keyframe before each; those that fail are absent."""
    keyframes = sorted(
        (head.pts or 0, position) for position, head in enumerate(video.heads) if head.is_keyframe
    )
    # of all that are shown no later, the last in the file
    furthest = list(accumulate((position for _, position in keyframes), max))
    runs: dict[int, set[int]] = {}
    for stamp in wanted:
        earlier = bisect_right(keyframes, stamp, key=itemgetter(0))
        runs.setdefault(furthest[earlier - 1] if earlier else 0, set()).add(stamp)
    found = {}
    for first, stamps in runs.items():
        with suppress(av.error.InvalidDataError):
            for frame in _shown(video.context, video.packets(first), stamps):
                if frame.pts in stamps:
                    found[frame.pts] = frame
                if stamps <= found.keys():
                    break
    return found


def _from_start(
    video: Video, wanted: Collection[int], up_to: int | None = None
) -> tuple[list[int | None], dict[int, Any], bool]:
    """The stamps of all frames, the wanted frames by number, and whether a packet does not decode.

    With `up_to`, none are decoded after that number.
    """
    stamps, found = [], {}
    with video.new_context() as context:
        try:
            for number, frame in enumerate(_shown(context, video.packets())):
                stamps.append(frame.pts)
                if number in wanted:
                    found[number] = frame
                if number == up_to:
                    break
        except av.error.InvalidDataError:
            return stamps, found, True
    return stamps, found, False


def _shown(context: Any, packets: Iterable[Any], wanted: Collection[int] | None = None) -> Iterator[Any]:
    """Frames in presentation order. Raises InvalidDataError after those before a packet that does not decode.

    With `wanted` stamps, frames that no other frame refers to are skipped unless they are wanted.
    """
    context.flush_buffers()
    for packet in packets:
        if context.name in SKIPPABLE:
            skipped = wanted is not None and packet.pts not in wanted
            context.skip_frame = "NONREF" if skipped else "DEFAULT"
        try:
            decoded = context.decode(packet)
        except av.error.InvalidDataError:
            yield from context.decode(None)
            raise
        yield from decoded
    yield from context.decode(None)


def _stacked(found: Mapping[int, Any], wanted: Sequence[int]) -> NDArray[np.uint8]:
    """The wanted frames upright and, where a stream changes size midway, in the size of its first: (F, H, W, 3)."""
    width, height = found[wanted[0]].width, found[wanted[0]].height
    pixels = {
        key: np.rot90(
            frame.to_ndarray(format="rgb24", width=width, height=height, threads=1),
            round(frame.rotation / 90),
        )
        for key, frame in found.items()
    }
    return np.stack([pixels[key] for key in wanted])
