"""A run on Ray Train: start or find the cluster, wait for the workers, and call the loop on each of them.

Checkpoints, metrics and results go into the run's folder, which all nodes share; Ray Train only keeps the
workers alive. When a worker or a node dies, Ray starts the group again and the loop goes on from its newest
checkpoint.

Ray Train's controller, a process that the workers wait for, imports this module too; so the loop, with the models,
is imported where it is run.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from mac_ray import files
from mac_ray.config import Cluster, Config, ConfigError
from mac_ray.errors import RecipeError, RunError, in_one_line
from mac_ray.ray_metrics import exported_run
from mac_ray.ray_start import start_ray
from mac_ray.terminal import say
from mac_ray.tracking.journal import FILE_NAME, Journal, patiently
from mac_ray.training.distributed import STEP_WAIT_S, Worker, meetings, summed
from mac_ray.training.folder import RunFolder
from mac_ray.training.plan import legs
from mac_ray.training.stop import stop_at_sigterm

if TYPE_CHECKING:
    from mac_ray.training.loop import Outcome
    from mac_ray.training.start import PreparedRun

# Ray Train looks whether its workers have ended every 2 s unless told otherwise, and so each stage of a start waits
QUICK_HEALTH_CHECKS = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
SAID = 3  # different ways in which workers failed
# of what is free now: what a job that was killed has held is free after a second or two
TOLD_WITHIN_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How training ended, as rank 0 saw it. What trying again would only repeat is returned, not raised."""

    outcome: Outcome | None
    error: RunError | None = None


def fit(run: PreparedRun, console: Console) -> Outcome:
    """Raises RunError."""
    os.environ.update(QUICK_HEALTH_CHECKS | os.environ)
    if not ray.is_initialized():
        start_ray(log_to_driver=False, logging_level="warning")
    cluster = run.config.cluster
    num_workers = workers_wanted(cluster)
    if cluster.workers == "auto" and isinstance(num_workers, int):
        num_workers = most_with_enough(num_workers, run)
    run.folder.verdict.unlink(missing_ok=True)
    require_workers(cluster, num_workers if isinstance(num_workers, int) else num_workers[0], console)
    require_shared(run.folder.path, resources_per_worker(cluster))
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={
            "config": run.config.model_dump(mode="json"),
            "folder": str(run.folder.path),
            "fingerprints": run.data.fingerprints,
        },
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if cluster.gpus_per_worker else "gloo", timeout_s=STEP_WAIT_S
        ),
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources_per_worker(cluster),
        ),
        run_config=RunConfig(
            # a name that Ray knows would bring back its own state of that run; ours is in the folder
            name=f"attempt_{time.time_ns()}",
            storage_path=str(run.folder.path / "ray"),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
    )
    try:
        with stop_at_sigterm(run.folder):
            ended = trainer.fit().return_value
    except SystemExit as error:  # Ray Train's own answer to Ctrl-C
        raise KeyboardInterrupt from error
    except TrainingFailedError as error:
        if run.folder.verdict.exists():
            raise passed(run.folder.verdict) from error
        raise RunError(
            f"Ray Train gave up after cluster.max_failures={cluster.max_failures} restarts: {_cause(error)}"
        ) from error
    if ended.error is not None:
        raise ended.error
    outcome: Outcome = ended.outcome
    return outcome


def _cause(error: TrainingFailedError) -> str:
    """What ended it, without the tracebacks that Ray Train tells it with."""
    match error:
        case WorkerGroupError():
            roots = {rank: what_happened(failure) for rank, failure in error.worker_failures.items()}
            ranks: dict[str, int] = {}
            # where one dies, others may only say that it does not answer
            for rank in sorted(roots, key=lambda rank: (not isinstance(roots[rank], RayActorError), rank)):
                ranks.setdefault(in_one_line(roots[rank]), rank)
            return "; ".join(f"rank {rank}: {said}" for said, rank in list(ranks.items())[:SAID])
        case ControllerError():
            return in_one_line(what_happened(error.controller_failure))
    return in_one_line(error)


def what_happened(error: Exception) -> Exception:
    """What Ray has put into an error of its own, which says first where its logs are, or how it was called."""
    inner = error.cause if isinstance(error, RayTaskError) else getattr(error, "health_check_failure", None)
    return what_happened(inner) if isinstance(inner, Exception) else error


def train_on_worker(given: dict[str, Any]) -> Ended:
    """What each Ray Train worker runs."""
    from mac_ray.data.manifest import ManifestError
    from mac_ray.training.loop import train  # seconds to import

    config, folder = Config.model_validate(given["config"]), RunFolder(Path(given["folder"]))
    context = get_context()
    num_ranks = context.get_world_size()
    worker = Worker(
        context.get_world_rank(), num_ranks, context.get_local_world_size(), get_device(), meetings(num_ranks)
    )
    # as rank 0 knows it: a shared file system may be slow to tell the others, who would wait for it
    if summed(torch.tensor(float(worker.rank == 0 and folder.verdict.exists())), worker):
        return Ended(None, passed(folder.verdict) if worker.rank == 0 else None)
    try:
        if worker.rank == 0:
            with (
                patiently(partial(Journal, folder.path)) as journal,
                exported_run(folder.path, worker.device),
            ):
                return Ended(train(config, folder, worker, journal, given["fingerprints"]))
        return Ended(train(config, folder, worker, None, given["fingerprints"]))
    except (RunError, ConfigError, ManifestError) as found:
        # what the driver's machine has, and this one has not, it would lack again
        error = found if isinstance(found, RunError) else RunError(f"on {socket.gethostname()}: {found}")
        if worker.num_ranks == 1:
            return Ended(None, error)
        # Ray takes one that returns for one that is done, and lets the others wait for it; one that fails ends them
        # all, and what it left keeps the next group from trying again
        pass_verdict(folder.verdict, error)
        if error is found:
            raise
        raise error from found


def pass_verdict(path: Path, error: RunError) -> None:
    # all ranks may write it, and be stopped on the way
    files.write(path, json.dumps({"recipe": isinstance(error, RecipeError), "error": str(error)}))


def passed(path: Path) -> RunError:
    """What a worker left for the next and for the driver."""
    verdict = json.loads(path.read_text())
    return (RecipeError if verdict["recipe"] else RunError)(verdict["error"])


def most_with_enough(wanted: int, run: PreparedRun) -> int:
    """So many workers, or fewer, that every stage's batch is enough for them: what `legs` asks of a fixed number."""
    for number in range(wanted, 1, -1):
        cluster = run.config.cluster.model_copy(update={"workers": number})
        with suppress(ConfigError):
            legs(run.config.model_copy(update={"cluster": cluster}), run.data.train_sizes)
            return number
    return 1


def require_shared(folder: Path, needs: Mapping[str, float]) -> None:
    """Every node that has what is needed sees the folder of a run, or of a sweep, that this one has begun; else it
    would train for hours into a folder of its own. Raises RunError. Ray must be initialised.
    """
    if lacking := nodes_without(folder / FILE_NAME, needs):
        raise RunError(
            f"storage.runs is {folder.parent}, but what is called so on {', '.join(lacking)} is another; give a "
            "folder that all nodes of the cluster share"
        )


def nodes_without(path: Path, needs: Mapping[str, float]) -> list[str]:
    """The names of the nodes that have what is needed, but do not see a file or folder of this one."""
    here = ray.get_runtime_context().get_node_id()
    others = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here
        if all(node["Resources"].get(name, 0.0) >= amount for name, amount in needs.items())
    ]
    look = ray.remote(num_cpus=0)(_look)
    seen = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)) for node in others
    ]
    lacking = []
    for answer in [one.remote(path) for one in seen]:
        with suppress(RayError):  # of a node that has died meanwhile
            is_there, name = ray.get(answer)
            if not is_there:
                lacking.append(name)
    return sorted(lacking)


def _look(path: Path) -> tuple[bool, str]:
    return path.exists(), socket.gethostname()


def resources_per_worker(cluster: Cluster) -> dict[str, float]:
    return {"CPU": cluster.cpus_per_worker} | (
        {"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {}
    )


def workers_wanted(cluster: Cluster) -> int | tuple[int, int]:
    """cluster.workers, with "auto" made a number: every GPU; without GPUs two, or one where there is one core.

    Two processes of one thread each do 17% more of small models than one of two threads;
    more than two would leave too little of a small batch to each.
    """
    if cluster.workers != "auto":
        return cluster.workers
    nodes, share = living_nodes(), cluster.gpus_per_worker
    if 0 < share < 1:
        return 1
    if share:  # whatever CPUs there are: a GPU without them is said to be lacking them, and not left idle
        return max(1, sum(int(node.get("GPU", 0) / share) for node in nodes))
    return max(1, min(2, room_for_workers(cluster, nodes)))


def require_workers(cluster: Cluster, fewest: int, console: Console) -> None:
    """Wait for the cluster to have what `fewest` workers need. Raises RunError after cluster.start_timeout_s."""

    def lacking() -> str:
        return lacking_room(cluster, fewest, living_nodes())

    if sentence := wait_for_cluster(lacking, cluster.start_timeout_s, console):
        raise RunError(
            f"{sentence}; add nodes with `ray start --address=…`, or lower cluster.workers, cluster.cpus_per_worker or "
            "cluster.gpus_per_worker"
        )
    say_gpus_left_idle([cluster], console)
    say_what_is_waited_for(cluster, fewest, console)


def say_gpus_left_idle(runs: Iterable[Cluster], console: Console) -> None:
    """Where no run takes any of those that there are. Ray must be initialised."""
    gpus = sum(node.get("GPU", 0) for node in living_nodes())
    if gpus and not any(cluster.gpus_per_worker for cluster in runs):
        said = f"the cluster has {gpus:g} GPU{'' if gpus == 1 else 's'}, and cluster.gpus_per_worker=0 leaves them idle"
        say(console, said, "yellow")


def say_what_is_waited_for(cluster: Cluster, workers: int, console: Console) -> None:
    """Where others, or the job that asks, hold what so many workers need. Ray must be initialised."""
    needs = resources_per_worker(cluster)

    def free() -> dict[str, float]:
        there = ray.available_resources()
        return {name: there.get(name, 0.0) for name in needs}

    def too_little() -> bool:
        return any(workers * needs[name] > amount + 1e-6 for name, amount in free().items())

    deadline = time.monotonic() + TOLD_WITHIN_S
    while too_little() and time.monotonic() < deadline:
        time.sleep(0.2)
    if too_little():
        say(
            console,
            f"{_asked(needs, workers)}, and the cluster has {_amounts(free())} free: waiting for what others hold; "
            "what this job holds itself, by `ray job submit --entrypoint-num-gpus` or `-cpus`, it never gives back",
            "yellow",
        )


def living_nodes() -> list[Mapping[str, float]]:
    """What each node of the cluster has in all. Ray must be initialised."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room_for_workers(cluster: Cluster, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many workers fit on the nodes together: what one needs has to be on one node, and a share of a GPU on one
    GPU."""
    return sum(_room_on(node, cluster) for node in nodes)


def _room_on(node: Mapping[str, float], cluster: Cluster) -> int:
    by_cpus, share = int(node.get("CPU", 0)) // cluster.cpus_per_worker, cluster.gpus_per_worker
    if not share:
        return by_cpus
    gpus = int(node.get("GPU", 0))
    by_gpus = gpus * int(1 / share + 1e-9) if share < 1 else int(gpus / share)
    return min(by_cpus, by_gpus)


def lacking_room(cluster: Cluster, workers: int, nodes: Sequence[Mapping[str, float]]) -> str:
    """What keeps so many workers from being placed, in words; empty where nothing does."""
    room = room_for_workers(cluster, nodes)
    if room >= workers:
        return ""
    needs = resources_per_worker(cluster)
    there = {name: sum(node.get(name, 0.0) for node in nodes) for name in needs}
    return (
        f"{_asked(needs, workers)}, and the cluster has room for {room}: {_amounts(there)} on {len(nodes)} "
        f"{'node' if len(nodes) == 1 else 'nodes'}"
    )


def _asked(needs: Mapping[str, float], workers: int) -> str:
    return (
        f"{workers} workers need {_amounts(needs)} each"
        if workers > 1
        else f"a worker needs {_amounts(needs)}"
    )


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(
        f"{amount:g} {name}{'' if amount == 1 else 's'}" for name, amount in resources.items()
    )


def wait_for_cluster(lacking: Callable[[], str], patience_s: float, console: Console) -> str:
    """Until it lacks nothing, which is said by "", or for so long; what it lacks then, in words."""
    deadline = time.monotonic() + patience_s
    told = False
    while sentence := lacking():
        if time.monotonic() > deadline:
            return sentence
        if not told:
            say(console, f"waiting up to {patience_s} s for the cluster: {sentence}")
            told = True
        time.sleep(1)
    return ""
