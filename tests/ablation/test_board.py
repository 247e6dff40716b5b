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
from mac_ray.ablation.sweep import Sweep
from mac_ray.config import Config
from mac_ray.tracking.journal import Journal
from tests.ablation.made import ended_run, finished_run

FLOPS = 1e15
ASKED = Sweep(name="s", question="?", base="configs/ablation.yaml", variants={"a": {}})


@pytest.fixture(autouse=True)
def _looks_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning and at the end, not in the midst of what a test writes."""
    monkeypatch.setattr("mac_ray.ablation.board.LOOK_EVERY_S", 3600)


@pytest.fixture
def runs(tmp_path: Path) -> list[PlannedRun]:
    labels = ("done [x] [/x]", "lost", "under way [latent]", "later")
    return [
        PlannedRun(Point(Row(label, {}), 0, Config()), label, tmp_path / str(number))
        for number, label in enumerate(labels)
    ]


def begin(runs: list[PlannedRun]) -> None:
    """One has finished, one has failed, one is in the midst of its training, one waits."""
    finished_run(runs[0].folder, 0, quality=0.9)
    ended_run(runs[1].folder, "FAILED", "out of memory")
    take_up(runs[2])


def take_up(run: PlannedRun) -> None:
    with Journal.open_or_create(run.folder, name="r", experiment="e", identity=run.folder.name) as journal:
        journal.status("RUNNING")
        journal.metrics(30, {"cost/flops": FLOPS / 2, "val/t2v/R1": 1.5})


def watched(
    runs: list[PlannedRun], *, terminal: bool = False, to_come: int = 0, sweep: Sweep = ASKED
) -> tuple[Board, StringIO]:
    """A board that has looked once, and where it writes."""
    output = StringIO()
    console = Console(file=output, width=200, force_terminal=terminal, color_system=None)
    board = Board(runs, {run.identity: FLOPS for run in runs}, sweep, console, lambda: to_come)
    board.states()
    board.start()
    return board, output


def test_states_are_those_of_the_journals(runs: list[PlannedRun]) -> None:
    board = Board(runs, {run.identity: FLOPS for run in runs}, ASKED, Console(file=StringIO()))
    assert board.states() == {"PENDING": 4, "RUNNING": 0, "FINISHED": 0, "FAILED": 0, "KILLED": 0}
    begin(runs)
    assert board.states() == {"PENDING": 1, "RUNNING": 1, "FINISHED": 1, "FAILED": 1, "KILLED": 0}


def test_log_has_a_line_for_each_run_that_has_ended(runs: list[PlannedRun]) -> None:
    board, output = watched(runs)
    begin(runs)
    board.stop()  # it looks once more before it ends
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("done [x] [/x] · seed 0: FINISHED · 1 of 4 runs finished · 1 failed")
    assert lines[1].startswith("lost · seed 0: FAILED")
    assert all("best val/t2v/R1" in line and line.endswith(": done [x] [/x] · seed 0") for line in lines)


@pytest.mark.parametrize(("metric", "best"), [("t2v/R1", 1), ("t2v/MnR", 0)])
def test_best_is_that_of_the_metric_of_the_sweep(runs: list[PlannedRun], metric: str, best: int) -> None:
    board, output = watched(runs, sweep=Sweep(**(dict(ASKED) | {"metric": metric})))
    for run, recall, rank in zip(runs, (10.0, 20.0), (2.0, 9.0), strict=False):
        take_up(run)
        with Journal(run.folder) as journal:
            journal.metrics(60, {"val/t2v/R1": recall, "val/t2v/MnR": rank})
            journal.status("FINISHED")
    board.stop()
    line = output.getvalue().splitlines()[-1]
    assert f"best val/{metric}" in line
    assert line.endswith(f": {runs[best].point.label}")


def test_what_an_earlier_start_left_is_no_news_and_waits_for_its_turn(runs: list[PlannedRun]) -> None:
    begin(runs)
    board, output = watched(runs)
    assert board.states() == {"PENDING": 2, "RUNNING": 1, "FINISHED": 1, "FAILED": 0, "KILLED": 0}
    take_up(runs[1])
    assert board.states() == {"PENDING": 1, "RUNNING": 2, "FINISHED": 1, "FAILED": 0, "KILLED": 0}
    ended_run(runs[1].folder, "FAILED", "out of memory again")
    board.stop()
    (line,) = output.getvalue().splitlines()
    assert line.startswith("lost · seed 0: FAILED · 1 of 4 runs finished · 1 failed")


def test_terminal_has_a_bar_for_each_run_that_trains(runs: list[PlannedRun]) -> None:
    board, output = watched(runs, terminal=True)
    begin(runs)
    board.stop()
    title = " ".join(output.getvalue().split())  # over several lines
    assert "1 of 4 runs finished · 1 failed" in title
    assert ": done [x] [/x] · seed 0" in title
    (line,) = (line for line in output.getvalue().splitlines() if "under way [latent] · seed 0" in line)
    assert "━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌" in line
    assert "50%" in line
    assert "val/t2v/R1 1.5" in line
    assert "later" not in output.getvalue()


def test_runs_of_a_trial_that_is_over_wait_no_longer(runs: list[PlannedRun]) -> None:
    """Stopped by an earlier driver, or not begun as the first seed was stopped."""
    ended_run(runs[0].folder, "KILLED", "pruned")
    board, output = watched(runs)
    take_up(runs[2])
    assert board.states() == {"PENDING": 3, "RUNNING": 1, "FINISHED": 0, "FAILED": 0, "KILLED": 0}
    board.give_up(runs[:3])  # the third by a process that was killed
    assert board.states() == {"PENDING": 1, "RUNNING": 0, "FINISHED": 0, "FAILED": 0, "KILLED": 1}
    board.stop()
    assert "0 of 4 runs finished · 1 stopped" in output.getvalue()


@pytest.mark.parametrize(
    ("killed", "to_come", "rest"),
    [
        pytest.param(0, 0, 3, id="rows"),
        pytest.param(1, 0, 2, id="one-stopped"),
        pytest.param(0, 1, 4, id="search"),
    ],
)
def test_time_left_is_by_the_rate_since_the_first_look(
    runs: list[PlannedRun], killed: int, to_come: int, rest: int
) -> None:
    board, output = watched(runs, to_come=to_come)
    begun = time.monotonic()
    time.sleep(1)
    for run in runs[1 : 1 + killed]:
        ended_run(run.folder, "KILLED", "pruned")
    finished_run(runs[0].folder, 0, quality=0.9)
    board.stop()
    taken = time.monotonic() - begun
    found = re.findall(rf"1 of {4 + to_come} runs finished.* · ([\d.]+) s left", output.getvalue())
    assert found
    assert float(found[-1]) == pytest.approx(rest * taken, rel=0.3)
