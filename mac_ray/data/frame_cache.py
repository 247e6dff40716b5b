"""Pools decoded once into a memory-mapped file, for sets that fit a budget.

T pool frames of one sample, H × W pixels.
"""

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from mac_ray.config import ConfigError, Data
from mac_ray.cores import usable_cores
from mac_ray.data.decode import AwayError, DecodeError
from mac_ray.data.manifest import Manifest, Sample
from mac_ray.data.pool import decode_pool, midpoints, read_pool
from mac_ray.data.sizes import Pixels, scaled_size

CACHE_VERSION = 4
PROBED_SAMPLES = 16  # looked at to estimate the size of a cache before it is made
BYTES_AT_ONCE = 2e9  # of decoded frames in memory while a cache is made; one sample alone may have more


class _TooLargeError(Exception):
    """A cache that does not fit its budget."""


class FrameCache:
    """Pools of samples in one memory-mapped file; `cache[index]` is (T, H, W, 3), or None if it was not taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # as plain arrays: slicing a memmap costs as much as reading it
        self._index = np.asarray(np.load(folder / "index.npy", mmap_mode="r"))
        # a set whose files are all cut short has no bytes to map
        self._bytes = (
            np.asarray(np.memmap(folder / "frames.bin", mode="r"))
            if (folder / "frames.bin").stat().st_size
            else None
        )

    def __reduce__(self) -> tuple[type["FrameCache"], tuple[Path]]:
        return FrameCache, (self.folder,)  # a pickled memmap would carry every byte to each loader process

    def __getitem__(self, index: int) -> Pixels | None:
        start, size, height, width = self._index[index].tolist()
        if self._bytes is None or not size:
            return None
        pool: Pixels = self._bytes[start : start + size * height * width * 3].reshape(size, height, width, 3)
        return pool


def ensure_cache(
    manifest: Manifest,
    split: str,
    section: Data,
    decoder: str,
    root: Path,
    budget_gb: float,
    progress: Callable[[int, int], None],
    timeout_s: float | None = None,
) -> Path | None:
    """The folder of the frame cache of this split, made if need be; None when it does not fit the budget, when none of
    some samples decodes, as where the media are not there yet, or when storage goes away while it is made.

    Raises ConfigError when the folder cannot be written or the disk is full.
    """
    # the fingerprint leaves the root out, but other media of the same names may lie below another
    media = [manifest.fingerprint, manifest.root, split]
    key = json.dumps([CACHE_VERSION, *media, section.pool_frames, section.short_side])
    folder = root / "frames" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not budget_gb:
        return None
    if (folder / "index.npy").exists():
        return folder
    estimate = _estimate(manifest, section, decoder, timeout_s)
    if estimate is None or estimate[0] > budget_gb * 1e9:
        return None
    expected, at_once = estimate
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:  # two runs that start together make it once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "index.npy").exists():
                try:
                    _make_cache(
                        manifest, section, decoder, folder, budget_gb * 1e9, at_once, progress, timeout_s
                    )
                except (_TooLargeError, AwayError):
                    (folder / "frames.bin").unlink(missing_ok=True)
                    return None
                except OSError:
                    (folder / "frames.bin").unlink(missing_ok=True)  # gives a full disk its room back
                    raise
    except OSError as error:
        raise ConfigError(
            f"the frame cache of {manifest.name} {split}, about {expected / 1e9:.2g} GB, cannot be written to "
            f"{folder} ({error.strerror}); set storage.cache to another disk, or cluster.cache_budget_gb=0"
        ) from error
    return folder


def _estimate(
    manifest: Manifest, section: Data, decoder: str, timeout_s: float | None
) -> tuple[float, int] | None:
    """Bytes that the cache will take, and how many samples may be decoded at once within BYTES_AT_ONCE; None where
    none of those looked at decodes.
    """
    numbers = midpoints(len(manifest), min(PROBED_SAMPLES, len(manifest)))
    pools = [
        shape
        for number in numbers
        if (shape := _pool_shape(manifest[int(number)], section, decoder, timeout_s))
    ]
    if not pools:
        return None
    largest = max(3 * size * height * width for size, height, width in pools)
    at_once = min(usable_cores(), max(1, int(BYTES_AT_ONCE / largest)))
    if section.short_side:
        pools = [(size, *scaled_size(height, width, section.short_side)) for size, height, width in pools]
    mean = sum(3 * size * height * width for size, height, width in pools) / len(pools)
    return mean * len(manifest), at_once


def _pool_shape(
    sample: Sample, section: Data, decoder: str, timeout_s: float | None
) -> tuple[int, int, int] | None:
    """(T, H, W) of a pool in the size of the file, from one frame of it; None for a file that does not decode."""
    size = 0

    def only_first(available: int) -> list[int]:
        nonlocal size
        size = available
        return [0]

    try:
        first = decode_pool(sample, section, decoder, only_first, timeout_s)
    except DecodeError:
        return None  # takes no room; named when it is drawn
    return size, first.shape[1], first.shape[2]


def _whole_pool(sample: Sample, section: Data, decoder: str, timeout_s: float | None) -> Pixels | None:
    """All frames of a pool; None for a file that does not decode, or gives less than it promises.

    What frames a file cut short gives depends on which are asked for, so only decoding it anew is the same.
    """
    shortened: list[str] = []
    try:
        pool = read_pool(sample, section, decoder, range, timeout_s, shortened.append)
    except AwayError:
        raise  # a cache with holes in it would be taken for whole for ever
    except DecodeError:
        return None  # counted and named when it is drawn
    return None if shortened else pool


def _make_cache(
    manifest: Manifest,
    section: Data,
    decoder: str,
    folder: Path,
    most: float,
    at_once: int,
    progress: Callable[[int, int], None],
    timeout_s: float | None,
) -> None:
    """Raises _TooLargeError past `most` bytes, and AwayError."""
    # where each pool starts in the file, and its T, H and W
    index = np.zeros((len(manifest), 4), dtype=np.int64)
    position = 0
    # threads do: decoders and resizing work outside the interpreter lock
    with (folder / "frames.bin").open("wb") as file, ThreadPoolExecutor(at_once) as threads:
        pools = _ahead(
            threads,
            at_once,
            lambda number: _whole_pool(manifest[number], section, decoder, timeout_s),
            len(manifest),
        )
        for number, pool in enumerate(pools):
            if pool is not None:
                index[number] = position, *pool.shape[:3]
                position += file.write(np.ascontiguousarray(pool).data)
            if position > most:  # some samples are longer than those that it was estimated by
                raise _TooLargeError
            progress(number + 1, len(manifest))
        file.flush()
        os.fsync(file.fileno())  # before the index, whose presence says that all of it is there
    np.save(folder / "index.tmp.npy", index)
    (folder / "index.tmp.npy").replace(folder / "index.npy")


def _ahead(
    threads: ThreadPoolExecutor, at_once: int, function: Callable[[int], Pixels | None], count: int
) -> Iterator[Pixels | None]:
    """Results for 0 … count - 1 in order, at most `at_once` begun and not yet taken: that bounds the memory."""
    left = iter(range(count))
    waiting: deque[Future[Pixels | None]] = deque(
        threads.submit(function, number) for number in islice(left, at_once)
    )
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(threads.submit(function, number) for number in islice(left, 1))
