"""Rows of a large file that share a key, brought together while the file stays on disk.

Two passes: the first keeps eight bytes of each row's key, and the second holds only the rows whose keys came up
more than once. Keys that agree in the eight bytes by chance are held too, and never mixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from mac_ray.data.manifest import ManifestError

MARK_BYTES = 8  # 80 MB for ten million rows
MOST_HELD = 2_000_000  # rows: some hundreds of megabytes

T = TypeVar("T")


def gathered(read: Callable[[], Iterator[T]], key: Callable[[T], str], place: Path) -> Iterator[list[T]]:
    """The rows of each key: in their order the keys that come up once, then the others by their first row.

    `read` begins the file anew. Raises ManifestError where more than MOST_HELD rows share their keys.
    """
    marks = np.fromiter((_mark(key(row)) for row in read()), np.uint64)
    marks.sort()
    same = marks[1:] == marks[:-1]
    if np.count_nonzero(same) > MOST_HELD:
        raise ManifestError(
            f"{place}: {np.count_nonzero(same):,} rows repeat the sample of another one, and {MOST_HELD:,} may; "
            "is this the right file?"
        )
    repeated = set(marks[1:][same].tolist())
    held: dict[str, list[T]] = {}
    for row in read():
        of_row = key(row)
        if _mark(of_row) in repeated:
            held.setdefault(of_row, []).append(row)
        else:
            yield [row]
    yield from held.values()


def _mark(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=MARK_BYTES).digest(), "big")
