"""What a cluster's dashboards show of runs and sweeps: gauges that Ray's agents offer to Prometheus.

Values are read from the journal by a thread beside training, so the loop knows nothing of them, and if they
cannot be exported, the thread says why on stderr and the run goes on. Ray forgets a gauge 20 s after it was
last set; so all are set again and again, and the curves of a run end with it, also in a worker used again.

`ray_` stands in front of the names in Prometheus; labels are `run` and `sweep`, and of recall how it was scored; those
of a sweep's runs by state are `sweep` and `state`.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from ray.util.metrics import Gauge

from mac_ray.tracking.journal import FILE_NAME, SWEEP_TAG, Summary, read_from

REFRESH_S = 1.0
DESCRIPTIONS = {
    "mac_ray_loss": "Loss, mean over the steps since the last log",
    "mac_ray_learning_rate": "Learning rate",
    "mac_ray_samples_per_second": "Samples of the global batch per second of training",
    "mac_ray_data_wait_share": "Share of the time of training that ranks wait for data",
    "mac_ray_step": "Steps made",
    "mac_ray_epoch": "Epochs of the stage made",
    "mac_ray_stage": "Number of the stage, from 0",
    "mac_ray_samples": "Samples trained on",
    "mac_ray_flops_per_second": "Floating-point operations per second of training since the last log",
    "mac_ray_undecodable_samples": "Draws that could not be decoded and were replaced",
    "mac_ray_recall": "Percent of queries whose match is among the first k",
    "mac_ray_memory_bytes": "Resident memory of rank 0",
    "mac_ray_gpu_memory_bytes": "GPU memory that tensors of rank 0 take",
    "mac_ray_gpu_memory_peak_bytes": "The most GPU memory that tensors of rank 0 took",
    "mac_ray_trials": "Runs of a sweep by state",
}
FROM_JOURNAL = {
    "train/loss": "mac_ray_loss",
    "train/learning_rate": "mac_ray_learning_rate",
    "train/samples_per_second": "mac_ray_samples_per_second",
    "train/data_wait": "mac_ray_data_wait_share",
    "train/epoch": "mac_ray_epoch",
    "train/stage": "mac_ray_stage",
    "cost/samples": "mac_ray_samples",
    "cost/failures": "mac_ray_undecodable_samples",
}
RECALL = re.compile(r"(?P<scored>[^/]+)/(?P<direction>\w+)/R(?P<k>\d+)")


class Reading(NamedTuple):
    name: str  # of DESCRIPTIONS
    value: float
    labels: Mapping[str, str]


@contextmanager
def exported_run(run_folder: Path, device: torch.device) -> Iterator[None]:
    """Within it, what the journal says of a run is exported, and the memory of this process: that of rank 0."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # an actor trains one run after another
    run = _Run(run_folder / FILE_NAME, device)
    with _exported(run.readings):
        yield


@contextmanager
def exported_trials(sweep: str, count: Callable[[], Mapping[str, int]]) -> Iterator[None]:
    """Within it, the number of a sweep's runs in each state is exported. Another thread asks `count` every second."""

    def readings() -> Iterator[Reading]:
        for state, number in count().items():
            yield Reading("mac_ray_trials", number, {"sweep": sweep, "state": state})

    with _exported(readings):
        yield


class _Run:
    """A run as its journal tells it; what an earlier attempt wrote is part of that."""

    def __init__(self, journal: Path, device: torch.device) -> None:
        self._journal = journal
        self._device = device
        self._process = psutil.Process()
        self._summary = Summary()
        self._offset = 0
        self._spent: tuple[float, float] | None = None  # seconds and FLOPs, as last logged by this attempt
        self._speed: float | None = None  # FLOPs per second between the last two logs

    def readings(self) -> Iterator[Reading]:
        for record, end in read_from(self._journal, self._offset):
            self._summary.add(record)
            self._offset = end
            if (
                record["kind"] == "status"
            ):  # an attempt goes on from a checkpoint, before what was logged last
                self._spent = self._speed = None
            elif record["kind"] == "metrics" and {"cost/seconds", "cost/flops"} <= record["values"].keys():
                self._note_speed(
                    float(record["values"]["cost/seconds"]), float(record["values"]["cost/flops"])
                )
        labels = {"run": self._summary.name, "sweep": self._summary.tags.get(SWEEP_TAG, "")}
        for metric, (step, value) in self._summary.latest.items():
            if metric == "train/loss":
                yield Reading("mac_ray_step", step, labels)
            if metric in FROM_JOURNAL:
                yield Reading(FROM_JOURNAL[metric], value, labels)
            if recall := RECALL.fullmatch(metric):
                yield Reading("mac_ray_recall", value, labels | recall.groupdict())
        if self._speed is not None:
            yield Reading("mac_ray_flops_per_second", self._speed, labels)
        yield Reading("mac_ray_memory_bytes", self._process.memory_info().rss, labels)
        if self._device.type == "cuda":
            yield Reading("mac_ray_gpu_memory_bytes", torch.cuda.memory_allocated(self._device), labels)
            yield Reading(
                "mac_ray_gpu_memory_peak_bytes", torch.cuda.max_memory_allocated(self._device), labels
            )

    def _note_speed(self, seconds: float, flops: float) -> None:
        if self._spent is not None and seconds > self._spent[0]:
            seconds_before, flops_before = self._spent
            self._speed = (flops - flops_before) / (seconds - seconds_before)
        self._spent = (seconds, flops)


@contextmanager
def _exported(readings: Callable[[], Iterable[Reading]]) -> Iterator[None]:
    ended = threading.Event()

    def export() -> None:
        gauges: dict[str, Gauge] = {}
        is_last = False
        while not is_last:
            is_last = ended.is_set()  # once more after the end, for what was written last
            for name, value, labels in readings():
                if name not in gauges:
                    gauges[name] = Gauge(name, DESCRIPTIONS[name], tuple(labels))
                gauges[name].set(value, {label: _ascii(text) for label, text in labels.items()})
            ended.wait(REFRESH_S)

    thread = threading.Thread(target=export, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _ascii(text: str) -> str:
    """Ray takes no other characters in a label."""
    return text.encode("ascii", "backslashreplace").decode()
