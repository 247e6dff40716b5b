"""Samples looked at in parallel: on a Ray cluster, or by processes of this machine.

Either way a sample is looked at in a process that can be killed (see watched), and only so many batches are under
way at once, so that neither the list of samples nor the findings are ever in memory as a whole.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar

from mac_ray.cores import usable_cores
from mac_ray.prepare.finding import Asked, Finding
from mac_ray.prepare.watched import Watched

Batch = Sequence[Asked]
Look = Callable[[Iterable[Batch]], Iterator[list[Finding]]]  # findings of each batch, as they come
Reference = TypeVar("Reference")

WAITING_PER_WORKER = 2  # batches: the one it looks at, and the next
ATTEMPTS = 3  # at a batch, when a node of the cluster dies


@contextmanager
def in_processes(workers: int | None, decoder: str, timeout_s: float) -> Iterator[Look]:
    """`workers` None: one per core."""
    number = workers or usable_cores()
    idle: queue.SimpleQueue[Watched] = queue.SimpleQueue()
    with ExitStack() as stack:
        for _ in range(number):
            idle.put(stack.enter_context(Watched(decoder, timeout_s)))
        pool, ended = ThreadPoolExecutor(number), threading.Event()
        # from the keyboard, say: what is under way ends with its process, and nothing more is begun
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        stack.callback(ended.set)

        def look(batch: Batch) -> list[Finding]:
            watched = idle.get()
            try:
                return [watched.look_at(asked) for asked in batch if not ended.is_set()]
            finally:
                idle.put(watched)

        def first_done(running: set[Future[list[Finding]]]) -> set[Future[list[Finding]]]:
            return wait(running, return_when=FIRST_COMPLETED).done

        yield lambda batches: (
            done.result()
            for done in _bounded(
                batches, lambda batch: pool.submit(look, batch), first_done, number * WAITING_PER_WORKER
            )
        )


@contextmanager
def on_ray(workers: int | None, decoder: str, timeout_s: float) -> Iterator[Look]:
    """`workers` None: one per CPU of the cluster, which is started on this machine if none is running."""
    import ray  # only here, so that --without-ray needs no Ray

    from mac_ray.ray_start import start_ray

    started = not ray.is_initialized()
    if started:
        start_ray(log_to_driver=False, logging_level="warning")
    task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_look)

    def start(batch: Batch) -> Any:
        return task.remote(list(batch), decoder, timeout_s)

    def first_done(running: set[Any]) -> set[Any]:
        return set(ray.wait(list(running), num_returns=1)[0])

    # the cluster runs as many as it has CPUs for, so only a number that was asked for is kept to here
    most = workers or WAITING_PER_WORKER * math.floor(ray.cluster_resources().get("CPU", 1))
    try:
        yield lambda batches: (ray.get(done) for done in _bounded(batches, start, first_done, most))
    finally:
        if started:
            ray.shutdown()


def _look(batch: Batch, decoder: str, timeout_s: float) -> list[Finding]:
    """In a worker of Ray, which keeps its process for the batches that follow."""
    watched = _watched(decoder, timeout_s)
    return [watched.look_at(asked) for asked in batch]


_watched = cache(Watched)


def _bounded(
    batches: Iterable[Batch],
    start: Callable[[Batch], Reference],
    first_done: Callable[[set[Reference]], set[Reference]],
    most: int,
) -> Iterator[Reference]:
    """What was started, as it ends, with at most so many running at once."""
    running: set[Reference] = set()
    for batch in batches:
        running.add(start(batch))
        while len(running) >= most:
            done = first_done(running)
            running -= done
            yield from done
    while running:
        done = first_done(running)
        running -= done
        yield from done
