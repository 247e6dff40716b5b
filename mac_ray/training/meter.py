"""What the log says about the steps since it last spoke.

Losses stay on the device until they are due, so measuring does not make a GPU wait.
"""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from mac_ray.errors import NonFiniteLossError
from mac_ray.training.distributed import Worker, summed

ItemT = TypeVar("ItemT")


class Meter:
    """Losses of the steps since the last `read`, and where the time went."""

    _since: float  # when what is measured now began
    _last: float  # when the last step ended

    def __init__(self) -> None:
        self._on_device: list[tuple[int, dict[str, Tensor]]] = []
        self._values: list[dict[str, float]] = []
        self._before = 0.0  # seconds of training up to the last `read`
        self._start()

    def timed(self, items: Iterator[ItemT]) -> Iterator[ItemT]:
        """The same items; the time they are waited for counts as waiting for data."""
        self.pause()
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
        self._steps += 1
        self._samples += samples
        self._last = time.perf_counter()

    def pending(self, worker: Worker) -> list[dict[str, float]]:
        """Losses of each step since the last `read`, as means over the ranks; a checkpoint keeps them.

        Every rank calls it at the same step. Raises NonFiniteLossError for the first step with a value that is not.
        """
        for step, losses in self._on_device:
            local = torch.stack([value.double() for value in losses.values()]).cpu()
            means = dict(zip(losses, (summed(local, worker) / worker.num_ranks).tolist(), strict=True))
            # asked of the means, so that all ranks stop together
            if not all(map(math.isfinite, means.values())):
                named = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
                raise NonFiniteLossError(
                    f"step {step} has a loss or gradient that is not finite ({named}); lower "
                    "optimizer.learning_rate, or set precision=fp32 to see whether bf16 is the cause"
                )
            self._values.append(means)
        if self._on_device:
            self._last = time.perf_counter()  # a GPU had yet to make what the host had sent it
        self._on_device = []
        return self._values

    def resume(self, pending: list[dict[str, Any]], seconds: float) -> None:
        self._values, self._before = pending, seconds

    def seconds(self) -> float:
        """Of training, over all attempts at the run: what `pause` leaves out does not count."""
        return self._before + self._elapsed()

    def read(self, worker: Worker) -> dict[str, float]:
        """Means over the steps since the last call, then start anew. Every rank calls it at the same step."""
        losses = self.pending(worker)
        read = {name: math.fsum(step[name] for step in losses) / len(losses) for name in losses[-1]}
        elapsed = self._elapsed()
        waited = summed(torch.tensor(self._waited / elapsed), worker) / worker.num_ranks
        read |= {
            "samples_per_second": self._samples / elapsed,
            "step_seconds": elapsed / self._steps,
            "data_wait": float(waited),
        }
        self._values = []
        self._before += elapsed
        self._start()
        return read

    def pause(self) -> None:
        """What lies between the last step and now was not training: leave it out."""
        self._seconds += self._last - self._since
        self._since = self._last = time.perf_counter()

    def _elapsed(self) -> float:
        """Seconds of training since the last `read`."""
        return self._seconds + time.perf_counter() - self._since

    def _start(self) -> None:
        self._steps, self._samples, self._waited, self._seconds = 0, 0, 0.0, 0.0
        self._since = self._last = time.perf_counter()
