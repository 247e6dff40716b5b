"""What the log says about the steps since it last spoke.

Losses stay on the device until they are due, so measuring does not make a GPU wait.
"""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from mac_ray.training.distributed import Worker, summed
from mac_ray.training.errors import NonFiniteLossError

ItemT = TypeVar("ItemT")


class Meter:
    """Losses of the steps since the last `read`, and where the time went."""

    def __init__(self) -> None:
        self._on_device: list[tuple[int, dict[str, Tensor]]] = []
        self._values: list[dict[str, float]] = []
        self._samples = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def timed(self, items: Iterator[ItemT]) -> Iterator[ItemT]:
        """The same items; the time they are waited for counts as waiting for data."""
        while True:
            begun = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            self._waited += time.perf_counter() - begun
            yield item

    def add(self, step: int, samples: int, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        named = {"loss": loss} | {f"loss/{name}": part for name, part in parts.items()}
        self._on_device.append((step, {name: value.detach() for name, value in named.items()}))
        self._samples += samples

    def pending(self, worker: Worker) -> list[dict[str, float]]:
        """Losses of each step since the last `read`, as means over the ranks; a checkpoint keeps them.

        Every rank calls it at the same step. Raises NonFiniteLossError for the first loss that is not finite.
        """
        for step, losses in self._on_device:
            values = {name: value.item() for name, value in losses.items()}
            if not math.isfinite(values["loss"]):
                named = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
                raise NonFiniteLossError(
                    f"step {step} has a loss that is not finite ({named}); lower optimizer.learning_rate, or set "
                    "precision=fp32 to see whether bf16 is the cause"
                )
            means = (
                summed(torch.tensor(list(values.values()), dtype=torch.float64), worker) / worker.num_ranks
            )
            self._values.append(dict(zip(values, means.tolist(), strict=True)))
        self._on_device = []
        return self._values

    def resume(self, pending: list[dict[str, Any]]) -> None:
        self._values = pending

    def read(self, worker: Worker) -> dict[str, float]:
        """Means over the steps since the last call, then start anew. Every rank calls it at the same step."""
        losses = self.pending(worker)
        read = {name: math.fsum(step[name] for step in losses) / len(losses) for name in losses[-1]}
        elapsed = time.perf_counter() - self._since
        waited = summed(torch.tensor(self._waited / elapsed), worker) / worker.num_ranks
        read |= {
            "samples_per_second": self._samples / elapsed,
            "data_wait": float(waited),
            "seconds": elapsed,
        }
        self._values = []
        self.pause()
        return read

    def pause(self) -> None:
        """Measure rates from now on: what lies between this and the last step was not training."""
        self._samples, self._waited, self._since = 0, 0.0, time.perf_counter()
