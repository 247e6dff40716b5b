"""The pool of a sample: the frames that clips of it draw from, and which of them.

T pool frames of one sample: all of its frames, or `pool_frames` evenly spaced ones where it has more, with the short
side resized to `short_side`. F of them are drawn for a clip.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mac_ray.config import Data
from mac_ray.data.decode import frames
from mac_ray.data.manifest import Sample
from mac_ray.data.sizes import Pixels, with_short_side

Choose = Callable[[int], Sequence[int] | NDArray[np.int64]]
Told = Callable[[str], object]


def midpoints(length: int, count: int) -> NDArray[np.int64]:
    """The middle of each of `count` equal intervals of range(length); repeats where there are too few."""
    edges = np.linspace(0, length, count + 1)
    return np.minimum(((edges[:-1] + edges[1:]) / 2).astype(np.int64), length - 1)


def random_in_intervals(length: int, draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """One index from each of F equal intervals of range(length), by draws (F,), uniform in [0, 1).

    Both ends of an interval are reachable (Frozen's never drew the last). The draws are made before the length
    is known, so that how often a decoder asks, and whether it fails, does not change what is drawn afterwards.
    """
    edges = np.linspace(0, length, len(draws) + 1).astype(np.int64)
    sizes = np.maximum(np.diff(edges), 1)
    return edges[:-1] + (draws * sizes).astype(np.int64)


def read_pool(
    sample: Sample,
    section: Data,
    decoder: str,
    choose: Choose,
    timeout_s: float | None = None,
    shortened: Told | None = None,
) -> Pixels:
    """Decode the chosen frames of a sample's pool: (F, H, W, 3). Raises DecodeError."""
    pixels = decode_pool(sample, section, decoder, choose, timeout_s, shortened)
    return with_short_side(pixels, section.short_side) if section.short_side else pixels


def decode_pool(
    sample: Sample,
    section: Data,
    decoder: str,
    choose: Choose,
    timeout_s: float | None,
    shortened: Told | None = None,
) -> Pixels:
    """The chosen frames in the size they have in the file."""
    return frames(
        sample.source,
        sample.kind,
        through_pool(section, choose),
        decoder,
        sample.start,
        sample.end,
        timeout_s,
        shortened,
    )


def through_pool(section: Data, choose: Choose) -> Callable[[int], list[int]]:
    """What `choose` picks from a pool, as numbers among all frames there are to choose from."""

    def positions(num_frames: int) -> list[int]:
        size = min(num_frames, section.pool_frames or num_frames)
        pool = midpoints(num_frames, size)
        return [int(position) for position in pool[np.asarray(choose(size))]]

    return positions
