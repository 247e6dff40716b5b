"""How long the rest of a sweep takes on this cluster: what a dry run says, and no more than a forecast.

Finished runs say how long a run takes. Before there are any, a few steps are timed on this machine, with nothing beside
them. Evaluation, and what starts and ends a run, are left out.
"""

import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from rich.console import Console

from mac_ray.ablation.budget import Calculator
from mac_ray.ablation.execute import at_once, on_ray
from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.outcome import outcome_in
from mac_ray.config import ConfigError
from mac_ray.console import say
from mac_ray.duration import in_words
from mac_ray.tracking.journal import status_of


@dataclass(frozen=True)
class Forecast:
    seconds: float  # of training, until the last run has ended
    together: int  # runs at a time
    source: str  # what the seconds of a run rest on

    @property
    def sentence(self) -> str:
        beside = f"{self.together} at a time" if self.together > 1 else "one at a time"
        return f"about {in_words(self.seconds)} of training here, {beside}, by {self.source}"


def say_forecast(
    runs: Sequence[PlannedRun], to_go: Sequence[PlannedRun], calculator: Calculator, console: Console
) -> None:
    """As `forecast`; where there can be none, why."""
    if not to_go:
        return
    try:
        say(console, forecast(runs, to_go, calculator).sentence)
    except ConfigError as error:
        say(console, f"how long they take is not known: {error}", "yellow")


def forecast(runs: Sequence[PlannedRun], to_go: Sequence[PlannedRun], calculator: Calculator) -> Forecast:
    """For the runs `to_go`, at least one, by what is finished of `runs`, on the cluster that the sweep would run on.

    Raises ConfigError for a cluster on which no run fits, and where nothing tells how long one takes.
    """
    with on_ray():
        cluster = ray.cluster_resources()
    together = min(at_once(run.point.config, cluster) for run in to_go)
    seconds, source = seconds_of(runs, to_go, calculator)
    return Forecast(until_the_last(seconds, together), together, source)


def seconds_of(
    runs: Sequence[PlannedRun], to_go: Sequence[PlannedRun], calculator: Calculator
) -> tuple[list[float], str]:
    """Of each run to go, and what they rest on."""
    if calculator.measured:
        return [calculator.seconds(run.point.config) for run in to_go], "the steps timed for the budget"
    by_row: dict[str, list[float]] = {}
    flops, seconds = 0.0, 0.0  # of all that are finished
    for run in runs:
        costs = outcome_in(run.folder, run.point.row.label, run.point.seed, run.identity).costs
        if status_of(run.folder) == "FINISHED" and {"flops", "seconds"} <= costs.keys():
            by_row.setdefault(run.point.row.label, []).append(costs["seconds"])
            flops, seconds = flops + costs["flops"], seconds + costs["seconds"]
    source = "what the finished runs took"
    if not by_row:
        config = to_go[0].point.config
        flops, seconds = calculator.flops(config), calculator.seconds_by_few_steps(config)
        source = "a few steps timed just now"
    rows = {run.point.row.label: run.point.config for run in to_go}
    of_row = {
        label: statistics.mean(by_row[label])
        if label in by_row
        else calculator.flops(config) / flops * seconds
        for label, config in rows.items()
    }
    return [of_row[run.point.row.label] for run in to_go], source


def until_the_last(seconds: Sequence[float], together: int) -> float:
    """Of runs that start in this order, each as soon as one of `together` places is free."""
    places = [0.0] * together
    for one in seconds:
        heapq.heapreplace(places, places[0] + one)
    return max(places)
