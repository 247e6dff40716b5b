"""Samples that are in more than one split, by what gives them away: the id, the file, or the bytes.

The same bytes or the same file in two splits are a leak. The same id alone is none for certain, because some sets
number their samples anew in each split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

EXAMPLES = 20
By = Literal["id", "path", "content"]


@dataclass(frozen=True)
class Place:
    id: str
    split: str
    path: str  # as the manifest has it


@dataclass(frozen=True)
class Overlap:
    """Two splits, and what is in both."""

    by: By
    splits: tuple[str, str]
    count: int  # ids, files, or contents
    examples: list[list[Place]]  # samples that are the same

    @property
    def is_leak(self) -> bool:
        return self.by != "id"


@dataclass(frozen=True)
class Copies:
    """Different files of one split with the same bytes, which tie in retrieval."""

    split: str
    count: int  # contents that there are several of
    examples: list[list[Place]]


def overlaps(samples: pa.Table, digests: pa.ChunkedArray | None) -> list[Overlap]:
    """`samples`: rows of a manifest; `digests` of their bytes, null where they could not be read."""
    keyed = _keyed(samples, digests)
    found = _across(keyed, "id", "id") + _across(keyed, "path", "place")
    if digests is not None:
        # what is the same file is known by its path already
        found += _across(_in_several(keyed, "digest", "place"), "content", "digest")
    return found


def copies(samples: pa.Table, digests: pa.ChunkedArray) -> list[Copies]:
    keyed = _keyed(samples, digests)
    found = []
    for split in pc.unique(keyed["split"]).to_pylist():
        of_split = _in_several(keyed.filter(pc.equal(keyed["split"], split)), "digest", "place")
        groups = _groups(of_split, "digest")
        if groups:
            found.append(Copies(split, len(groups), list(groups.values())[:EXAMPLES]))
    return found


def _keyed(samples: pa.Table, digests: pa.ChunkedArray | None) -> pa.Table:
    offset = pc.fill_null(pc.cast(samples["offset"], pa.string()), "")
    place = pc.binary_join_element_wise(samples["path"], offset, "\0")
    keyed = samples.select(["id", "split", "path"]).append_column("place", place)
    return keyed if digests is None else keyed.append_column("digest", digests)


def _across(keyed: pa.Table, by: By, key: str) -> list[Overlap]:
    groups = _groups(_in_several(keyed, key, "split"), key)
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[list[Place]]] = defaultdict(list)
    order = pc.unique(keyed["split"]).to_pylist()
    for places in groups.values():
        in_order = sorted({place.split for place in places}, key=order.index)
        for pair in combinations(in_order, 2):
            counts[pair] += 1
            if len(examples[pair]) < EXAMPLES:
                examples[pair].append([place for place in places if place.split in pair])
    return [Overlap(by, pair, count, examples[pair]) for pair, count in counts.items()]


def _in_several(rows: pa.Table, key: str, other: str) -> pa.Table:
    """The rows whose key comes with more than one value of the other column."""
    rows = rows.filter(pc.is_valid(rows[key]))
    counted = rows.group_by(key).aggregate([(other, "count_distinct")])
    several = counted.filter(pc.greater(counted[f"{other}_count_distinct"], 1))[key]
    return rows.filter(pc.is_in(rows[key], several.combine_chunks()))


def _groups(rows: pa.Table, key: str) -> dict[str, list[Place]]:
    groups: dict[str, list[Place]] = defaultdict(list)
    places = rows.select(["id", "split", "path"]).to_pylist()
    for value, place in zip(rows[key].to_pylist(), places, strict=True):
        groups[value].append(Place(**place))
    return groups
