"""What a sweep says before it trains anything."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import torch
from rich.console import Console

from mac_ray.ablation.command import show_plan
from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.plan import Point, Row
from mac_ray.config import Config
from mac_ray.tracking.journal import Journal
from mac_ray.training import checkpoint
from mac_ray.training.folder import RunFolder
from tests.ablation.made import ended_run


def shown(runs: list[PlannedRun]) -> str:
    console = Console(file=StringIO(), width=200)
    show_plan(runs, {"a": 2e12, "b": 3e12}, "", console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_plan_says_which_seeds_are_finished_and_counts_a_run_of_two_rows_once(tmp_path: Path) -> None:
    runs = [
        PlannedRun(Point(Row(label, {}), seed, Config()), f"{label}{seed}", tmp_path / f"{label}{seed}")
        for label in ("a", "b")
        for seed in (0, 1, 2)
    ]
    ended_run(runs[1].folder, "FINISHED", "")
    ended_run(runs[2].folder, "FAILED", "out of memory")
    with Journal(runs[2].folder) as journal:
        for step in (1, 2, 3, 4):
            journal.metrics(step, {"cost/flops": step * 0.25e12})
    # which it would not do again
    checkpoint.save(RunFolder(runs[2].folder).checkpoints, 2, {"weight": torch.zeros(1)}, {}, keep=1)
    ended_run(runs[4].folder, "FAILED", "its node was lost")  # before it had saved anything
    with Journal(runs[4].folder) as journal:
        journal.metrics(1, {"cost/flops": 1e12})
    output = shown(runs)
    (row,) = (line for line in output.splitlines() if line.startswith("│ a"))
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["a", "1", "0, 2", "2T", "3.5T"]
    assert "6 runs, 5 to go with 12.5T FLOPs" in output
    same = [
        *runs[:3],
        *(PlannedRun(run.point, f"a{seed}", tmp_path / f"a{seed}") for seed, run in enumerate(runs[3:])),
    ]
    assert "3 runs for 6 places in the table" in shown(same)
