"""What a worker says of itself and of its hardware."""

from __future__ import annotations

import pytest
import torch

from mac_ray.errors import GpuMemoryError
from mac_ray.training.distributed import Worker, out_of_memory_explained, workers_in_words


def test_gpu_memory_that_is_not_enough_is_one_sentence_with_remedies() -> None:
    @out_of_memory_explained()
    def step() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 79 GiB")

    with pytest.raises(GpuMemoryError, match=r"allocate 2\.00 GiB\. GPU 0 .*; raise accumulate of the stage"):
        step()


def test_workers_are_told_with_their_threads_where_they_compute_on_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert workers_in_words(Worker()) == "1 worker of 2 threads"
    assert workers_in_words(Worker(0, 8, 8, torch.device("cuda"))) == "8 workers"
