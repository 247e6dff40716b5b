"""Where a run runs, and where its traces go. Nothing here makes another run of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mac_ray.config.section import Positive, Section


class Cluster(Section):
    # auto: every GPU, or two processes on CPUs, or one where it shares a GPU; as many as batches go round for. In a
    # sweep, whose runs go side by side, one. A pair (min, max) trains elastically
    workers: Positive | tuple[Positive, Positive] | Literal["auto"] = "auto"
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    cpus_per_worker: Positive = 1
    threads: Positive | None = None  # torch threads per worker; None: cores of its machine / workers there
    max_failures: Annotated[int, Field(ge=-1)] = 3  # restarts of its workers, or of its trial; -1: no limit
    start_timeout_s: Positive = 300  # how long to wait for the cluster to have the workers asked for
    loader_workers: Annotated[int, Field(ge=0)] = 0  # decoding processes per worker; 0: in the worker itself
    # all give the same frames, and PyAV is the fastest of those that do, or as fast, on every kind of file measured
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    # a video that takes longer is given up for this run, and one that crashes its decoder; it counts as undecodable.
    # None: no limit, and decoded where the batch is made, which saves about 1 ms a clip
    decode_timeout_s: Annotated[float, Field(gt=0)] | None = 120.0
    cache_budget_gb: Annotated[float, Field(ge=0)] = 8.0  # decoded frames kept on disk, per split of a set

    @property
    def most_workers(self) -> int:
        """As many as the config promises; "auto" promises one."""
        if self.workers == "auto":
            return 1
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def fewest_workers(self) -> int:
        """As many as a run can be trained by."""
        return self.workers[0] if isinstance(self.workers, tuple) else self.most_workers

    @model_validator(mode="after")
    def _workers_are_a_range(self) -> Cluster:
        if isinstance(self.workers, tuple) and self.workers[0] > self.workers[1]:
            least, most = self.workers
            raise ValueError(f"workers is [{least}, {most}]; give the least number first: [{most}, {least}]")
        return self

    @model_validator(mode="after")
    def _gpu_is_one_or_a_share(self) -> Cluster:
        if self.gpus_per_worker > 1:
            raise ValueError(
                f"gpus_per_worker is {self.gpus_per_worker:g}, but a worker trains on one GPU; give 1, and more workers"
            )
        return self

    @model_validator(mode="after")
    def _workers_have_a_gpu_each(self) -> Cluster:
        if 0 < self.gpus_per_worker < 1 and self.workers not in (1, "auto"):
            raise ValueError(
                f"gpus_per_worker is {self.gpus_per_worker:g} with workers {self.workers}, but NCCL takes no two "
                "workers of a run on one GPU; give workers: 1"
            )
        return self


class Storage(Section):
    """Folders. Relative ones are taken from where the command is started."""

    runs: str = "runs"  # checkpoints, journals, artifacts; shared by all nodes
    cache: str = "~/.cache/mac_ray"  # made data, decoded frames, copies of manifests; per node
    keep_checkpoints: Positive = 2
    checkpoint_every: Positive = 200  # steps
    # and after so long without: what is lost where Ray starts workers again, for nodes that come and go too
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0


class Tracking(Section):
    enabled: bool = True
    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working folder
    experiment: str = "mac_ray"
    log_every: Positive = 20  # steps
