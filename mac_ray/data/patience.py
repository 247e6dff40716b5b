"""Waiting for storage that is away, which says nothing of the samples that it falls on."""

import time
from collections.abc import Callable
from typing import TypeVar

from mac_ray.data.decode import AwayError
from mac_ray.errors import StorageError

PAUSES_S = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60)  # seconds between tries to read what storage does not give
T = TypeVar("T")


def patiently(read: Callable[[], T]) -> T:
    """What `read` gives, once storage does. Raises StorageError where it stays away, and what else `read` raises."""
    for pause in PAUSES_S:
        try:
            return read()
        except AwayError:
            time.sleep(pause)
    try:
        return read()
    except AwayError as error:
        raise StorageError(
            f"{error.source} {error.reason}, tried for {sum(PAUSES_S) / 60:.0f} minutes; see to the storage, and the "
            "same command goes on"
        ) from error
