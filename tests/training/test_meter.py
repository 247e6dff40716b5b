"""What the log says: means over steps, where the time went, and which step went wrong."""

import time
from collections.abc import Iterator

import pytest
import torch

from mac_ray.errors import NonFiniteLossError
from mac_ray.training.distributed import Worker
from mac_ray.training.meter import Meter

ALONE = Worker()


def test_read_gives_means_since_the_last_read() -> None:
    meter = Meter()
    for step, loss in enumerate([1.0, 2.0, 6.0], start=1):
        meter.add(step, 8, torch.tensor(loss), {"part": torch.tensor(loss * 10)})
    read = meter.read(ALONE)
    assert (read["loss"], read["loss/part"]) == (pytest.approx(3.0), pytest.approx(30.0))
    meter.add(4, 8, torch.tensor(5.0), {"part": torch.tensor(0.5)})
    read = meter.read(ALONE)
    assert (read["loss"], read["loss/part"]) == (5.0, 0.5)


def test_losses_added_are_kept_as_they_were() -> None:
    meter, loss = Meter(), torch.tensor(1.0, requires_grad=True)
    meter.add(1, 8, loss * 2, {})
    with torch.no_grad():
        loss += 5
    assert meter.read(ALONE)["loss"] == 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_names_its_step_and_parts(value: float) -> None:
    meter = Meter()
    meter.add(6, 8, torch.tensor(1.0), {"v2t": torch.tensor(1.0)})
    meter.add(7, 8, torch.tensor(value), {"v2t": torch.tensor(value), "t2v": torch.tensor(0.5)})
    meter.add(8, 8, torch.tensor(value), {"v2t": torch.tensor(1.0), "t2v": torch.tensor(0.5)})
    with pytest.raises(NonFiniteLossError, match=rf"step 7 .*loss {value}, loss/v2t {value}, loss/t2v 0\.5"):
        meter.read(ALONE)


def test_gradient_that_is_not_finite_stops_before_its_weights_are_saved() -> None:
    meter = Meter()
    meter.add(3, 8, torch.tensor(1.0), {"gradient_norm": torch.tensor(float("inf"))})
    with pytest.raises(NonFiniteLossError, match=r"step 3 .*gradient_norm inf"):
        meter.pending(ALONE)


def test_pending_losses_resumed_give_the_means_of_an_unbroken_run() -> None:
    whole, before, after = Meter(), Meter(), Meter()
    losses = [(1, 0.1), (2, 0.7), (3, 0.4)]
    for step, loss in losses:
        whole.add(step, 8, torch.tensor(loss), {})
    for step, loss in losses[:2]:
        before.add(step, 8, torch.tensor(loss), {})
    after.resume(before.pending(ALONE), seconds=0.0)
    after.add(3, 8, torch.tensor(losses[2][1]), {})
    assert after.read(ALONE)["loss"] == whole.read(ALONE)["loss"]
    assert after.pending(ALONE) == []


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def steps(self, count: int, seconds: float) -> Iterator[int]:
        """Batches that take so long to come."""
        for number in range(count):
            self.now += seconds
            yield number


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_waiting_for_data_is_told_from_working(clock: Clock) -> None:
    meter = Meter()
    for step in meter.timed(clock.steps(4, 6.0)):
        clock.now += 2.0
        meter.add(step, 8, torch.tensor(1.0), {})
    read = meter.read(ALONE)
    assert read["data_wait"] == pytest.approx(0.75)
    assert read["step_seconds"] == pytest.approx(8.0)
    assert meter.seconds() == pytest.approx(32.0)
    assert read["samples_per_second"] == pytest.approx(1.0)


def test_pauses_are_left_out_and_what_was_before_them_is_not(clock: Clock) -> None:
    meter = Meter()
    clock.now += 300.0  # before training begins
    for step in meter.timed(clock.steps(4, 5.0)):
        meter.add(step, 8, torch.tensor(1.0), {})
        if step == 1:
            clock.now += 500.0  # an evaluation
            meter.pause()
    read = meter.read(ALONE)
    assert meter.seconds() == pytest.approx(20.0)
    assert read["samples_per_second"] == pytest.approx(32 / 20)
    assert read["data_wait"] == pytest.approx(1.0)


def test_seconds_add_up_over_reads_pauses_and_attempts(clock: Clock) -> None:
    meter = Meter()
    meter.resume([], seconds=100.0)
    for step in meter.timed(clock.steps(4, 5.0)):
        meter.add(step, 8, torch.tensor(1.0), {})
        if step == 1:
            meter.read(ALONE)
        if step == 2:
            clock.now += 500.0  # an evaluation
            meter.pause()
    assert meter.seconds() == pytest.approx(120.0)
