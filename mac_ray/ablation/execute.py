"""The runs of a sweep on Ray Tune.

A run of one worker is trained inside a re-used Tune actor, by the code that trains a run started by hand, with its
own journal and sender. A run of several workers is driven from a Tune actor that holds no resources of its own and
takes Ray Train workers. Tune schedules, counts and retries; what is finished, and where to go on, the run folders
say, so nothing of Tune's own state is ever restored.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from mac_ray.ablation.locate import PlannedRun
from mac_ray.config import Config, ConfigError
from mac_ray.console import say
from mac_ray.data.manifest import ManifestError
from mac_ray.pretrain import EXIT_BAD_INPUT, Launch, pretrain, train_in_thread, train_on_ray
from mac_ray.ray_metrics import exported_run
from mac_ray.tracking.journal import FAULT_TAG, BusyError, Journal, status_of
from mac_ray.training.distributed import device_of
from mac_ray.training.loop import Outcome
from mac_ray.training.start import PreparedRun

# Of what drives a run of several workers, which have the CPUs and GPUs: Tune wants to reserve something, and this is a
# share of what the head node has and nobody counts.
DRIVER = {"cpu": 0, "node:__internal_head__": 0.001}
WAIT_FOR_ANOTHER_S = 5.0  # between looks at a run that another sweep is training
LOG_NAME = "console.log"  # in the run's folder: what a person who started it by hand would have seen


@dataclass(frozen=True)
class Job:
    """One run as it travels to its actor."""

    config: Config
    identity: str
    folder: Path
    tags: Mapping[str, str]


def resources_of(config: Config) -> dict[str, float]:
    """What one run takes of the cluster, of Ray's CPU and GPU."""
    cluster = config.cluster
    return {
        "CPU": float(cluster.cpus_per_worker * cluster.most_workers),
        "GPU": cluster.gpus_per_worker * cluster.most_workers,
    }


def at_once(config: Config, cluster: Mapping[str, float]) -> int:
    """How many such runs fit in the cluster together, so that none waits for workers another holds.

    Raises ConfigError when not even one does.
    """
    wanted = {name: amount for name, amount in resources_of(config).items() if amount}
    most = min(int(cluster.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items())
    if most < 1:
        asked = " and ".join(f"{amount:g} {name}s" for name, amount in wanted.items())
        there = " and ".join(f"{cluster.get(name, 0.0):g} {name}s" for name in wanted)
        raise ConfigError(
            f"a run needs {asked} (cluster.workers, cpus_per_worker, gpus_per_worker), but the cluster has {there}; "
            "ask for less or start more nodes"
        )
    return most


@contextmanager
def on_ray() -> Iterator[None]:
    """The cluster this job runs in, or one started on this machine."""
    # Tune's own table of trials would stand beside ours
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def say_what_nodes_do_not_share(uri: str | None, console: Console) -> None:
    """Runs send themselves to MLflow from where they are trained. Ray must be initialised."""
    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1 and uri and uri.startswith(("sqlite:", "file:")):
        say(
            console,
            f"runs are trained on {nodes} nodes, and {uri} is a file of each of them: their runs meet only in an "
            "MLflow server; give its address as tracking.uri",
            "yellow",
        )


def execute(jobs: Sequence[Job], folder: Path) -> None:
    """Train them all, as many at a time as fit; returns when each has ended, well or not.

    Tune's own files go to `folder`. Ray must be initialised. Raises ConfigError when the cluster is too small, and
    KeyboardInterrupt.
    """
    configs = [job.config for job in jobs]
    trainable = tune.with_parameters(_trial, jobs=list(jobs), here=str(Path.cwd()), launch=launch_of(configs))
    together = min(at_once(config, ray.cluster_resources()) for config in configs)
    how = tune.TuneConfig(max_concurrent_trials=together, reuse_actors=True)
    results = fit(trainable, configs, folder, how, {"number": tune.grid_search(list(range(len(jobs))))})
    # Tune keeps an interrupt to itself, and counts what it stopped then as if that had ended
    ended = sum("exit_code" in (result.metrics or {}) for result in results)
    if ended + results.num_errors < len(jobs):
        raise KeyboardInterrupt


def fit(
    trainable: Any,
    configs: Sequence[Config],
    folder: Path,
    how: tune.TuneConfig,
    space: Mapping[str, Any] | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> tune.ResultGrid:
    """Tune's trials to their end, each in an actor that holds what a run of one worker needs."""
    clusters = [config.cluster for config in configs]
    # an actor is used for one run after another, so it has what the most demanding of them needs
    needs = (
        {
            "cpu": max(cluster.cpus_per_worker for cluster in clusters),
            "gpu": max(cluster.gpus_per_worker for cluster in clusters),
        }
        if _in_actor(configs)
        else DRIVER
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, needs),
        param_space=dict(space or {}),
        tune_config=how,
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=clusters[0].max_failures),
            callbacks=list(callbacks),
        ),
    )
    return tuner.fit()


def launch_of(configs: Sequence[Config]) -> Launch:
    """How their runs are trained: in the actor itself where all are of one worker."""
    return train_in_actor if _in_actor(configs) else train_on_ray


def _in_actor(configs: Sequence[Config]) -> bool:
    return all(config.cluster.most_workers == 1 for config in configs)


def _trial(parameters: Mapping[str, Any], jobs: Sequence[Job], here: str, launch: Launch) -> None:
    """One run. If it fails, its journal says so, and that is its result; what kills the process is retried."""
    os.chdir(here)  # Tune moves to a folder of its own, but paths in configs are as they were given
    tune.report({"exit_code": run_quietly(jobs[parameters["number"]], launch)})


def train_in_actor(run: PreparedRun, console: Console) -> Outcome:
    """In this thread, exporting what the journal says; of several workers, rank 0 does that.

    Ray does not hide GPUs from an actor that asked for none, so what is asked for decides.
    """
    device = device_of(run.config.cluster)
    with exported_run(run.folder.path, device):
        return train_in_thread(run, device)


def run_quietly(job: Job, launch: Launch) -> int:
    """As `python -m mac_ray.pretrain` with its output in a file; the exit code.

    Waits where another sweep is training the same run, and takes its result. What keeps the run from being started on
    this node, where it could be on the driver's, is why it failed.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / LOG_NAME).open("a") as log:
        console = Console(file=log, width=120)
        while True:
            try:
                return pretrain(job.config, console, launch, more_tags=job.tags)
            except (ConfigError, ManifestError) as error:
                say(console, f"error: {error}")
                with Journal.open_or_create(
                    job.folder,
                    name=job.folder.name,
                    experiment=job.config.tracking.experiment,
                    identity=job.identity,
                ) as journal:
                    journal.tags({**job.tags, FAULT_TAG: "machine"})
                    journal.status("FAILED", str(error))
                return EXIT_BAD_INPUT
            except BusyError as error:
                if status_of(job.folder) == "FINISHED":
                    return 0
                console.print(f"waiting: {error}", markup=False)
                time.sleep(WAIT_FOR_ANOTHER_S)


def to_jobs(runs: Sequence[PlannedRun], tags: Mapping[str, Mapping[str, str]]) -> list[Job]:
    """What is to be trained: each run once, however many points it stands for. `tags` by identity."""
    by_identity = {run.identity: run for run in runs}
    return [
        Job(run.point.config, identity, run.folder, tags[identity]) for identity, run in by_identity.items()
    ]
