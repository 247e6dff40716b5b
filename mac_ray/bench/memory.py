"""How much memory a training step takes: on a CPU asked of the system, on a GPU also by trying.

A process keeps memory that it has freed, so what is resident tells two steps apart only when each has a process of
its own, which is what they get.
"""

import gc
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import torch

from mac_ray.config import ConfigError


def resident_peak(work: Callable[[], object], module: str) -> int | None:
    """Bytes of main memory that `work` takes at most; None on other systems than Linux.

    It has to be picklable, and `module` is what it needs imported, which is done once for all calls. Raises
    ConfigError when the system kills it for want of memory.
    """
    if sys.platform != "linux":  # elsewhere nothing tells a process's own peak from that of its parent
        return None
    context = multiprocessing.get_context("forkserver")  # threads of this process do not survive a plain fork
    context.set_forkserver_preload([module])
    with ProcessPoolExecutor(1, context) as process:
        try:
            return process.submit(_grown, work).result()
        except BrokenProcessPool as error:
            raise ConfigError(
                "a training step was killed, most likely because the batch does not fit in main memory; lower it "
                "with --batch"
            ) from error


def largest_batch(fits: Callable[[int], bool], start: int) -> int:
    """Samples that fit, by doubling or halving from `start`: twice as many do not. 0 when not even one does."""
    batch = start
    while batch and not fits(batch):
        batch //= 2
    if batch == start:
        while fits(2 * batch):
            batch *= 2
    return batch


def fits_on_gpu(build: Callable[[int], object], batch: int) -> bool:
    """Whether what is built for so many samples fits in the GPU's memory, which is given back."""
    try:
        build(batch)
    except torch.OutOfMemoryError:
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return True


def _grown(work: Callable[[], object]) -> int:
    before = psutil.Process().memory_info().rss
    work()
    # not getrusage, which begins with the size of the process that started this one
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    )
    return max(0, int(line.split()[1]) * 1024 - before)
