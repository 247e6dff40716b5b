"""What the captions of a split are like, and which of them say the same of different samples.

Such captions tie in retrieval: no model can tell whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

EXAMPLES = 10


@dataclass(frozen=True)
class Spread:
    least: float
    mean: float
    most: float


@dataclass(frozen=True)
class Repeated:
    caption: str
    samples: int  # that have it
    ids: list[str]  # of some of them


@dataclass(frozen=True)
class Captions:
    """Of one split."""

    count: int
    per_sample: Spread
    words: Spread  # per caption
    tied: int  # captions whose words another sample of the split has too
    tied_texts: int  # how many different ones that are
    tied_examples: list[Repeated]


def captions_of(samples: pa.Table) -> Captions:
    """`samples`: the rows of one split, at least one."""
    # in 64-bit offsets: ten million captions may have more than 2 GiB
    captions = samples["captions"].cast(pa.large_list(pa.large_string())).combine_chunks()
    owners, texts = pc.list_parent_indices(captions), pc.list_flatten(captions)
    # a sample that says the same twice is no tie
    pairs = pa.table({"caption": texts, "owner": owners}).group_by(["caption", "owner"])
    counted = pairs.aggregate([("caption", "count")])
    texts_owned = counted.group_by("caption").aggregate([("owner", "count"), ("caption_count", "sum")])
    tied = texts_owned.filter(pc.greater(texts_owned["owner_count"], 1))
    return Captions(
        count=len(texts),
        per_sample=spread(num_captions(samples)),
        words=spread(num_words(samples)),
        tied=pc.sum(tied["caption_count_sum"]).as_py() or 0,
        tied_texts=len(tied),
        tied_examples=_examples(tied, counted, samples["id"]),
    )


def num_captions(samples: pa.Table) -> NDArray[np.int64]:
    """Per sample."""
    return np.asarray(pc.list_value_length(samples["captions"]), np.int64)


def num_words(samples: pa.Table) -> NDArray[np.int64]:
    """Per caption; a manifest has exactly one blank between two words."""
    blanks = pc.count_substring(pc.list_flatten(samples["captions"]), " ")
    return np.asarray(blanks, np.int64) + 1


def spread(values: NDArray[np.int64]) -> Spread:
    return Spread(float(values.min()), float(values.mean()), float(values.max()))


def _examples(tied: pa.Table, counted: pa.Table, ids: pa.ChunkedArray) -> list[Repeated]:
    """Those that most samples have."""
    worst = tied.sort_by([("owner_count", "descending"), ("caption", "ascending")]).slice(0, EXAMPLES)
    found = []
    for row in worst.to_pylist():
        owners = counted.filter(pc.equal(counted["caption"], row["caption"]))["owner"]
        some = ids.take(owners.combine_chunks().sort().slice(0, EXAMPLES)).to_pylist()
        found.append(Repeated(row["caption"], row["owner_count"], some))
    return found
