"""What a worker says of itself and of its hardware, and how long it waits for others."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import start_processes

from mac_ray.errors import GpuMemoryError
from mac_ray.training.distributed import (
    Worker,
    beyond_their_part,
    meet,
    meetings,
    out_of_memory_explained,
    summed,
    workers_in_words,
)


def test_gpu_memory_that_is_not_enough_is_one_sentence_with_remedies() -> None:
    @out_of_memory_explained()
    def step() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 79 GiB")

    with pytest.raises(GpuMemoryError, match=r"allocate 2\.00 GiB\. GPU 0 .*; raise accumulate of the stage"):
        step()


def test_gpu_memory_that_others_have_taken_is_no_fault_of_the_recipe() -> None:
    gib = 2**30
    # alone on the GPU: full of its own tensors, or asking for more than there is
    assert beyond_their_part(80 * gib, 1 * gib, 78 * gib, 1.0) == 0
    assert beyond_their_part(80 * gib, 60 * gib, 19 * gib, 1.0) == 0
    # half of it each, and each keeps to that
    assert beyond_their_part(80 * gib, 5 * gib, 36 * gib, 0.5) == 0
    # somebody who was not reckoned with
    assert beyond_their_part(80 * gib, 1 * gib, 49 * gib, 1.0) == 30 * gib
    assert beyond_their_part(80 * gib, 0, 20 * gib, 0.5) == 20 * gib


def test_workers_are_told_with_their_threads_where_they_compute_on_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert workers_in_words(Worker()) == "1 worker of 2 threads"
    assert workers_in_words(Worker(0, 8, 8, torch.device("cuda"))) == "8 workers"


FAULTS = """
import json, resource, torch
from mac_ray.training.distributed import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for mebibytes in (1, 5, 20, 40, 90):
        torch.empty(mebibytes << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

left_to_itself = [faults() for _ in range(3)]
keep_freed_memory()
print(json.dumps([left_to_itself, [faults() for _ in range(3)]]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_of_freed_tensors_is_kept_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    left_to_itself, kept = json.loads(done.stdout)
    # pages: tensors above 32 MiB, of which two have 33,000, are always mapped anew
    assert min(left_to_itself) > 10_000
    assert max(kept[1:]) < 100


STEP_S, LATE_S = 5.0, 8.0


def test_rank_that_is_late_is_waited_for_where_ranks_meet_and_given_up_within_a_step(tmp_path: Path) -> None:
    start_processes(_late, (tmp_path,), 2, start_method="forkserver")
    assert (tmp_path / "given up").exists()


def _late(rank: int, folder: Path) -> None:
    (folder / f"ready {rank}").touch()
    while (
        len(list(folder.glob("ready *"))) < 2
    ):  # or who has just started would be late for the meeting point
        time.sleep(0.01)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=STEP_S),
    )
    worker, given_up = Worker(rank, 2, meetings=meetings(2)), folder / "given up"
    time.sleep(LATE_S * rank)
    meet(worker)
    if rank == 0:
        with pytest.raises(RuntimeError, match=r"(?i)timed out"):
            summed(torch.zeros(1), worker)
        given_up.touch()
    else:
        while not given_up.exists():
            time.sleep(0.1)
    distributed.destroy_process_group()
