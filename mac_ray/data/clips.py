"""The frames of a sample: which of them are used, at what size, and where they come from.

T pool frames of one sample, F drawn for a clip, H × W pixels, S the tower's square input.

Each sample has a *pool*: its frames, at most `pool_frames` evenly spaced ones, with the short side resized
to `short_side`. A clip draws from the pool. Whether the pool is decoded now or was decoded once into a
memory-mapped file changes nothing but the time it takes. So a file that the cache could not take, because it
is broken or cut short, is decoded whenever it is drawn: what is mended later is found mended, and what is not is
counted each time.
"""

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mac_ray.config import ConfigError, Data
from mac_ray.data.decode import DecodeError, DecoderDiedError, frames
from mac_ray.data.manifest import Manifest, Sample
from mac_ray.data.quarantine import Quarantine

Pixels = NDArray[np.uint8]
Choose = Callable[[int], Sequence[int] | NDArray[np.int64]]
Told = Callable[[str], object]
CACHE_VERSION = 3
PROBED_SAMPLES = 16  # looked at to estimate the size of a cache before it is made
BYTES_AT_ONCE = 2e9  # of decoded frames in memory while a cache is made; one sample alone may have more


def midpoints(length: int, count: int) -> NDArray[np.int64]:
    """The middle of each of `count` equal intervals of range(length); repeats where there are too few."""
    edges = np.linspace(0, length, count + 1)
    return np.minimum(((edges[:-1] + edges[1:]) / 2).astype(np.int64), length - 1)


def random_in_intervals(length: int, draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """One index from each of F equal intervals of range(length), by draws (F,), uniform in [0, 1).

    Both ends of an interval are reachable (Frozen's never drew the last). The draws are made before the length
    is known, so that how often a decoder asks, and whether it fails, does not change what is drawn afterwards.
    """
    edges = np.linspace(0, length, len(draws) + 1).astype(np.int64)
    sizes = np.maximum(np.diff(edges), 1)
    return edges[:-1] + (draws * sizes).astype(np.int64)


class ClipReader:
    """Pool frames of a manifest's samples, from the cache where there is one, else decoded.

    With `timeout_s` a video that takes longer to decode, or crashes the decoder, is undecodable, and is put into
    the quarantine, if there is one.
    """

    def __init__(
        self,
        manifest: Manifest,
        section: Data,
        decoder: str,
        cache: Path | None,
        timeout_s: float | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.manifest = manifest
        self.section = section
        self.decoder = decoder
        self.cache = cache
        self._frames = FrameCache(cache) if cache else None
        self._timeout_s = timeout_s
        self._quarantine = quarantine

    def read(self, sample: Sample, choose: Choose, shortened: Told | None = None) -> Pixels:
        """Frames (F, H, W, 3) at the non-decreasing positions that `choose` picks, given the pool's size T.

        `shortened` is told, with its path, what a file promises and does not give. Raises DecodeError.
        """
        pool = self._frames[sample.index] if self._frames else None
        if pool is None:
            return self._decoded(sample, choose, shortened)
        chosen: Pixels = pool[np.asarray(choose(len(pool)))]
        return chosen

    def _decoded(self, sample: Sample, choose: Choose, shortened: Told | None) -> Pixels:
        if self._quarantine is None:
            return read_pool(sample, self.section, self.decoder, choose, self._timeout_s, shortened)
        if reason := self._quarantine.reason(sample.source):
            raise DecodeError(sample.source, reason)
        try:
            return read_pool(sample, self.section, self.decoder, choose, self._timeout_s, shortened)
        except DecoderDiedError as error:
            self._quarantine.add(sample.source, error.reason)
            raise


def read_pool(
    sample: Sample,
    section: Data,
    decoder: str,
    choose: Choose,
    timeout_s: float | None = None,
    shortened: Told | None = None,
) -> Pixels:
    """Decode the chosen frames of a sample's pool: (F, H, W, 3). Raises DecodeError."""
    pixels = _decode_pool(sample, section, decoder, choose, timeout_s, shortened)
    return with_short_side(pixels, section.short_side) if section.short_side else pixels


def _decode_pool(
    sample: Sample,
    section: Data,
    decoder: str,
    choose: Choose,
    timeout_s: float | None,
    shortened: Told | None = None,
) -> Pixels:
    """The chosen frames in the size they have in the file."""
    return frames(
        sample.source,
        sample.kind,
        through_pool(section, choose),
        decoder,
        sample.start,
        sample.end,
        timeout_s,
        shortened,
    )


def through_pool(section: Data, choose: Choose) -> Callable[[int], list[int]]:
    """What `choose` picks from a pool, as numbers among all frames there are to choose from."""

    def positions(num_frames: int) -> list[int]:
        size = min(num_frames, section.pool_frames or num_frames)
        pool = midpoints(num_frames, size)
        return [int(position) for position in pool[np.asarray(choose(size))]]

    return positions


def with_short_side(pixels: Pixels, short_side: int) -> Pixels:
    """(F, H, W, 3) scaled so that min(H, W) is `short_side`."""
    return resized(pixels, _scaled_size(pixels.shape[1], pixels.shape[2], short_side))


def _scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    scale = short_side / min(height, width)
    return round(height * scale), round(width * scale)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(F, H, W, 3) to the given height and width, bilinear with antialiasing."""
    if pixels.shape[1:3] == size:
        return pixels
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, size=size, mode="bilinear", antialias=True, align_corners=False)
    return scaled.permute(0, 2, 3, 1).numpy()


def centre_crop(pixels: Pixels, size: int) -> Pixels:
    """The largest centred square, at S × S: (F, S, S, 3)."""
    height, width = pixels.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pixels[:, top : top + side, left : left + side], (size, size))


def training_crop(pixels: Pixels, section: Data, generator: np.random.Generator) -> Pixels:
    """One random resized crop and flip for all frames of a clip: (F, S, S, 3)."""
    if section.crop_scale == (1.0, 1.0):
        cropped = centre_crop(pixels, section.image_size)
    else:
        height, width = pixels.shape[1:3]
        area = generator.uniform(*section.crop_scale) * height * width
        aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        crop_height = min(height, max(1, round(np.sqrt(area / aspect))))
        crop_width = min(width, max(1, round(np.sqrt(area * aspect))))
        top = generator.integers(height - crop_height + 1)
        left = generator.integers(width - crop_width + 1)
        window = pixels[:, top : top + crop_height, left : left + crop_width]
        cropped = resized(window, (section.image_size, section.image_size))
    if section.horizontal_flip and generator.random() < 0.5:
        cropped = cropped[:, :, ::-1]
    return cropped


# ---------------------------------------------------------------- the cache


class FrameCache:
    """Pools of samples in one memory-mapped file; `cache[index]` is (T, H, W, 3), or None if it was not taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # as plain arrays: slicing a memmap costs as much as reading it
        self._index = np.asarray(np.load(folder / "index.npy", mmap_mode="r"))
        # a set of which nothing decodes has no bytes to map
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
    """The folder of the frame cache of this split, made if need be; None when it would not fit the budget.

    Raises ConfigError when the folder cannot be written or the disk is full.
    """
    key = json.dumps([CACHE_VERSION, manifest.fingerprint, split, section.pool_frames, section.short_side])
    folder = root / "frames" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not budget_gb:
        return None
    if (folder / "index.npy").exists():
        return folder
    expected, at_once = _estimate(manifest, section, decoder, timeout_s)
    if expected > budget_gb * 1e9:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:  # two runs that start together make it once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "index.npy").exists():
                try:
                    _make_cache(manifest, section, decoder, folder, at_once, progress, timeout_s)
                except OSError:
                    (folder / "frames.bin").unlink(missing_ok=True)  # gives a full disk its room back
                    raise
    except OSError as error:
        raise ConfigError(
            f"the frame cache of {manifest.name} {split}, about {expected / 1e9:.2g} GB, cannot be written to "
            f"{folder} ({error.strerror}); set storage.cache to another disk, or cluster.cache_budget_gb=0"
        ) from error
    return folder


def _estimate(manifest: Manifest, section: Data, decoder: str, timeout_s: float | None) -> tuple[float, int]:
    """Bytes that the cache will take, and how many samples may be decoded at once within BYTES_AT_ONCE."""
    numbers = midpoints(len(manifest), min(PROBED_SAMPLES, len(manifest)))
    pools = [
        shape
        for number in numbers
        if (shape := _pool_shape(manifest[int(number)], section, decoder, timeout_s))
    ]
    if not pools:
        return 0.0, 1
    largest = max(3 * size * height * width for size, height, width in pools)
    at_once = min(os.cpu_count() or 1, max(1, int(BYTES_AT_ONCE / largest)))
    if section.short_side:
        pools = [(size, *_scaled_size(height, width, section.short_side)) for size, height, width in pools]
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
        first = _decode_pool(sample, section, decoder, only_first, timeout_s)
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
    except DecodeError:
        return None  # counted and named when it is drawn
    return None if shortened else pool


def _make_cache(
    manifest: Manifest,
    section: Data,
    decoder: str,
    folder: Path,
    at_once: int,
    progress: Callable[[int, int], None],
    timeout_s: float | None,
) -> None:
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
