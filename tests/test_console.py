"""What a person sees of a run under way, from the journal that it leaves."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mac_ray.config import Config, Stage
from mac_ray.console import Follower
from mac_ray.tracking.journal import Journal
from mac_ray.training.plan import Leg, legs


@pytest.fixture
def plan() -> list[Leg]:
    """Two stages of ten steps."""
    stages = [Stage(name=name, data=("shapes",), epochs=1, batch_size=10) for name in ("masked", "unmasked")]
    return legs(Config().model_copy(update={"stages": tuple(stages)}), {"shapes": 100})


@pytest.mark.parametrize(("costs", "left"), [([1.0, 1.0], "14 s left"), ([1.0, 3.0], "34 s left")])
def test_what_is_left_is_reckoned_by_what_steps_of_each_stage_cost(
    costs: list[float], left: str, plan: list[Leg], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    position = {"epoch": 0.5, "learning_rate": 1e-3, "samples_per_second": 64.0}
    with Journal.open_or_create(tmp_path, name="r", experiment="e", identity="i") as journal:
        follower = Follower(tmp_path, plan, costs, console)
        for step in (1, 6):  # a second each
            monkeypatch.setattr(
                "mac_ray.tracking.journal.time.time_ns", lambda step=step: step * 1_000_000_000
            )
            values = {"loss": 1.25, **position}
            journal.metrics(step, {f"train/{name}": value for name, value in values.items()})
    follower.start()
    follower.stop()  # it looks once more before it ends
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert (
        f"stage masked (1/2) · epoch 0.5/1 · step 6/20 · loss 1.250 · lr 1.0e-03 · 64 samples/s · {left}"
        in shown
    )
