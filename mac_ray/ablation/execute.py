"""The runs of a sweep on Ray Tune.

A run of one worker is trained inside a re-used Tune actor, by the code that trains a run started by hand, with its
own journal and sender. A run of several workers is driven from a Tune actor that holds no resources of its own and
takes Ray Train workers. Tune schedules, counts and retries; what is finished, and where to go on, the run folders
say, so nothing of Tune's own state is ever restored.
"""

import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from mac_ray.ablation.locate import PlannedRun, each_once
from mac_ray.config import Cluster, Config, ConfigError
from mac_ray.data.manifest import ManifestError
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, RunError, in_one_line
from mac_ray.interrupts import interrupt_at_sigterm, sigterm_interrupts
from mac_ray.pretrain import Launch, pretrain, train_in_thread, train_on_ray
from mac_ray.ray_metrics import exported_run
from mac_ray.ray_start import start_ray
from mac_ray.ray_train import (
    lacking_room,
    living_nodes,
    nodes_without,
    require_shared,
    resources_per_worker,
    room_for_workers,
    say_gpus_left_idle,
    say_what_is_waited_for,
    wait_for_cluster,
    what_happened,
)
from mac_ray.terminal import say
from mac_ray.tracking.address import ENVIRONMENT_NAME, sqlite_file
from mac_ray.tracking.journal import (
    FAULT_TAG,
    FILE_NAME,
    BusyError,
    Journal,
    JournalError,
    patiently,
    status_of,
    summarize,
)
from mac_ray.tracking.process import try_lock
from mac_ray.training.distributed import device_of, release_memory
from mac_ray.training.folder import RunFolder
from mac_ray.training.loop import Outcome
from mac_ray.training.start import PreparedRun

# Of what drives a run of several workers, which have the CPUs and GPUs: Tune wants to reserve something, and this is a
# share of what the head node has and nobody counts.
HEAD = {"node:__internal_head__": 0.001}
DRIVER = {"cpu": 0, **HEAD}
MLFLOW_WAIT_S = 15.0  # in an actor, for the sender of a run that has ended
WAIT_FOR_ANOTHER_S = 5.0  # between looks at a run that another sweep is training
LOG_NAME = "console.log"  # in the run's folder: what a person who started it by hand would have seen
EXIT_BUSY = 75  # of a run that somebody else is training


@dataclass(frozen=True)
class Job:
    """One run as it travels to its actor."""

    config: Config
    identity: str
    folder: Path
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Site:
    """What the driver's process has, and an actor on whatever node is given."""

    folder: str  # the working directory: paths in configs are as they were given there
    launch: Launch
    uri: str | None  # of MLflow; an actor would look for it in the environment of whoever started its node

    @classmethod
    def here(cls, launch: Launch, uri: str | None) -> "Site":
        return cls(str(Path.cwd()), launch, uri)

    def enter(self) -> None:
        os.chdir(self.folder)  # Tune has moved to a folder of its own
        if self.uri is not None:
            os.environ[ENVIRONMENT_NAME] = self.uri


def at_once(configs: Sequence[Config], nodes: Sequence[Mapping[str, float]]) -> int:
    """How many of such runs fit on the nodes together, so that none waits for workers another holds.

    Raises ConfigError when not even one does.
    """
    clusters = _clusters(configs)
    for cluster in clusters:
        if sentence := lacking_room(cluster, cluster.fewest_workers, nodes):
            raise ConfigError(
                f"a run does not fit: {sentence}; ask for less (cluster.workers, cpus_per_worker, gpus_per_worker) or "
                "start more nodes"
            )
    return min(max(1, room_for_workers(cluster, nodes) // cluster.most_workers) for cluster in clusters)


def _clusters(configs: Sequence[Config]) -> list[Cluster]:
    """What is taken for a run."""
    return [most_demanding(configs)] if _in_actor(configs) else [config.cluster for config in configs]


def most_demanding(configs: Sequence[Config]) -> Cluster:
    """What an actor needs that trains one of these runs of one worker after another."""
    clusters = [config.cluster for config in configs]
    most = {
        name: max(getattr(cluster, name) for cluster in clusters)
        for name in ("cpus_per_worker", "gpus_per_worker")
    }
    return clusters[0].model_copy(update=most)


@contextmanager
def on_ray() -> Iterator[None]:
    """The cluster this job runs in, or one started on this machine."""
    # Tune's own table of trials would stand beside ours, and its tracebacks between our lines
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_PRINT_ALL_TRIAL_ERRORS": "0"}
    with sigterm_interrupts():
        start_ray(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        interrupt_at_sigterm()  # of which Ray has just made an exit
        try:
            yield
        finally:
            ray.shutdown()


def say_what_nodes_do_not_share(uri: str | None, console: Console) -> None:
    """Runs send themselves to MLflow from where they are trained. Ray must be initialised."""
    nodes = len(living_nodes())
    if nodes > 1 and uri and sqlite_file(uri) is not None:
        say(
            console,
            f"runs are trained on {nodes} nodes, and {uri} is a file of each of them: their runs meet only in an "
            "MLflow server; give its address as tracking.uri",
            "yellow",
        )


def require_seen(folder: Path, configs: Sequence[Config]) -> None:
    """Every node that workers or actors may be on sees the sweep's folder, and those of actors the working directory,
    from which they read what configs name; else one node would draw run after run, and fail all.

    Ray must be initialised. Raises RunError.
    """
    of_workers = resources_per_worker(most_demanding(configs))
    of_actors = of_workers if _in_actor(configs) else HEAD
    require_shared(folder, of_workers)
    if of_actors is HEAD:
        require_shared(folder, HEAD)
    if lacking := nodes_without(Path.cwd(), of_actors):
        raise RunError(
            f"runs read what their configs name from {Path.cwd()}, where the sweep was started, and there is no such "
            f"folder on {', '.join(lacking)}; submit the sweep with `ray job submit --working-dir .`, which takes it "
            "to every node, or start it in a folder that all nodes share"
        )


def fitting(configs: Sequence[Config], console: Console) -> int:
    """How many runs at once, now that the cluster has what one of each needs, for which it is given some time.

    Ray must be initialised. Raises ConfigError when it does not come to have it in cluster.start_timeout_s.
    """

    def lacking() -> str:
        try:
            fit_now()
        except ConfigError as error:
            return str(error)
        return ""

    def fit_now() -> int:
        return at_once(configs, living_nodes())

    wait_for_cluster(lacking, max(config.cluster.start_timeout_s for config in configs), console)
    say_gpus_left_idle([config.cluster for config in configs], console)
    together = fit_now()
    least = min(
        _clusters(configs), key=lambda one: (one.fewest_workers, one.gpus_per_worker, one.cpus_per_worker)
    )
    say_what_is_waited_for(least, least.fewest_workers, console)
    return together


def execute(jobs: Sequence[Job], folder: Path, uri: str | None, together: int) -> None:
    """Train them all, so many at a time; returns when each has ended, well or not.

    What somebody else is training is waited for when all others have ended, and here: an actor that waits would hold
    what that run may be waiting for. Tune's own files go to `folder`. Ray must be initialised. Raises
    KeyboardInterrupt.
    """
    how = tune.TuneConfig(max_concurrent_trials=together, reuse_actors=True)
    configs = [job.config for job in jobs]  # of all, which `together` is of, also where few are left
    site = Site.here(launch_of(configs), uri)
    while jobs:
        trainable = tune.with_parameters(_trial, jobs=list(jobs), site=site)
        results = fit(
            trainable,
            configs,
            folder,
            how,
            partial(_job_of, jobs),
            {"number": tune.grid_search(list(range(len(jobs))))},
        )
        codes = [(result.metrics or {}).get("exit_code") for result in results]
        # Tune keeps an interrupt to itself, and counts what it stopped then as if that had ended
        if sum(code is not None for code in codes) + results.num_errors < len(jobs):
            raise KeyboardInterrupt
        jobs = [
            job
            for result, code in zip(results, codes, strict=True)
            if code == EXIT_BUSY
            for job in _job_of(jobs, result.config)
        ]
        while jobs and all(RunFolder(job.folder).is_driven() for job in jobs):
            time.sleep(WAIT_FOR_ANOTHER_S)


def _job_of(jobs: Sequence[Job], parameters: Mapping[str, Any]) -> list[Job]:
    return [jobs[parameters["number"]]]


def fit(
    trainable: Any,
    configs: Sequence[Config],
    folder: Path,
    how: tune.TuneConfig,
    jobs_of: Callable[[Mapping[str, Any]], Sequence[Job]],
    space: Mapping[str, Any] | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> tune.ResultGrid:
    """Tune's trials to their end, each in an actor that holds what a run of one worker needs. `jobs_of` are those of
    the parameters of a trial."""
    cluster = most_demanding(configs)
    needs = {"cpu": cluster.cpus_per_worker, "gpu": cluster.gpus_per_worker} if _in_actor(configs) else DRIVER
    tuner = tune.Tuner(
        tune.with_resources(trainable, needs),
        param_space=dict(space or {}),
        tune_config=how,
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=cluster.max_failures),
            callbacks=[Closing(jobs_of), *callbacks],
        ),
    )
    with _own_interrupts():
        return tuner.fit()


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Tune takes Ctrl-C for itself, and leaves it so when it has ended: nobody would hear one after that."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # nobody else may, and Tune has not
            signal.signal(signal.SIGINT, before)


def launch_of(configs: Sequence[Config]) -> Launch:
    """How their runs are trained: in the actor itself where all are of one worker."""
    return train_in_actor if _in_actor(configs) else train_on_ray


def _in_actor(configs: Sequence[Config]) -> bool:
    return all(config.cluster.most_workers == 1 for config in configs)


class Closing(tune.Callback):  # type: ignore[misc]  # ray has no types
    """Says in the journals of a trial that Tune has given up what it failed of, where its own process could not."""

    def __init__(self, jobs_of: Callable[[Mapping[str, Any]], Sequence[Job]]) -> None:
        self._jobs_of = jobs_of

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # where Tune has just written it; what it offers to read comes from storage, where it is copied later
        kept = trial.pickled_error_file
        error = pickle.loads(Path(kept).read_bytes()) if kept else RunError("Ray Tune gave the run up")
        cause = what_happened(error)
        # what keeps it from being written ends no other run; of a search, whoever reads it says so
        with suppress(OSError, JournalError):
            # it trains one after the other: what follows was never begun
            unended = (job for job in self._jobs_of(trial.config) if status_of(job.folder) != "FINISHED")
            if job := next(unended, None):
                said = str(cause) if isinstance(cause, RunError) else in_one_line(cause)
                close(job, said, since=trial.run_metadata.start_time or 0.0)


def close(job: Job, reason: str, since: float = 0.0) -> None:
    """A run whose process is gone without having said so: on another node than its own, nobody could tell.

    `since`: when its process was started, seconds since 1970; what its journal says from before is of another. Raises
    BusyError where a worker writes it that Ray has not stopped yet.
    """
    status = status_of(job.folder)
    if status == "FINISHED":
        return
    if status in ("FAILED", "KILLED") and summarize(job.folder).updated >= 1e3 * since:
        return
    lock = try_lock(RunFolder(job.folder).driver_lock)
    if lock is None:  # somebody is training it
        return
    try:
        _fail(job, reason)
    finally:
        os.close(lock)


def _fail(job: Job, reason: str) -> None:
    opened = partial(
        Journal.open_or_create,
        job.folder,
        name=job.folder.name,
        experiment=job.config.tracking.experiment,
        identity=job.identity,
    )
    with patiently(opened) as journal:
        journal.tags({**job.tags, FAULT_TAG: "machine"})
        journal.status("FAILED", reason)


def _trial(parameters: Mapping[str, Any], jobs: Sequence[Job], site: Site) -> None:
    """One run. If it fails in a way that was foreseen, its journal says so, and that is its result; what kills the
    process, or nobody has foreseen, is retried up to cluster.max_failures times."""
    site.enter()
    (job,) = _job_of(jobs, parameters)
    tune.report({"exit_code": run_or_retry(job, site)})


def run_or_retry(job: Job, site: Site) -> int:
    """Raises OSError of a run in this process, such as of a full disk, which Tune retries as Ray Train would."""
    to_retry: list[OSError] = []

    def launch(run: PreparedRun, console: Console) -> Outcome:
        try:
            return site.launch(run, console)
        except OSError as error:
            to_retry.append(error)
            raise

    code = run_quietly(job, launch)
    if to_retry and _in_actor([job.config]):
        raise to_retry[0]
    return code


def train_in_actor(run: PreparedRun, console: Console) -> Outcome:
    """In this thread, exporting what the journal says; of several workers, rank 0 does that.

    Ray does not hide GPUs from an actor that asked for none, so what is asked for decides.
    """
    device = device_of(run.config.cluster)
    try:
        with exported_run(run.folder.path, device):
            return train_in_thread(run, device)
    finally:
        release_memory()


def run_quietly(job: Job, launch: Launch) -> int:
    """As `python -m mac_ray.pretrain` with its output in a file; the exit code, EXIT_BUSY where another sweep is
    training the same run.

    What keeps the run from being started on this node, where it could be on the driver's, is why it failed. Raises
    RunError on a node that does not see the folder that the driver has made.
    """
    if not (job.folder / FILE_NAME).exists():
        raise RunError(
            f"{job.folder} is not seen by {socket.gethostname()}; let storage.runs be a folder that all nodes share"
        )
    with (job.folder / LOG_NAME).open("a") as log:
        console = Console(file=log, width=120)
        try:
            # what it does not come to send meanwhile, the sweep sends at its end; an actor holds what others wait for
            return pretrain(
                job.config,
                console,
                launch,
                more_tags=job.tags,
                mlflow_wait_s=MLFLOW_WAIT_S,
                planned=job.identity,
            )
        except (ConfigError, ManifestError) as error:
            say(console, f"error: {error}")
            close(job, str(error), since=time.time())
            # somebody else may be training it, from where it can be
            return EXIT_BUSY if RunFolder(job.folder).is_driven() else EXIT_BAD_INPUT
        except BusyError as error:
            if status_of(job.folder) == "FINISHED":
                return 0
            if RunFolder(job.folder).is_driven():
                return EXIT_BUSY
            say(console, f"error: {error}")  # written by what nobody drives, such as a worker that hangs
            return EXIT_FAILED


def to_jobs(runs: Sequence[PlannedRun], tags: Mapping[str, Mapping[str, str]]) -> list[Job]:
    """What is to be trained: each run once, however many points it stands for. `tags` by identity."""
    return [Job(run.point.config, run.identity, run.folder, tags[run.identity]) for run in each_once(runs)]
