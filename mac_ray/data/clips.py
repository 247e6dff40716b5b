"""The frames of a sample: which of them are used, at what size, and where they come from.

T pool frames of one sample, F drawn for a clip, H × W pixels, S the tower's square input.

Each sample has a *pool*: its frames, at most `pool_frames` evenly spaced ones, with the short side resized
to `short_side`. A clip draws from the pool. Whether the pool is decoded now or was decoded once into a
memory-mapped file changes nothing but the time it takes.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mac_ray.config import Data
from mac_ray.data.decode import DecodeError, frames
from mac_ray.data.manifest import Manifest, Sample

Pixels = NDArray[np.uint8]
CACHE_VERSION = 1
PROBED_SAMPLES = 16  # decoded to estimate the size of a cache before it is made


def midpoints(length: int, count: int) -> NDArray[np.int64]:
    """The middle of each of `count` equal intervals of range(length); repeats where there are too few."""
    edges = np.linspace(0, length, count + 1)
    return np.minimum(((edges[:-1] + edges[1:]) / 2).astype(np.int64), length - 1)


def random_in_intervals(length: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """One uniform draw from each of `count` equal intervals, both ends reachable (Frozen's never drew the last)."""
    edges = np.linspace(0, length, count + 1).astype(np.int64)
    return generator.integers(
        np.minimum(edges[:-1], length - 1), np.maximum(edges[1:], edges[:-1] + 1).clip(max=length)
    )


class ClipReader:
    """Pool frames of a manifest's samples, from the cache where there is one, else decoded."""

    def __init__(self, manifest: Manifest, section: Data, decoder: str, cache: Path | None) -> None:
        self.manifest = manifest
        self.section = section
        self.decoder = decoder
        self._cache = FrameCache(cache) if cache else None

    def read(self, sample: Sample, choose: Callable[[int], Sequence[int] | NDArray[np.int64]]) -> Pixels:
        """Frames (F, H, W, 3) at the positions that `choose` picks, given the pool's size T.

        Raises DecodeError.
        """
        if self._cache is not None:
            pool = self._cache[sample.index]
            if pool is None:
                raise DecodeError(sample.path, "could not be decoded when the frame cache was made")
            chosen: Pixels = pool[np.asarray(choose(len(pool)))]
            return chosen
        return read_pool(sample, self.section, self.decoder, choose)


def read_pool(
    sample: Sample, section: Data, decoder: str, choose: Callable[[int], Sequence[int] | NDArray[np.int64]]
) -> Pixels:
    def positions(num_frames: int) -> list[int]:
        size = min(num_frames, section.pool_frames or num_frames)
        pool = midpoints(num_frames, size)
        return [int(position) for position in pool[np.asarray(choose(size))]]

    pixels = frames(sample.path, sample.kind, positions, decoder, sample.start, sample.end)
    return with_short_side(pixels, section.short_side) if section.short_side else pixels


def with_short_side(pixels: Pixels, short_side: int) -> Pixels:
    """(F, H, W, 3) scaled so that min(H, W) is `short_side`."""
    height, width = pixels.shape[1:3]
    scale = short_side / min(height, width)
    return resized(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


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
    """Pools of all samples in one memory-mapped file; `cache[index]` is (T, H, W, 3), or None if undecodable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = np.load(folder / "index.npz")
        self._starts, self._shapes = index["starts"], index["shapes"]
        # an all-undecodable set has no bytes to map
        self._bytes = (
            np.memmap(folder / "frames.bin", mode="r") if (folder / "frames.bin").stat().st_size else None
        )

    def __reduce__(self) -> tuple[type["FrameCache"], tuple[Path]]:
        return FrameCache, (self.folder,)  # a pickled memmap would carry every byte to each loader process

    def __getitem__(self, index: int) -> Pixels | None:
        shape = self._shapes[index]
        if self._bytes is None or not shape[0]:
            return None
        start = self._starts[index]
        pool: Pixels = self._bytes[start : start + shape.prod() * 3].reshape(*shape, 3)
        return pool


def ensure_cache(
    manifest: Manifest,
    split: str,
    section: Data,
    decoder: str,
    root: Path,
    budget_gb: float,
    progress: Callable[[int, int], None],
) -> Path | None:
    """The folder of the frame cache of this split, made if need be; None when it would not fit the budget.

    Raises OSError when the folder cannot be written.
    """
    key = json.dumps(
        [CACHE_VERSION, manifest.fingerprint, split, section.pool_frames, section.short_side, decoder]
    )
    folder = root / "frames" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if (folder / "index.npz").exists():
        return folder
    if not budget_gb or _estimated_bytes(manifest, section, decoder) > budget_gb * 1e9:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # two runs that start together make it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "index.npz").exists():
            _make_cache(manifest, section, decoder, folder, progress)
    return folder


def _estimated_bytes(manifest: Manifest, section: Data, decoder: str) -> float:
    probed = midpoints(len(manifest), min(PROBED_SAMPLES, len(manifest)))
    sizes = [
        pool.nbytes for i in probed if (pool := _pool_or_none(manifest[int(i)], section, decoder)) is not None
    ]
    return float(np.mean(sizes)) * len(manifest) if sizes else 0.0


def _pool_or_none(sample: Sample, section: Data, decoder: str) -> Pixels | None:
    try:
        return read_pool(sample, section, decoder, range)
    except DecodeError:
        return None  # counted and named when it is drawn


def _make_cache(
    manifest: Manifest, section: Data, decoder: str, folder: Path, progress: Callable[[int, int], None]
) -> None:
    shapes = np.zeros((len(manifest), 3), dtype=np.int64)
    starts = np.zeros(len(manifest), dtype=np.int64)
    position = 0
    # threads do: decoders and resizing work outside the interpreter lock
    with (folder / "frames.bin").open("wb") as file, ThreadPoolExecutor(cpu_count()) as threads:
        for first in range(0, len(manifest), 256):  # bounds what waits in memory
            numbers = range(first, min(first + 256, len(manifest)))
            pools = threads.map(lambda number: _pool_or_none(manifest[number], section, decoder), numbers)
            for number, pool in zip(numbers, pools, strict=True):
                starts[number] = position
                if pool is not None:
                    shapes[number] = pool.shape[:3]
                    position += file.write(np.ascontiguousarray(pool).data)
            progress(numbers.stop, len(manifest))
    np.savez(folder / "index.tmp.npz", starts=starts, shapes=shapes)
    shutil.move(folder / "index.tmp.npz", folder / "index.npz")
