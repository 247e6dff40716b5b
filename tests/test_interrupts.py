"""SIGTERM as Ctrl-C, whatever SIGINT is to the process."""

import signal
from collections.abc import Callable, Iterator

import pytest

from mac_ray.interrupts import interrupt_at_sigterm, sigterm_interrupts


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _ignore() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave() -> None:
    pass


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("prepare", [_leave, _ignore, _block])
def test_sigterm_interrupts_also_where_sigint_would_not(prepare: Callable[[], None]) -> None:
    prepare()
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("_handlers")
def test_sigterm_does_what_ctrl_c_does_to_whoever_has_taken_that() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    with sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGINT]


@pytest.mark.usefixtures("_handlers")
def test_sigterm_is_taken_back_and_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_interrupts():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as ray.init takes it
        interrupt_at_sigterm()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
