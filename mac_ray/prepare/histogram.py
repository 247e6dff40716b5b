"""How durations, frames and captions are distributed: counts by split in bins of round width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mac_ray.prepare.captions import num_captions, num_words

MOST_BINS = 40
FAR_OUT = 2.0  # times the value that BULK of all are below: from there on all are in the last bin
BULK = 0.995
SAME = 1e-6  # times the largest: durations are sums of rounded times
ROUND = (1, 2, 5, 10)


@dataclass(frozen=True)
class Histogram:
    of: str  # what is counted: "duration"
    unit: str  # of the values: "seconds"
    counted: str  # "samples"
    edges: list[float]  # one more than bins; a value on an edge is in the bin after it
    is_open: bool  # the last bin holds also what lies far beyond it
    counts: dict[str, list[int]]  # by split


def histograms_of(samples: pa.Table, findings: pa.Table | None) -> list[Histogram]:
    """Those that say something: what is the same for all samples has none."""
    splits = pc.unique(samples["split"]).to_pylist()
    masks = {split: np.asarray(pc.equal(samples["split"], split)) for split in splits}
    rows = {split: samples.filter(pa.array(mask)) for split, mask in masks.items()}
    found = [
        _histogram("words per caption", "words", "captions", {s: num_words(r) for s, r in rows.items()}),
        _histogram(
            "captions per sample", "captions", "samples", {s: num_captions(r) for s, r in rows.items()}
        ),
    ]
    if findings is not None:
        of_split = {split: findings.filter(pa.array(mask)) for split, mask in masks.items()}
        seconds = {split: _positive(table["duration"]) for split, table in of_split.items()}
        # of videos: a picture is one frame
        frames = {
            split: _positive(table.filter(pc.greater(table["duration"], 0))["num_frames"])
            for split, table in of_split.items()
        }
        found = [
            _histogram("duration", "seconds", "videos", seconds),
            _histogram("frames per video", "frames", "videos", frames),
            *found,
        ]
    return [histogram for histogram in found if histogram is not None]


def _positive(values: pa.ChunkedArray) -> NDArray[np.float64]:
    there = np.asarray(values.drop_null(), np.float64)
    return there[there > 0]


def _histogram(
    of: str, unit: str, counted: str, values: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]
) -> Histogram | None:
    everything = np.concatenate([*values.values(), np.empty(0)])
    if not len(everything) or everything.max() - everything.min() <= SAME * everything.max():
        return None
    bulk = float(np.quantile(everything, BULK))
    # where nearly all are the same, there would be no width to divide
    is_open = bool(everything.max() > FAR_OUT * bulk and bulk > everything.min())
    highest = bulk if is_open else float(everything.max())
    width = _round_width(float(everything.min()), highest, whole=unit != "seconds")
    first, last = math.floor(everything.min() / width), math.floor(highest / width)
    edges = np.arange(first, last + 2) * width
    counts = {
        split: np.bincount(
            np.minimum(np.floor(own / width).astype(int), last) - first, minlength=len(edges) - 1
        ).tolist()
        for split, own in values.items()
        if len(own)
    }
    return Histogram(of, unit, counted, [round(float(edge), 9) for edge in edges], is_open, counts)


def _round_width(lowest: float, highest: float, *, whole: bool) -> float:
    """The smallest of 1, 2, 5, 10, 20 … (and below 1, where values are not whole) that needs few bins."""
    least = (highest - lowest) / MOST_BINS
    if whole and least <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in ROUND if step * power >= least)
