"""SIGTERM, which schedulers send before they kill: the run saves at its next step and stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mac_ray.training.folder import RunFolder


@contextmanager
def stop_at_sigterm(folder: RunFolder) -> Iterator[None]:
    """Turn SIGTERM to this process into a stop request to all ranks. Only in a main thread.

    Enter it after ray.init, which takes the signal for itself.
    """

    def request(number: int, frame: FrameType | None) -> None:
        folder.stop_request.touch()

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
