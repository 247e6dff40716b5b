"""Forecasts where they can be known in advance: from finished runs, and for a queue of runs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mac_ray.ablation.budget import Calculator
from mac_ray.ablation.forecast import Forecast, forecast, seconds_of, until_the_last
from mac_ray.ablation.locate import Locator, PlannedRun
from mac_ray.ablation.outcome import outcome_in
from mac_ray.ablation.plan import Point, Row
from mac_ray.config import file as config_file
from mac_ray.tracking.journal import Journal
from mac_ray.training import checkpoint
from mac_ray.training.folder import RunFolder
from tests.ablation.made import ended_run, finished_run


def test_finished_seeds_tell_how_long_their_row_takes_and_their_flops_how_long_others_do(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    calculator = Calculator(Locator(Path.cwd(), tmp_path, lambda *_: None), tmp_path / "speeds.json")
    configs = {
        "plain": config_file.load(None, tiny_overrides),
        "deep": config_file.load(None, [*tiny_overrides, "model.video.depth=6"]),
    }
    runs = [
        PlannedRun(Point(Row(label, {}), seed, config), folder.name, folder)
        for label, config in configs.items()
        for seed in (0, 1)
        for folder in [tmp_path / f"{label}{seed}"]
    ]
    finished_run(runs[0].folder, 0, 0.5, flops=3e15)  # in 300 seconds
    finished = outcome_in(runs[0].folder, "plain", 0, runs[0].identity)
    seconds, source = seconds_of([finished], runs[1:], calculator)
    assert seconds == pytest.approx({"plain": 300, "deep": calculator.flops(configs["deep"]) / 1e13})
    assert source == "finished runs on some device"


def test_run_that_was_begun_takes_what_its_last_checkpoint_leaves(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mac_ray.ablation.forecast.on_ray", nullcontext)
    monkeypatch.setattr("mac_ray.ablation.forecast.living_nodes", lambda: [{"CPU": 1.0}])
    calculator = Calculator(Locator(Path.cwd(), tmp_path, lambda *_: None), tmp_path / "speeds.json")
    config = config_file.load(None, tiny_overrides)
    flops = calculator.flops(config)
    done, begun, fresh = (
        PlannedRun(Point(Row("row", {}), seed, config), name, tmp_path / name)
        for seed, name in enumerate(("done", "begun", "fresh"))
    )
    finished_run(done.folder, 0, 0.5, flops=flops)
    ended_run(begun.folder, "KILLED", "")
    with Journal(begun.folder) as journal:
        for step, share in ((1, 0.25), (2, 0.5), (3, 0.75)):
            journal.metrics(step, {"cost/flops": share * flops})
    checkpoint.save(RunFolder(begun.folder).checkpoints, 2, {"weight": torch.zeros(1)}, {}, keep=1)
    finished = outcome_in(done.folder, "row", 0, done.identity)
    found = forecast([finished], [[begun], [fresh]], calculator)
    assert (found.seconds, found.together) == (pytest.approx(1.5 * flops / 1e13), 1)


@pytest.mark.parametrize(
    ("seconds", "together", "expected"),
    [([3, 1, 1, 1], 1, 6), ([3, 1, 1, 1], 2, 3), ([1, 1, 3], 2, 4), ([5], 8, 5)],
)
def test_runs_start_in_order_wherever_a_place_is_free(
    seconds: list[float], together: int, expected: float
) -> None:
    assert until_the_last(seconds, together) == expected


def test_sentence_says_how_long_and_how_many_beside_each_other() -> None:
    assert Forecast(7500, 2, "x").sentence == "about 2 h 05 min of training here, 2 at a time, by x"
    assert Forecast(7.5, 1, "x").sentence == "about 7.5 s of training here, one at a time, by x"
