"""Forecasts where they can be known in advance: from finished runs, and for a queue of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mac_ray.ablation.budget import Calculator
from mac_ray.ablation.forecast import Forecast, seconds_of, until_the_last
from mac_ray.ablation.locate import Locator, PlannedRun
from mac_ray.ablation.plan import Point, Row
from mac_ray.config import file as config_file
from tests.ablation.made import finished_run


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
    seconds, source = seconds_of(runs[:1], runs[1:], calculator)
    assert seconds == pytest.approx({"plain": 300, "deep": calculator.flops(configs["deep"]) / 1e13})
    assert source == "finished runs on some device"


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
