"""SIGTERM as Ctrl-C, for commands that end well from the keyboard."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _as_from_the_keyboard(number: int, frame: FrameType | None) -> None:
    """By hand: SIGINT itself may be ignored, as a shell has it in what it starts in the background, or blocked, as Ray
    has it in what it starts."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def interrupt_at_sigterm() -> None:
    """From now on; ray.init takes the signal for itself. Without effect outside the main thread, which alone may have
    signals."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_from_the_keyboard)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """What schedulers send before they kill raises KeyboardInterrupt here, or does what else Ctrl-C would."""
    before = signal.getsignal(signal.SIGTERM)
    interrupt_at_sigterm()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
