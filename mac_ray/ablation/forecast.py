"""How long the rest of a sweep takes on this cluster: what a dry run says, and no more than a forecast.

Finished runs say how long a run takes. Before there are any, a few steps are timed on this machine, with nothing beside
them. Evaluation, and what starts and ends a run, are left out.
"""

import heapq
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console

from mac_ray.ablation.budget import Calculator
from mac_ray.ablation.execute import at_once, on_ray
from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.outcome import Outcome, share_left
from mac_ray.config import ConfigError
from mac_ray.errors import RunError
from mac_ray.quantity import in_words
from mac_ray.ray_train import living_nodes
from mac_ray.terminal import say

Task = Sequence[PlannedRun]  # trained one after the other, such as the seeds of a trial


@dataclass(frozen=True)
class Forecast:
    seconds: float  # of training, until the last run has ended
    together: int  # tasks at a time
    source: str  # what the seconds of a run rest on

    @property
    def sentence(self) -> str:
        beside = f"{self.together} at a time" if self.together > 1 else "one at a time"
        return f"about {in_words(self.seconds)} of training here, {beside}, by {self.source}"


def say_forecast(
    finished: Iterable[Outcome], to_go: Sequence[Task], calculator: Calculator, console: Console
) -> None:
    """As `forecast`; where there can be none, why."""
    if not to_go:
        return
    try:
        say(console, forecast(finished, to_go, calculator).sentence)
    except (ConfigError, RunError) as error:
        say(console, f"how long that takes is not known: {error}", "yellow")


def forecast(finished: Iterable[Outcome], to_go: Sequence[Task], calculator: Calculator) -> Forecast:
    """For what is to go, at least one task, on the cluster that the sweep would run on.

    Raises ConfigError for a cluster on which no run fits, and what timing steps raises.
    """
    with on_ray():
        nodes = living_nodes()
    runs = [run for task in to_go for run in task]
    together = at_once([run.point.config for run in runs], nodes)
    of_row, source = seconds_of(finished, runs, calculator)
    # a row's cost does not depend on its seed
    configs = {run.point.row.label: run.point.config for run in runs}
    flops = {label: calculator.flops(config) for label, config in configs.items()}

    def seconds_left(run: PlannedRun) -> float:
        label = run.point.row.label
        return of_row[label] * share_left(run.folder, flops[label])

    seconds = [sum(map(seconds_left, task)) for task in to_go]
    return Forecast(until_the_last(seconds, together), together, source)


def seconds_of(
    finished: Iterable[Outcome], to_go: Sequence[PlannedRun], calculator: Calculator
) -> tuple[dict[str, float], str]:
    """Of a run to go of each row, by its label; and what they rest on."""
    rows = {run.point.row.label: run.point.config for run in to_go}
    if calculator.measured:
        return {
            label: calculator.seconds(config) for label, config in rows.items()
        }, "the budget's timed steps"
    known: dict[str, list[float]] = {}
    flops, seconds, devices = 0.0, 0.0, set()
    for outcome in finished:
        if {"flops", "seconds"} <= outcome.costs.keys():
            known.setdefault(outcome.row, []).append(outcome.costs["seconds"])
            flops, seconds = flops + outcome.costs["flops"], seconds + outcome.costs["seconds"]
            devices.add(outcome.device)
    source = f"finished runs on {' and '.join(sorted(devices - {''})) or 'some device'}"
    if not known:
        config = to_go[0].point.config
        flops, seconds = calculator.flops(config), calculator.seconds_by_few_steps(config)
        source = "a few steps timed just now"
    return {
        label: statistics.mean(known[label]) if label in known else calculator.flops(config) / flops * seconds
        for label, config in rows.items()
    }, source


def until_the_last(seconds: Sequence[float], together: int) -> float:
    """Of tasks that start in this order, each as soon as one of `together` places is free."""
    places = [0.0] * together
    for one in seconds:
        heapq.heapreplace(places, places[0] + one)
    return max(places)
