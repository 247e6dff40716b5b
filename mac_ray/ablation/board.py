"""What a person sees of a sweep under way: a bar per run that trains, what is done, the best so far, the time left.

Read from the journals, so it does not matter where runs train, or whether another sweep trains them.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.outcome import share_made
from mac_ray.ablation.sweep import Sweep
from mac_ray.quantity import in_words
from mac_ray.terminal import say
from mac_ray.tracking.followed import Followed
from mac_ray.tracking.journal import FILE_NAME, Summary

LOOK_EVERY_S = 2.0
BAR = 20  # characters
BROKEN_OFF = ("FAILED", "KILLED")
GOES_ON = ("", "PENDING", "RUNNING")


class Board(threading.Thread):
    """Looks at the runs every so often until stopped. On a terminal a table in place, in a log a line per event."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        flops: Mapping[str, float],
        sweep: Sweep,
        console: Console,
        to_come: Callable[[], int] = lambda: 0,
    ) -> None:
        """`flops` are planned ones, of each run by identity; `to_come` says how many runs are yet to come by `add`."""
        super().__init__(daemon=True)
        self._runs = {run.identity: run for run in runs}
        self._flops = dict(flops)
        self._watched, self._best = f"val/{sweep.metric}", max if sweep.maximize else min
        self._to_come = to_come
        self._console = console
        self._ended = threading.Event()
        self._told: dict[str, str] = {}
        self._begun = time.monotonic()
        # of each run when it was first looked at: the share that had been made, and the length of its journal if it was
        # left unfinished; until more is written there it waits for its turn, whatever status it was left with
        self._before: dict[str, float] = {}
        self._leftover: dict[str, int] = {}
        self._given_up: set[str] = set()  # of a search: runs of trials that are over
        self._followed: dict[str, Followed] = {}
        self._reading = threading.Lock()

    def add(self, run: PlannedRun, flops: float) -> None:
        # what the thread iterates over is replaced, not changed
        self._flops = self._flops | {run.identity: flops}
        self._runs = self._runs | {run.identity: run}
        self._given_up = self._given_up - {run.identity}  # a later trial may have drawn the same
        self._look_first()

    def give_up(self, runs: Iterable[PlannedRun]) -> None:
        """They are not trained any more, whatever they have come to."""
        self._given_up = self._given_up.union(run.identity for run in runs)

    def states(self) -> dict[str, int]:
        """How many runs are in each state; what was given up before it ended is in none."""
        counts = dict.fromkeys(("PENDING", "RUNNING", "FINISHED", "FAILED", "KILLED"), 0)
        found = self._summaries()
        for identity in self._runs:
            status = (found[identity].status if identity in found else None) or "PENDING"
            if status not in GOES_ON or identity not in self._given_up:
                counts[status] += 1
        return counts

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        self._begun = time.monotonic()
        self._look_first()
        if self._console.is_terminal:
            with Live(console=self._console, refresh_per_second=2) as live:
                while not self._ended.wait(LOOK_EVERY_S):
                    live.update(self._table())
                live.update(self._table())
        else:
            while not self._ended.wait(LOOK_EVERY_S):
                self._tell()
            self._tell()

    def _look_first(self) -> None:
        """At runs that are new here. What they have come to is no news, and no time of this sweep went into it."""
        with self._reading:
            for name, run in self._runs.items():  # in the order of the plan, which tables and logs keep
                if name in self._before:
                    continue
                followed = self._followed[name] = Followed(run.folder / FILE_NAME)
                followed.read_on()
                found = followed.summary
                self._before[name] = self._share(name, found)
                if found.status in BROKEN_OFF or found.is_abandoned:
                    self._leftover[name] = followed.read
                else:
                    self._told[name] = found.status or ""

    def _summaries(self) -> dict[str, Summary]:
        """Of those that have finished, begun since the first look, or are not trained any more. Several threads ask."""
        self._look_first()
        with self._reading:
            for followed in self._followed.values():
                followed.read_on()
            return {
                name: followed.summary
                for name, followed in self._followed.items()
                if followed.read and (followed.read != self._leftover.get(name) or name in self._given_up)
            }

    def _share(self, identity: str, summary: Summary) -> float:
        return share_made(summary, self._flops[identity])

    def _left(self, summaries: Mapping[str, Summary]) -> str:
        shares = self._before | {name: self._share(name, found) for name, found in summaries.items()}
        gained = sum((share - self._before[name]) * self._flops[name] for name, share in shares.items())
        over = self._given_up | {name for name, found in summaries.items() if found.status in BROKEN_OFF}
        to_go = sum((1 - share) * self._flops[name] for name, share in shares.items() if name not in over)
        if shares:  # runs to come are taken to be like these
            to_go += self._to_come() * sum(self._flops.values()) / len(shares)
        if gained <= 0 or to_go <= 0:
            return ""
        return f" · {in_words((time.monotonic() - self._begun) / gained * to_go)} left"

    def _headline(self, summaries: Mapping[str, Summary]) -> str:
        ended = {"FINISHED": 0, "FAILED": 0, "KILLED": 0}
        for found in summaries.values():
            if found.status in ended:
                ended[found.status] += 1
        scores = {
            name: found.latest[self._watched][1]
            for name, found in summaries.items()
            if self._watched in found.latest
        }
        best = self._best(scores, key=scores.__getitem__, default=None)
        said = f" · best {self._watched} {scores[best]:.1f}: {self._runs[best].point.label}" if best else ""
        failed = f" · {ended['FAILED']} failed" if ended["FAILED"] else ""
        stopped = f" · {ended['KILLED']} stopped" if ended["KILLED"] else ""
        done = f"{ended['FINISHED']} of {len(self._runs) + self._to_come()} runs finished"
        return f"{done}{failed}{stopped}{self._left(summaries)}{said}"

    def _tell(self) -> None:
        summaries = self._summaries()
        for name, found in summaries.items():
            status = found.status or ""  # once: another thread may read on
            if status not in GOES_ON and self._told.get(name) != status:
                say(self._console, f"{self._runs[name].point.label}: {status} · {self._headline(summaries)}")
            self._told[name] = status

    def _table(self) -> Table:
        summaries = self._summaries()
        headline = escape(self._headline(summaries))
        table = Table(title=headline, title_justify="left", box=None, show_header=False)
        for name, found in summaries.items():
            if found.status == "RUNNING" and name not in self._given_up:
                share = self._share(name, found)
                filled = round(share * BAR)
                latest = found.latest.get(self._watched)
                score = f"{self._watched} {latest[1]:.1f}" if latest else ""
                table.add_row(
                    escape(self._runs[name].point.label),
                    "━" * filled + "╌" * (BAR - filled),
                    f"{share:.0%}",
                    score,
                )
        return table
