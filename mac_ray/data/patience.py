"""Waiting for storage that is away, which says nothing of the samples that it falls on."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

from mac_ray.data.decode import AwayError, unreadable
from mac_ray.data.source import Source
from mac_ray.errors import StorageError

PAUSES_S = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)  # seconds between tries to read what storage does not give
LONGEST_S = 310
T = TypeVar("T")


def patiently(read: Callable[[], T]) -> T:
    """What `read` gives, once storage does. Raises StorageError where it stays away, and what else `read` raises."""
    begun, pauses = time.monotonic(), iter(PAUSES_S)
    while True:
        try:
            return read()
        except AwayError as error:
            waited = time.monotonic() - begun  # also for reads that hang
            pause = next(pauses, math.inf)
            if waited + pause > LONGEST_S:
                raise StorageError(
                    f"{error.source} {error.reason}, tried for {waited / 60:.0f} minutes; see to the storage, and the "
                    "same command goes on"
                ) from error
        time.sleep(pause)


def asked_patiently(source: Source, ask: Callable[[], T]) -> T:
    """What storage answers about a source, or gives of it. Raises StorageError where it stays away, else OSError."""

    def once() -> T:
        try:
            return ask()
        except OSError as error:
            found = unreadable(source, error)
            if isinstance(found, AwayError):
                raise found from error
            raise

    return patiently(once)
