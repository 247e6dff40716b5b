"""What a person sees of a run: data being made, a line of progress, the table at the end.

The line is read from the journal, so it is the same whether the workers are in this process, on this machine
or on others. On a terminal it stays in place; in a log it is a line every few seconds.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mac_ray.data.sets import Progress as DataProgress
from mac_ray.quantity import in_words
from mac_ray.retrieval.metrics import DIRECTIONS, MEASURES, shown_chance
from mac_ray.terminal import say
from mac_ray.tracking.journal import FILE_NAME, Record, read_from
from mac_ray.training.plan import Leg

POLL_S = 0.5
LOG_LINE_EVERY_S = 10.0


@contextlib.contextmanager
def preparing(console: Console) -> Iterator[DataProgress]:
    """A bar for each thing that has to be made before training."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                if not console.is_terminal:
                    say(console, f"{what} ({total})")
            bars.update(tasks[what], completed=done)

        yield show


class Follower(threading.Thread):
    """Shows the progress of a run while it is trained elsewhere; `stop` it when that has ended."""

    def __init__(
        self, run_folder: Path, plan: Sequence[Leg], step_costs: Sequence[float], console: Console
    ) -> None:
        """`step_costs`: of a step of each leg, in any unit; steps of one stage may take twice as long as another's."""
        super().__init__(daemon=True)
        self._journal = run_folder / FILE_NAME
        self._offset = self._journal.stat().st_size  # what an earlier attempt wrote was shown then
        self._plan, self._step_costs = plan, step_costs
        self._console = console
        self._ended = threading.Event()
        self._begun: tuple[float, int] | None = (
            None  # when the first step of this attempt was seen, and which
        )
        self._last_line = 0.0
        self._scores: dict[str, float] = {}

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        with self._console.status("starting workers …") if self._console.is_terminal else _Silent() as status:
            ended = False
            while not ended:
                ended = self._ended.wait(POLL_S)  # once more after the end, for the last records
                for record, end in read_from(self._journal, self._offset):
                    self._offset = end
                    if record["kind"] == "metrics" and (line := self._line(record)):
                        status.update(line)
                        if (
                            not self._console.is_terminal
                            and time.monotonic() - self._last_line > LOG_LINE_EVERY_S
                        ):
                            say(self._console, line)
                            self._last_line = time.monotonic()

    def _line(self, record: Record) -> str | None:
        values, step = record["values"], record["step"]
        self._scores |= {name: float(value) for name, value in values.items() if name == "val/t2v/R1"}
        if "train/loss" not in values:
            return None
        total = self._plan[-1].last
        leg = next(leg for leg in self._plan if step <= leg.last)
        now = record["time"] / 1000
        self._begun = self._begun or (now, step)
        since, first = self._begun
        done = self._cost(first, step)
        left = (now - since) / done * self._cost(step, total) if done else None
        parts = [
            f"stage {leg.stage.name} ({leg.number + 1}/{len(self._plan)})",
            f"epoch {values['train/epoch']:.1f}/{leg.stage.epochs:g}",
            f"step {step}/{total}",
            f"loss {float(values['train/loss']):.3f}",
            f"lr {values['train/learning_rate']:.1e}",
            f"{values['train/samples_per_second']:.0f} samples/s",
        ]
        parts += [f"val t2v R@1 {score:.1f}" for score in self._scores.values()]
        if left is not None:
            parts.append(f"{in_words(left)} left")
        return " · ".join(parts)

    def _cost(self, first: int, last: int) -> float:
        """Of the steps after `first`, up to `last`."""
        return sum(
            cost * max(min(last, leg.last) - max(first, leg.first), 0)
            for leg, cost in zip(self._plan, self._step_costs, strict=True)
        )


class _Silent(contextlib.nullcontext[None]):
    def __enter__(self) -> Any:
        return self

    def update(self, line: str) -> None:
        """A log has no line that stays in place."""


def final_tables(summary: dict[str, Any]) -> Group:
    """Scores with their 95% intervals and the level of chance; `summary` as training.results writes it."""
    tables = [_table("test split", summary)]
    for other in summary["also"]:
        frames, windows = other["sampling"]["frames"], other["sampling"]["windows"]
        words = f"{windows} windows of {frames} frames" if windows > 1 else f"{frames} frames"
        tables.append(_table(words, other))
    return Group(*tables)


def _table(words: str, summary: dict[str, Any]) -> Table:
    decoded, expected = summary["coverage"]
    table = Table(title=f"{summary['scored']}: {words}, {decoded} of {expected} samples scored")
    table.add_column("")
    for direction in DIRECTIONS:
        table.add_column({"t2v": "text → video", "v2t": "video → text"}[direction], justify="right")
        table.add_column("chance", justify="right", style="dim")
    for measure in MEASURES:
        row = [measure.replace("R", "R@") if measure.startswith("R") else measure]
        for direction in DIRECTIONS:
            row += _cells(summary, f"{direction}/{measure}")
        table.add_row(*row)
    table.add_section()
    table.add_row("Rsum", *_cells(summary, "Rsum"), "", "")
    return table


def _cells(summary: dict[str, Any], name: str) -> list[str]:
    low, high = summary["intervals"][name]
    return [f"{summary['metrics'][name]:.1f}  [{low:.1f}, {high:.1f}]", shown_chance(summary["chance"][name])]
