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


def slowly(count: int, seconds: float) -> Iterator[int]:
    for number in range(count):
        time.sleep(seconds)
        yield number


def test_waiting_for_data_is_told_from_working() -> None:
    meter = Meter()
    for step in meter.timed(slowly(4, 0.06)):
        time.sleep(0.02)
        meter.add(step, 8, torch.tensor(1.0), {})
    read = meter.read(ALONE)
    assert 0.6 < read["data_wait"] < 0.85
    assert read["step_seconds"] == pytest.approx(meter.seconds() / 4, rel=0.02)
    assert meter.seconds() >= 0.32
    assert read["samples_per_second"] == pytest.approx(32 / meter.seconds(), rel=0.02)


def test_pauses_are_left_out_and_what_was_before_them_is_not() -> None:
    meter = Meter()
    time.sleep(0.3)  # before training begins
    for step in meter.timed(slowly(4, 0.05)):
        meter.add(step, 8, torch.tensor(1.0), {})
        if step == 1:
            time.sleep(0.5)  # an evaluation
            meter.pause()
    read, seconds = meter.read(ALONE), meter.seconds()
    assert 0.2 <= seconds < 0.4
    assert read["samples_per_second"] == pytest.approx(32 / seconds, rel=0.02)
    assert read["data_wait"] > 0.8


def test_seconds_add_up_over_reads_pauses_and_attempts() -> None:
    meter = Meter()
    meter.resume([], seconds=100.0)
    for step in meter.timed(slowly(4, 0.05)):
        meter.add(step, 8, torch.tensor(1.0), {})
        if step == 1:
            meter.read(ALONE)
        if step == 2:
            time.sleep(0.5)  # an evaluation
            meter.pause()
    assert 100.2 <= meter.seconds() < 100.4
