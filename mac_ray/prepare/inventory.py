"""Which media of a manifest are there, how large they are and when they were changed: the cheap part of a check."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mac_ray.data.manifest import Manifest
from mac_ray.data.patience import asked_patiently
from mac_ray.data.source import Source, State, joined, state_of
from mac_ray.prepare.finding import Asked

THREADS = 16  # they wait for a file system or a server
ROWS_AT_ONCE = 8192
MISSING = -1  # bytes
PLACE = ("path", "offset", "length", "kind", "start", "end")


@dataclass(frozen=True)
class Inventory:
    """By position in the manifest."""

    num_bytes: NDArray[np.int64]  # of the sample; MISSING where its media are not whole
    modified_ns: NDArray[np.int64]

    @property
    def missing(self) -> NDArray[np.bool_]:
        return np.equal(self.num_bytes, MISSING)

    @property
    def empty(self) -> NDArray[np.bool_]:
        return np.equal(self.num_bytes, 0)

    def changed(self, manifest: Manifest) -> NDArray[np.bool_]:
        """There, but not as large as when the manifest was written."""
        differs: NDArray[np.bool_] = self.num_bytes != manifest.table["num_bytes"].to_numpy()
        return differs & ~self.missing


def take_inventory(manifest: Manifest) -> Inventory:
    """Every file is looked up once, however many samples are parts of it. Raises OSError where nobody can tell."""
    paths = manifest.table["path"].cast(pa.large_string()).combine_chunks().dictionary_encode()
    sizes, modified = np.full((2, len(paths.dictionary)), MISSING, np.int64)
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(paths.dictionary), ROWS_AT_ONCE):
            names = paths.dictionary[first : first + ROWS_AT_ONCE].to_pylist()
            states = pool.map(_state, (joined(manifest.root, name) for name in names))
            for number, state in enumerate(states, first):
                if state is not None:
                    sizes[number], modified[number] = state
    file_of = paths.indices.to_numpy()
    whole = sizes[file_of]
    length = pc.fill_null(manifest.table["length"], -1).to_numpy()
    end_of_part = length + pc.fill_null(manifest.table["offset"], 0).to_numpy()
    of_part = np.where(end_of_part <= whole, length, MISSING)
    return Inventory(np.where(length < 0, whole, of_part), modified[file_of])


def _state(place: str) -> State | None:
    return asked_patiently(Source(place), partial(state_of, place))


def asked_of(manifest: Manifest, inventory: Inventory) -> Iterator[Asked | None]:
    """Each row as what can be looked at; None for what is missing or empty."""
    index = 0
    for batch in manifest.table.select(PLACE).to_batches(ROWS_AT_ONCE):
        for row in batch.to_pylist():
            num_bytes, modified_ns = int(inventory.num_bytes[index]), int(inventory.modified_ns[index])
            index += 1
            yield None if num_bytes <= 0 else _asked(manifest.root, row, num_bytes, modified_ns)


def _asked(root: str, row: dict[str, Any], num_bytes: int, modified_ns: int) -> Asked:
    source = Source(joined(root, row["path"]), row["offset"], row["length"])
    return Asked(row["path"], source, row["kind"], row["start"], row["end"], num_bytes, modified_ns)
