"""How many workers a run asks a cluster for, without one."""

import pytest

from mac_ray.config.cluster import Cluster
from mac_ray.ray_train import workers_wanted

NODES = [
    {"Alive": True, "Resources": {"CPU": 10.0, "GPU": 3.0}},
    {"Alive": True, "Resources": {"CPU": 6.0, "GPU": 1.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        pytest.param({"gpus_per_worker": 1}, 4, id="every GPU"),
        pytest.param({"gpus_per_worker": 2}, 1, id="pairs of GPUs of one node"),
        pytest.param({"gpus_per_worker": 0.5}, 1, id="one where it shares a GPU"),
        pytest.param({"gpus_per_worker": 8}, 1, id="one, to be waited for"),
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
