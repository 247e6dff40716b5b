"""Keys that occur twice, found in 8 bytes of memory for each key.

What is kept of a key is a hash. Equal hashes only raise a suspicion, so where there are any the keys are read
again and those compared: no key is ever taken for another.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import numpy as np

KeyT = TypeVar("KeyT", bound=Hashable)
SUSPECTS_AT_ONCE = 1_000_000  # hashes looked for in one more reading


class Repeats:
    """Add all keys, then ask for the first that occurs twice."""

    def __init__(self, digest: Callable[[Hashable], int] = hash) -> None:
        self._digest = digest
        self._digests = array("q")  # int64

    def add(self, key: Hashable) -> None:
        self._digests.append(self._digest(key))

    def first(self, keys: Callable[[], Iterable[KeyT]]) -> KeyT | None:
        """A key that was added more than once; None if there is none. `keys` reads them all again."""
        ordered = np.sort(np.frombuffer(self._digests, np.int64))
        suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        for start in range(0, len(suspects), SUSPECTS_AT_ONCE):
            suspected = set(suspects[start : start + SUSPECTS_AT_ONCE].tolist())
            seen: set[KeyT] = set()
            for key in keys():
                if self._digest(key) in suspected:
                    if key in seen:
                        return key
                    seen.add(key)
        return None
