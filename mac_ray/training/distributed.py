"""What one process of a run has to know of the others, and of its hardware.

Control decisions (stop now?) and sums for the log travel over gloo as CPU tensors, so asking never makes a
GPU wait.
"""

import contextlib
import ctypes
import gc
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mac_ray.config import Cluster, Config
from mac_ray.errors import GpuMemoryError, RunError, in_one_line
from mac_ray.seeds import seed_at

# one worker waits for another: within a step, where only a hang takes longer; and at a `meet`
STEP_WAIT_S, MEETING_WAIT_S = 30 * 60, 4 * 3600
FORGIVEN = 1 / 32  # of a GPU's memory: kernels of processes beside their tensors
# of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


@dataclass(frozen=True)
class Worker:
    """One rank of a run. Ray Train, a Tune actor and a plain call each make theirs."""

    rank: int = 0
    num_ranks: int = 1
    ranks_here: int = 1  # on this node
    device: torch.device = torch.device("cpu")
    meetings: distributed.ProcessGroup | None = None  # None: the process's own group


def meetings(num_ranks: int) -> distributed.ProcessGroup | None:
    """The group of all ranks in which they `meet`. Every rank calls it once."""
    if num_ranks == 1:
        return None
    group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=MEETING_WAIT_S))
    # a rank that is not in it would have a number
    assert isinstance(group, distributed.ProcessGroup)
    return group


def meet(worker: Worker) -> None:
    """Wait for all ranks where one may be hours behind without anything being wrong, as one whose node makes a frame
    cache, or whose clips are slower to decode; elsewhere GPUs would stand idle for hours behind one that hangs."""
    if worker.num_ranks > 1:
        distributed.all_reduce(torch.zeros(1), group=worker.meetings)


def set_up_process(config: Config, worker: Worker, cores: int) -> None:
    """Threads, matmul precision, and a GPU's kernels and share of memory, of this process."""
    torch.set_num_threads(config.cluster.threads or max(1, cores // worker.ranks_here))
    # Left to itself, fp32 may take TF32 on CUDA and oneDNN's path on a CPU, twice MKL's rate on AMD; where the
    # CPU has AMX, oneDNN then multiplies in bf16. Asked for by name, fp32 is fp32.
    torch.set_float32_matmul_precision("highest" if config.precision == "fp32" else "medium")
    if worker.device.type == "cuda":
        # cuDNN's attention, which Hopper is given first, plans anew for every length of captions, and some versions
        # give NaN gradients where one query, here the class token, looks at a few keys
        torch.backends.cuda.enable_cudnn_sdp(False)
        # or what one trial keeps for later is missing to another that shares the GPU
        torch.cuda.set_per_process_memory_fraction(min(config.cluster.gpus_per_worker or 1.0, 1.0))
    else:
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let this process keep what its tensors of main memory were in for the next ones.

    Left to itself, glibc gives much of what a step frees back to the system, and gets it again, zeroed, page by page,
    in the next: up to a quarter of a step's time. How much hangs on where in the heap things happen to lie, so of two
    processes that train the same, one may take a quarter longer. Other C libraries are left alone, and so is what a
    thread that allocated before has of its own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # what is mapped is always given back
        mallopt(M_TRIM_THRESHOLD, -1)  # never the end of the heap
        mallopt(M_ARENA_MAX, 1)  # threads' own heaps would be given back whole


def release_memory() -> None:
    """What this process keeps for later, of GPUs and of main memory, for others on the same machine."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # which glibc has
    if trim is not None:
        trim(0)


def device_of(cluster: Cluster) -> torch.device:
    """What a worker of a run trains on."""
    return torch.device("cuda" if cluster.gpus_per_worker else "cpu")


def device_name(device: torch.device) -> str:
    """What its maker calls the GPU, or else the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        described = ""
    # Arm's processors have no name there
    named = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def workers_in_words(worker: Worker) -> str:
    """How many train together, and by how many threads each where they compute on CPUs."""
    said = f"{worker.num_ranks} worker{'s' if worker.num_ranks > 1 else ''}"
    if worker.device.type != "cpu":
        return said
    threads = torch.get_num_threads()
    return f"{said} of {threads} thread{'s' if threads > 1 else ''}"


@contextlib.contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Raises GpuMemoryError where a GPU's memory is not enough: starting again would only repeat it. But RunError
    where others have taken what this process was to have."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if others := _memory_of_others():
            raise RunError(
                f"a GPU's memory is not enough ({in_one_line(error)}), as others hold {others / 2**30:.1f} GiB more "
                "of it than their part; end them, and the same command goes on"
            ) from error
        raise GpuMemoryError(
            f"a GPU's memory is not enough ({in_one_line(error)}); raise accumulate of the stage, which computes the "
            "same losses in pieces, lower its batch_size (of scoring, evaluation.batch_size), or take more workers; "
            "`python -m mac_ray.bench step RUN/config.yaml --largest-batch`, of the folder of this run, says what fits"
        ) from error


def _memory_of_others() -> int:
    """Bytes of this process's GPU that others hold beyond what is left to them; 0 for what may be none of theirs."""
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return beyond_their_part(
        total, free, torch.cuda.memory_reserved(), torch.cuda.get_per_process_memory_fraction()
    )


def beyond_their_part(total: int, free: int, reserved: int, fraction: float) -> int:
    """Bytes of `total` that other processes hold beyond what a process leaves them that is given a `fraction` and has
    `reserved` some for tensors; its kernels and theirs are forgiven."""
    excess = total - free - reserved - round((1 - fraction) * total)
    return excess if excess > FORGIVEN * total else 0


def autocast_dtype(config: Config, device: torch.device) -> torch.dtype | None:
    """bf16 where the config asks for it, or leaves it open and the hardware multiplies in it; else None."""
    if config.precision == "fp32":
        return None
    if config.precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities = torch.backends.cpu.get_cpu_capability()
    native = capabilities == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else None


def with_agreed_precision(config: Config, worker: Worker) -> Config:
    """With what all ranks compute in for "auto": bf16 only where each multiplies in it, or the shares of a batch, and
    of what is scored, would be computed in different ways."""
    has_bf16 = torch.tensor(float(autocast_dtype(config, worker.device) is not None))
    everywhere = int(summed(has_bf16, worker)) == worker.num_ranks
    return config.model_copy(update={"precision": "bf16" if everywhere else "fp32"})


def parallel(module: nn.Module, worker: Worker) -> nn.Module:
    """The module with its gradients averaged over the ranks."""
    if worker.num_ranks == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    return DistributedDataParallel(
        module,
        device_ids=[worker.device] if worker.device.type == "cuda" else None,
        broadcast_buffers=False,  # they are constants
    )


@contextlib.contextmanager
def unsynchronised(module: nn.Module, skip: bool) -> Iterator[None]:
    """Leave gradients local for now: all forward passes of a step but the last."""
    with (
        module.no_sync() if skip and isinstance(module, DistributedDataParallel) else contextlib.nullcontext()
    ):
        yield


def summed(values: Tensor, worker: Worker) -> Tensor:
    """Sum over ranks of a CPU tensor."""
    if worker.num_ranks > 1:
        distributed.all_reduce(values)
    return values


@contextlib.contextmanager
def seeded(seed: int, *place: int, device: torch.device) -> Iterator[None]:
    """Dropout inside library layers draws from the process's generator: make that a function of the place."""
    number = seed_at(seed, *place)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(number)
        if device.type == "cuda":
            torch.cuda.manual_seed(number)
        yield
