from __future__ import annotations

from pathlib import Path

import pytest

from mac_ray.ablation.outcome import outcome_in
from mac_ray.ablation.report.curves import curves
from mac_ray.tracking.journal import Journal


def test_curves_join_seeds_at_equal_steps_and_read_costs_off_the_line_between_logs(tmp_path: Path) -> None:
    values = {0: {10: 20.0, 20: 40.0}, 1: {10: 30.0, 20: 44.0}, 2: {10: 99.0}}
    outcomes = []
    for seed, scores in values.items():
        folder = tmp_path / str(seed)
        with Journal.open_or_create(folder, name="run", experiment="made", identity=str(seed)) as journal:
            for step in (8, 20):  # steps that are logged, not all that are scored
                costs = {"samples": 4.0, "flops": 100.0, "seconds": 1.0 + seed}
                journal.metrics(step, {f"cost/{name}": step * cost for name, cost in costs.items()})
            for step, score in scores.items():
                journal.metrics(step, {"val/t2v/R1": score})
            journal.status("RUNNING")
            if seed < 2:  # the third is under way
                (folder / "scores.json").write_text("{}")
                journal.status("FINISHED")
        outcomes.append(outcome_in(folder, "row", seed, str(seed)))
    first, last = curves(outcomes, ["row"], "t2v/R1")
    assert (first.step, first.mean, first.low, first.high) == (10, 25.0, 20.0, 30.0)
    assert first.spent == pytest.approx({"samples": 40, "flops": 1000, "seconds": 15})
    assert (last.mean, last.spent["seconds"]) == (42.0, 30.0)


def test_curves_of_runs_without_validation_are_none(tmp_path: Path) -> None:
    with Journal.open_or_create(tmp_path, name="run", experiment="made", identity="a") as journal:
        journal.status("RUNNING")
        journal.metrics(8, {"cost/samples": 4.0, "cost/flops": 100.0, "cost/seconds": 1.0, "train/loss": 2.0})
        (tmp_path / "scores.json").write_text("{}")
        journal.status("FINISHED")
    assert curves([outcome_in(tmp_path, "row", 0, "a")], ["row"], "t2v/R1") == []
