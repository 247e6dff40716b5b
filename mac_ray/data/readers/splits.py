"""What splits have to be: without a sample in two of them, and with one to choose models on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers import files

NUM_VAL = 500
VAL_SHARE = 0.1  # and no more
# by the names that people give them
SPLITS = {
    "train": "train",
    "restval": "train",  # of COCO in Karpathy's splits
    "val": "val",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "test": "test",
}
FEWEST_VAL = 2  # of a handful: one alone cannot be searched for
Share = Annotated[float, "share of the samples, where no splits are given"]


def with_val_of_train(train: Collection[str], test: list[str]) -> dict[str, list[str]]:
    """Three splits of a benchmark that has two: NUM_VAL training samples, drawn by hash, become the third, or about a
    tenth where that is fewer.

    To choose models on the test split would be to choose on the test. A sample that is drawn from a list is drawn from
    any shorter list too.
    """
    first = sorted(train, key=files.hashed)[:NUM_VAL]
    held_out = {id for id in first if files.hashed(id) < VAL_SHARE}
    if len(held_out) < FEWEST_VAL:
        held_out = set(first[:FEWEST_VAL])
    return {
        "train": [id for id in train if id not in held_out],
        "val": [id for id in train if id in held_out],
        "test": test,
    }


def require_disjoint(splits: Mapping[str, Collection[str]], of: str, annotations: Path) -> None:
    """Raises ManifestError naming an id that is in two splits, or twice in one."""
    seen: dict[str, str] = {}
    for split, ids in splits.items():
        for id in ids:
            if id in seen:
                both = f"twice in {split}" if seen[id] == split else f"in both {seen[id]} and {split}"
                raise ManifestError(
                    f"{id} is {both} of {of} in {annotations}; lists of different splits were mixed"
                )
            seen[id] = split


def require_shares(val: float, test: float) -> None:
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ManifestError(
            f"the shares val {val} and test {test} leave nothing to train on; give less than 1"
        )


def drawn(key: str, val: float, test: float) -> str:
    """The split of a sample by the hash of its key, where no splits are given."""
    hashed = files.hashed(key)
    if hashed < test:
        return "test"
    return "val" if hashed < test + val else "train"
