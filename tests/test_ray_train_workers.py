"""How many workers a run asks a cluster for, and what it says of those that failed, without a cluster."""

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from mac_ray.config.cluster import Cluster
from mac_ray.ray_train import _cause, workers_wanted

NODES = [
    {"Alive": True, "Resources": {"CPU": 10.0, "GPU": 3.0}},
    {"Alive": True, "Resources": {"CPU": 6.0, "GPU": 1.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        pytest.param({"gpus_per_worker": 1}, 4, id="every GPU"),
        pytest.param({"gpus_per_worker": 0.5}, 1, id="one where it shares a GPU"),
        pytest.param({}, 2, id="two on CPUs"),
        pytest.param({"cpus_per_worker": 16}, 1, id="one where the cores are not enough for two"),
        pytest.param({"workers": (1, 4), "gpus_per_worker": 1}, (1, 4), id="as asked"),
    ],
)
def test_auto_takes_every_gpu_or_two_workers_on_cpus(
    asked: dict[str, object], wanted: int | tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: NODES)
    assert workers_wanted(Cluster.model_validate(asked)) == wanted


TOLD = "[Rank 0 Error Snippet]:\nTraceback (most recent call last):\n  File ..."
# as Ray Train tells of a worker before it says what happened to it
WHICH = f"A worker health check failed.\nWorker info: Worker(log_file_path='{'/long' * 120}')"
DIED = WorkerHealthCheckFailedError(WHICH, ActorDiedError())
FAILED_ON_WORKER = RayTaskError(
    "setup", "Traceback (most recent call last):\n" + "  File …\n" * 99, OSError("no such interface: eth7")
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            WorkerGroupError(TOLD, {1: OSError(28, "No space left")}),
            "rank 1: OSError: [Errno 28] No space left",
        ),
        (
            WorkerGroupError(
                TOLD, {rank: RuntimeError("peer\nis gone") for rank in (0, 1, 3)} | {2: ValueError("x")}
            ),
            "rank 0: RuntimeError: peer is gone; rank 2: ValueError: x",
        ),
        (
            WorkerGroupError(
                TOLD, {rank: RuntimeError(f"peer {rank} is gone") for rank in range(5)} | {5: DIED}
            ),
            "rank 5: ActorDiedError: The actor died unexpectedly before finishing this task.; rank 0: Runtime",
        ),
        (ControllerError(RuntimeError("no room")), "RuntimeError: no room"),
        (
            ControllerError(FAILED_ON_WORKER.as_instanceof_cause()),
            "no such interface: eth7",
        ),
    ],
)
def test_what_ended_ray_trains_workers_is_said_in_a_line(error: TrainingFailedError, said: str) -> None:
    assert said in _cause(error)
    assert "\n" not in _cause(error)
    assert "Traceback" not in _cause(error)
