"""Bootstrap intervals of retrieval metrics.

Samples are resampled, not queries: all captions of a video, in both directions, move together, because
they succeed and fail together. Intervals over single captions would come out too narrow.

V samples, S resamples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mac_ray.retrieval.metrics import NAMES, RECALLS, QueryRanks, measure
from mac_ray.retrieval.ranks import FloatArray

BLOCK_QUERIES = 1_000_000  # resampled queries held at a time
PERCENTILES = (2.5, 97.5)


def bootstrap(
    directions: Mapping[str, QueryRanks], num_samples: int, num_resamples: int, generator: np.random.Generator
) -> FloatArray:
    """All metrics in the order of NAMES, (num_resamples, len(NAMES)), each row for V samples drawn with
    replacement. A resample takes V integers from `generator`, one resample after the other.
    """
    num_queries = max(len(queries.rank) for queries in directions.values())
    size = max(1, BLOCK_QUERIES // num_queries)
    blocks = []
    for start in range(0, num_resamples, size):
        rows = min(size, num_resamples - start)
        drawn = generator.integers(num_samples, size=(rows, num_samples))
        drawn += num_samples * np.arange(rows)[:, None]
        multiplicity = np.bincount(drawn.ravel(), minlength=rows * num_samples).reshape(rows, num_samples)
        blocks.append(measure(directions, multiplicity))
    return np.concatenate(blocks)


def intervals(resampled: FloatArray, num_samples: int) -> dict[str, tuple[float, float]]:
    """95% percentile intervals by name, from the rows of `bootstrap`."""
    low, high = np.percentile(resampled, PERCENTILES, axis=0)
    return {
        name: with_room(name, float(low[column]), float(high[column]), num_samples)
        for column, name in enumerate(NAMES)
    }


def with_room(name: str, low: float, high: float, num_samples: int) -> tuple[float, float]:
    """The interval, unless it is of a recall of 0 or 100 and nothing else: there the bootstrap knows no spread, and
    the exact one of Clopper and Pearson (1934) holds. A sum of recalls has the room of each of them."""
    recalls = 2 * len(RECALLS) if name == "Rsum" else int(name.rpartition("/")[2] in RECALLS)
    most = 100.0 * recalls
    if low != high or low not in (0.0, most) or not recalls:
        return low, high
    room = most * (1 - (PERCENTILES[0] / 100) ** (1 / num_samples))
    return (0.0, room) if low == 0.0 else (most - room, most)
