"""SIGTERM, which schedulers send before they kill: the run saves at its next step and stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mac_ray.training.folder import RunFolder


@contextmanager
def stop_at_sigterm(folder: RunFolder) -> Iterator[None]:
    """Turn SIGTERM to this process into a stop request to all ranks.

    Enter it after ray.init, which takes the signal for itself. Without effect outside the main thread, as in a Tune
    actor: there the signal is Ray's, and only the main thread may have it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: FrameType | None) -> None:
        folder.stop_request.touch()

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
