"""What the engine of sweeps costs beside training: around each run, and by point of a large study.

A sweep of small runs is trained for the first. For the second, the folder of one of them stands, under their own
identities, for the finished runs of a study of many points, which is then planned, looked up and reported like any.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console

from mac_ray.ablation.command import is_finished, run_sweep
from mac_ray.ablation.locate import Locator, PlannedRun, require_readable, require_results
from mac_ray.ablation.outcome import outcome_in
from mac_ray.ablation.plan import expand, rows_of
from mac_ray.ablation.record import Context
from mac_ray.ablation.report import write_report
from mac_ray.ablation.reuse import Archive
from mac_ray.ablation.sweep import Sweep
from mac_ray.ablation.table import build_table
from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.errors import RunError
from mac_ray.pretrain import pretrain, train_here
from mac_ray.tracking.environment import tame_mlflow
from mac_ray.tracking.journal import FILE_NAME, Record, finished_elsewhere, read, summarize
from mac_ray.training.folder import RunFolder

VARIED = "optimizer.learning_rate"
SMALL = [
    *(f"data.sets.shapes.{name}={value}" for name, value in (("train", 64), ("val", 32), ("test", 500))),
    "data.sets.shapes.size=32",
    "data.image_size=32",
    "model.video.patch_size=8",
    "model.video.width=32",
    "model.video.depth=1",
    "model.video.num_heads=2",
    "model.text.width=32",
    "model.text.depth=1",
    "model.text.num_heads=2",
    "stages.0.epochs=2",
    "stages.0.batch_size=32",
    "stages.1.epochs=1",
    "stages.1.batch_size=32",
    "cluster.threads=1",
]


@dataclass(frozen=True)
class EngineReport:
    """In seconds, of this machine."""

    runs: int  # trained by a sweep
    start: float | None  # from the command to the first run; None where nothing is trained
    between: (
        float | None
    )  # from the end of a run to the start of the next in its place, median; None without a next
    within: float | None  # of a run beside its steps: data, model, checkpoints, scoring; median
    points: int
    plan: float  # the whole study laid out, and every run identified
    folders: float  # which of its runs are finished and whole
    send: float  # all of them to MLflow, as after it was away
    look_up: float  # what MLflow has of them, asked once
    read: float  # their results
    table: float  # made of these
    report: float  # the page, tables and charts as files


def measure(points: int, runs: int) -> EngineReport:
    """A study of so many points, after a sweep of so many small runs; of none, Ray is not started."""
    tame_mlflow()
    console = Console(quiet=True)
    with TemporaryDirectory(ignore_cleanup_errors=True) as made, chdir(made):
        here = Path.cwd()
        uri = f"sqlite:///{here / 'mlflow.db'}"
        overrides = [*SMALL, f"tracking.uri={uri}", f"storage.cache={here / 'cache'}"]
        base = here / "base.yaml"
        base.write_text(config_file.to_yaml(config_file.load(None, overrides)))
        config = config_file.load(str(base))
        pretrain(config, console, train_here)
        (template,) = _finished(here / "runs")
        start = between = within = None
        if runs:
            begun = time.time()
            run_sweep(_study("trained", base, runs, seed=1), console)
            journals = [list(read(folder / FILE_NAME)) for folder in _finished(here / "runs", "trained.*")]
            times = [begun_and_ended(journal) for journal in journals]
            start = min(began for began, _ in times) - begun
            between = median(found) if (found := gaps(times)) else None
            within = median(map(beside_steps, journals))
        return EngineReport(
            runs, start, between, within, points, **_of_points(points, base, template, uri, config, console)
        )


def _of_points(
    points: int, base: Path, template: Path, uri: str, config: Config, console: Console
) -> dict[str, float]:
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        seconds[what] = time.perf_counter() - begun

    from mac_ray.tracking.sender import replay

    sweep = _study(
        "planned", base, points, seed=2
    )  # so that none of its runs is one of those that were trained
    with timed("plan"):
        runs = Locator(Path.cwd(), Path.cwd(), lambda *_: None).planned(expand(sweep))
    for run in runs:
        stand_in(run, template)
    with timed("folders"):
        require_readable(runs)
        require_results(runs)
        assert all(map(is_finished, runs))
    with timed("send"):
        for run in runs:
            replay(run.folder, uri)
    archive = Archive(uri, config.tracking.experiment, console)
    with timed("look_up"):
        assert archive.look_up().keys() >= {run.identity for run in runs}
    with timed("read"):
        outcomes = [outcome_in(run.folder, run.point.row.label, run.point.seed, run.identity) for run in runs]
    with timed("table"):
        table = build_table(sweep, rows_of(sweep), outcomes)
    folder = Path("report")
    folder.mkdir()
    with timed("report"):
        write_report(folder, table, sweep, outcomes, Context("python -m mac_ray.bench engine"))
    return seconds


def _study(name: str, base: Path, points: int, seed: int) -> Sweep:
    rates = tuple(1e-4 * (1 + number / points) for number in range(points))
    question = "What does the engine cost?"
    return Sweep(name=name, question=question, base=str(base), factors={VARIED: rates}, seeds=(seed,))


def _finished(runs: Path, name: str = "*") -> list[Path]:
    """Raises RunError for one that is not, and KeyboardInterrupt where somebody wanted that."""
    folders = [path.parent for path in runs.glob(f"{name}/{FILE_NAME}")]
    for found in map(summarize, folders):
        if found.status == "KILLED":
            raise KeyboardInterrupt
        if found.status != "FINISHED":
            raise RunError(f"a small run that is timed is {found.status}: {found.reason}")
    return folders


def stand_in(run: PlannedRun, template: Path) -> None:
    """The folder of a finished run under the name and identity of another, without its checkpoints."""
    files, own_files = RunFolder(template), RunFolder(run.folder)
    own_files.pictures.mkdir(parents=True)
    for path in (files.config, files.scores, files.ranks, *files.pictures.iterdir()):
        os.link(path, run.folder / path.relative_to(template))
    records: list[Record] = []
    for record in read(template / FILE_NAME):
        own = {"key": uuid.uuid4().hex, "name": run.folder.name, "identity": run.identity}
        records.append({**record, **own} if record["kind"] == "run" else record)
    with finished_elsewhere(run.folder, records) as size:
        if size is None:
            raise RunError(f"{run.folder} has a journal already")


def begun_and_ended(journal: Sequence[Record]) -> tuple[float, float]:
    """When a run was started and when it had finished, in seconds since 1970."""
    times = {record["status"]: record["time"] / 1000 for record in journal if record["kind"] == "status"}
    return times["RUNNING"], times["FINISHED"]


def gaps(runs: Sequence[tuple[float, float]]) -> list[float]:
    """Of runs that began and ended at these times, how long each place stood empty before the next began there."""
    ended = sorted(end for _, end in runs)
    found = []
    for began in sorted(began for began, _ in runs):
        free = [end for end in ended if end <= began]
        if free:  # else it began in a place of its own
            ended.remove(free[-1])
            found.append(began - free[-1])
    return found


def beside_steps(journal: Sequence[Record]) -> float:
    """Seconds of a run that were not training."""
    began, ended = begun_and_ended(journal)
    trained = [
        record["values"]["cost/seconds"]
        for record in journal
        if record["kind"] == "metrics" and "cost/seconds" in record["values"]
    ]
    return ended - began - float(trained[-1])
