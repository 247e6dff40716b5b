"""What a person sees of a sweep under way, in a log and on a terminal, from folders that runs have left."""

from __future__ import annotations

import re
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mac_ray.ablation.board import Board
from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.plan import Point, Row
from mac_ray.config import Config
from mac_ray.tracking.journal import Journal
from tests.ablation.made import ended_run, finished_run

FLOPS = 1e15


@pytest.fixture
def runs(tmp_path: Path) -> list[PlannedRun]:
    """One that has finished, one that has failed, one in the midst of its training, one that waits."""
    labels = ("done [x] [/x]", "lost", "under way [latent]", "later")
    runs = [
        PlannedRun(Point(Row(label, {}), 0, Config()), label, tmp_path / str(number))
        for number, label in enumerate(labels)
    ]
    finished_run(runs[0].folder, 0, quality=0.9)
    ended_run(runs[1].folder, "FAILED", "out of memory")
    with Journal.open_or_create(runs[2].folder, name="r", experiment="e", identity="i") as journal:
        journal.status("RUNNING")
        journal.metrics(30, {"cost/flops": FLOPS / 2, "val/t2v/R1": 1.5})
    return runs


def shown(runs: list[PlannedRun], *, terminal: bool) -> str:
    console = Console(file=StringIO(), width=200, force_terminal=terminal, color_system=None)
    board = Board(runs, {run.identity: FLOPS for run in runs}, console)
    board.start()
    board.stop()  # it looks once more before it ends
    output = console.file
    assert isinstance(output, StringIO)
    return output.getvalue()


def test_states_are_those_of_the_journals(runs: list[PlannedRun]) -> None:
    board = Board(runs, {run.identity: FLOPS for run in runs}, Console(file=StringIO()))
    assert board.states() == {"PENDING": 1, "RUNNING": 1, "FINISHED": 1, "FAILED": 1, "KILLED": 0}


def test_log_has_a_line_for_each_run_that_has_ended(runs: list[PlannedRun]) -> None:
    lines = shown(runs, terminal=False).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("done [x] [/x] · seed 0: FINISHED · 1 of 4 runs finished · 1 failed")
    assert lines[1].startswith("lost · seed 0: FAILED")
    assert all("best val/t2v/R1" in line and line.endswith(": done [x] [/x] · seed 0") for line in lines)


def test_terminal_has_a_bar_for_each_run_that_trains(runs: list[PlannedRun]) -> None:
    output = shown(runs, terminal=True)
    title = " ".join(output.split())  # over several lines
    assert "1 of 4 runs finished · 1 failed" in title
    assert ": done [x] [/x] · seed 0" in title
    (line,) = (line for line in output.splitlines() if "under way [latent] · seed 0" in line)
    assert "━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌" in line
    assert "50%" in line
    assert "val/t2v/R1 1.5" in line
    assert "later" not in output


def test_time_left_is_by_the_rate_since_the_first_look(tmp_path: Path) -> None:
    runs = [
        PlannedRun(Point(Row(str(number), {}), 0, Config()), str(number), tmp_path / str(number))
        for number in range(4)
    ]
    console = Console(file=StringIO(), width=200)
    board = Board(runs, {run.identity: FLOPS for run in runs}, console)
    board.start()
    begun = time.monotonic()
    time.sleep(1)
    finished_run(runs[0].folder, 0, quality=0.9)
    board.stop()
    taken = time.monotonic() - begun
    assert isinstance(console.file, StringIO)
    found = re.search(r"1 of 4 runs finished · ([\d.]+) s left", console.file.getvalue())
    assert found
    assert float(found[1]) == pytest.approx(3 * taken, rel=0.5)
