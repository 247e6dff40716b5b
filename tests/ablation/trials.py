"""Runs of a search as their folders tell of them, written without training anything, or held by another process."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.plan import Point, Row, config_of
from mac_ray.ablation.proposals import Plan, Proposals, UntrainableError
from mac_ray.ablation.study import open_study
from mac_ray.ablation.sweep import Choice, Conditional, Knob, Range, Search, Sweep
from mac_ray.config import Config, ConfigError
from mac_ray.tracking.journal import DRIVER_TAG, FAULT_TAG, Journal, Status
from mac_ray.training.folder import RunFolder
from mac_ray.training.plan import Leg

PARENT = "key-of-the-sweep"
STEPS = 100  # of a run, so that a step is a percent
STRATEGY, RATIO, RATE = "masking.video.strategy", "masking.video.ratio", "optimizer.learning_rate"
SPACE: Mapping[str, Any] = {
    RATIO: Knob(domain=Range(low=0.1, high=0.9), only=Conditional(on=STRATEGY, among=("random", "tube"))),
    STRATEGY: Knob(domain=Choice(values=("none", "random", "tube"))),
    RATE: Knob(domain=Range(low=1e-4, high=1e-2, log=True)),
}


def sweep_of(search: Search, **given: Any) -> Sweep:
    asked = {"name": "s", "question": "?", "base": "configs/ablation.yaml", "seeds": (0,), **given}
    return Sweep(**asked, search=search)


class Driver:
    """A driver of a search that can be let go of at any moment, as one that is killed."""

    def __init__(
        self,
        folder: Path,
        search: Search,
        key: str = PARENT,
        steps: int = STEPS,
        study: str = "sweep-s",
        **given: Any,
    ) -> None:
        self.folder, self.sweep = folder, sweep_of(search, **given)
        folder.mkdir(exist_ok=True)
        self.study = open_study(self.sweep, search, study, folder, key)
        self.given_up: list[str] = []  # identities of runs
        self._search, self._steps = search, steps
        self.proposals = self.planned_by(self.plan)

    def planned_by(self, plan: Plan) -> Proposals:
        return Proposals(self.study, self.sweep, self._search, PARENT, plan, self.legs_of, self.give_up)

    def legs_of(self, config: Config) -> list[Leg]:
        """Of a run of one stage."""
        return [Leg(config.stages[-1], 0, 0, self._steps, self._steps, {})]

    def give_up(self, runs: Sequence[PlannedRun]) -> None:
        self.given_up += [run.identity for run in runs]

    def plan(self, number: int, values: Mapping[str, Any]) -> list[PlannedRun]:
        """A run is known by its values and seed, as by an identity."""
        runs = []
        for seed in self.sweep.seeds:
            try:
                config = config_of(self.sweep, values, seed)
            except ConfigError as error:
                raise UntrainableError(str(error)) from error
            identity = hashlib.sha256(f"{sorted(values.items())}-{seed}".encode()).hexdigest()
            runs.append(
                PlannedRun(Point(Row(str(number), values), seed, config), identity, self.folder / identity)
            )
        return runs

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.trials]


@contextmanager
def driven(folder: Path) -> Iterator[None]:
    """A run by another process, which has its lock until it is ended."""
    folder.mkdir(exist_ok=True)
    with locked(RunFolder(folder).driver_lock):
        yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """By another process, until it is ended."""
    program = (
        "import sys; from pathlib import Path; from mac_ray.tracking.process import try_lock\n"
        "assert try_lock(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"locked\n"
        yield
        other.communicate()


def write_run(
    run: PlannedRun,
    status: Status,
    scores: Sequence[tuple[int, float]] = (),
    reason: str = "",
    flops: float = 1e12,
    parent: str = PARENT,
    fault: str = "recipe",
) -> None:
    """What a run leaves in its journal; `scores` are (step, val/t2v/R1)."""
    with Journal.open_or_create(run.folder, name="r", experiment="e", identity=run.identity) as journal:
        journal.status("RUNNING")
        journal.tags({DRIVER_TAG: parent})
        for step, score in scores:
            journal.metrics(step, {"val/t2v/R1": score, "cost/flops": flops * step / STEPS})
        if status == "FAILED":
            journal.tags({FAULT_TAG: fault})
        if status != "RUNNING":
            journal.status(status, reason)
