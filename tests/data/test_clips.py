"""Which frames, at what size, and that the cache never changes them."""

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mac_ray.config import ConfigError, Data
from mac_ray.data import manifest_writer
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DecodeError
from mac_ray.data.frame_cache import FrameCache, ensure_cache
from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.pool import midpoints, random_in_intervals, read_pool
from mac_ray.data.sizes import _drawn_window, centre_crop, training_crop, with_short_side
from tests.data.conftest import VIDEOS, write_video

GENEROUS = 1.0  # GB


def quietly(done: int, total: int) -> None:
    pass


def cache_of(mixed: Manifest, section: Data, root: Path) -> Path:
    folder = ensure_cache(mixed, "train", section, "pyav", root, GENEROUS, quietly)
    assert folder is not None
    return folder


# ---------------------------------------------------------------- which frames


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 30, 301])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_midpoints_are_the_middle_of_equal_intervals(length: int, count: int) -> None:
    # the frame whose time span holds the moment (2k + 1) / (2 count) of the clip, in whole numbers
    expected = [(2 * k + 1) * length // (2 * count) for k in range(count)]
    assert midpoints(length, count).tolist() == expected


def test_midpoints_of_all_frames_are_all_frames() -> None:
    for length in range(1, 400):
        assert midpoints(length, length).tolist() == list(range(length))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 10, 23])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_random_frames_stay_in_range_in_order_and_reach_every_frame(length: int, count: int) -> None:
    generator = np.random.default_rng(0)
    seen: set[int] = set()
    for _ in range(500):
        drawn = random_in_intervals(length, generator.random(count)).tolist()
        assert len(drawn) == count
        assert drawn == sorted(drawn)
        seen.update(drawn)
    assert seen == set(range(length))


@pytest.mark.parametrize("length", [4, 10, 23])
def test_random_frames_come_one_from_each_interval(length: int) -> None:
    for draw, pick in ((0.0, min), (np.nextafter(1.0, 0.0), max)):
        intervals = [range(length * k // 4, length * (k + 1) // 4) for k in range(4)]
        drawn = random_in_intervals(length, np.full(4, draw)).tolist()
        assert drawn == [pick(interval) for interval in intervals]


def test_random_frames_of_an_interval_are_equally_likely() -> None:
    draws = np.random.default_rng(1).random((4000, 2))
    counts = np.bincount(np.concatenate([random_in_intervals(10, pair) for pair in draws]), minlength=10)
    assert counts == pytest.approx(np.full(10, 800), abs=120)


# ---------------------------------------------------------------- at what size


def test_short_side_is_exact_and_keeps_the_shape() -> None:
    for height, width in [(100, 100), (37, 91), (91, 37), (1, 50), (480, 854), (7, 7)]:
        for side in (1, 16, 224):
            scaled = with_short_side(np.zeros((2, height, width, 3), np.uint8), side)
            assert min(scaled.shape[1:3]) == side
            assert max(scaled.shape[1:3]) == pytest.approx(
                side * max(height, width) / min(height, width), abs=0.5
            )


def test_centre_crop_takes_the_middle_square() -> None:
    picture = np.zeros((1, 10, 20, 3), np.uint8)
    picture[:, :, 5:15] = 200
    assert (centre_crop(picture, 10) == 200).all()
    assert (centre_crop(picture.transpose(0, 2, 1, 3), 10) == 200).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5, 4), (48, 64)])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 1.0), (0.001, 0.01), (0.9999, 1.0)])
def test_training_crop_of_any_picture_lies_inside_it(
    size: tuple[int, int], scale: tuple[float, float]
) -> None:
    section = Data(image_size=16, crop_scale=scale)
    pixels = np.full((2, *size, 3), 77, np.uint8)
    for seed in range(30):
        cropped = training_crop(pixels, section, np.random.default_rng(seed))
        assert cropped.shape == (2, 16, 16, 3)
        assert (cropped == 77).all()


def test_training_crop_keeps_the_share_of_the_area_asked_for() -> None:
    # a ramp from 0 to 255 in x and y: the span of values that is left tells the size of the window
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    picture = np.stack([*np.meshgrid(ramp, ramp), np.zeros((256, 256), np.uint8)], axis=-1)[None]
    section = Data(image_size=128, crop_scale=(0.25, 0.5))
    shares = []
    for seed in range(60):
        cropped = training_crop(picture, section, np.random.default_rng(seed)).astype(int)
        width, height = (np.ptp(cropped[..., channel]) + 1 for channel in (0, 1))
        shares.append(width * height / 256**2)
        assert 0.70 < width / height < 1.43
    assert min(shares) > 0.22
    assert max(shares) < 0.53


@pytest.mark.parametrize("size", [(90, 160), (256, 600), (160, 90)])
def test_training_crop_of_a_long_picture_keeps_its_share_and_its_shape(size: tuple[int, int]) -> None:
    section = Data(image_size=128, crop_scale=(0.5, 1.0))
    generator = np.random.default_rng(0)
    drawn = np.array([_drawn_window(*size, section, generator) for _ in range(2000)])
    heights, widths = drawn[:, 2], drawn[:, 3]
    aspects = widths / heights
    assert (aspects < 1.35).all()
    assert (aspects > 0.74).all()
    largest = min(size) * min(max(size), min(size) * 4 / 3)  # of that shape
    shares = heights * widths / (size[0] * size[1])
    assert shares.min() > 0.99 * min(0.5, largest / (size[0] * size[1]))
    assert len(np.unique(drawn[:, 1 if size[1] > size[0] else 0])) > 20


def test_training_crop_is_the_same_for_all_frames_of_a_clip() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (1, 40, 60, 3), np.uint8)
    section = Data(image_size=16, crop_scale=(0.3, 1.0), horizontal_flip=True)
    for seed in range(10):
        cropped = training_crop(picture.repeat(3, axis=0), section, np.random.default_rng(seed))
        assert (cropped == cropped[:1]).all()


@pytest.mark.parametrize("enabled", [False, True])
def test_training_crop_flips_half_of_the_clips_only_if_enabled(enabled: bool) -> None:
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[:, :, 8:] = 255
    section = Data(image_size=16, horizontal_flip=enabled)
    flipped = [
        bool(training_crop(picture, section, np.random.default_rng(seed))[0, 0, 0, 0]) for seed in range(200)
    ]
    assert 70 < sum(flipped) < 130 if enabled else not any(flipped)


# ---------------------------------------------------------------- the cache


@pytest.mark.parametrize("pool_frames", [None, 1, 4, 100])
@pytest.mark.parametrize("short_side", [None, 16, 40])
def test_cached_pixels_equal_decoded_pixels(
    mixed: Manifest, tmp_path: Path, pool_frames: int | None, short_side: int | None
) -> None:
    section = Data(pool_frames=pool_frames, short_side=short_side)
    cached = ClipReader(mixed, section, "pyav", cache_of(mixed, section, tmp_path))
    decoded = ClipReader(mixed, section, "pyav", None)
    for sample in mixed:
        sizes: list[int] = []
        for seed in range(3):
            draws = np.random.default_rng(seed).random(4)

            def choose(size: int, draws: np.ndarray = draws, sizes: list[int] = sizes) -> np.ndarray:
                sizes.append(size)
                return random_in_intervals(size, draws)

            one, other = cached.read(sample, choose), decoded.read(sample, choose)
            assert one.dtype == other.dtype == np.uint8
            assert np.array_equal(one, other), str(sample.source)
        num_frames = VIDEOS[sample.index][0] if sample.kind == "video" else 1
        assert set(sizes) == {min(num_frames, pool_frames or num_frames)}


def test_pool_is_evenly_spaced_over_the_whole_video(mixed: Manifest) -> None:
    longest = mixed[5]
    every = read_pool(longest, Data(), "pyav", range)
    pool = read_pool(longest, Data(pool_frames=3), "pyav", range)
    assert np.array_equal(pool, every[[5, 15, 25]])


def test_cache_key_tells_settings_and_sets_apart(mixed: Manifest, tmp_path: Path) -> None:
    keys = {
        cache_of(mixed, Data(), tmp_path),
        cache_of(mixed, Data(pool_frames=2), tmp_path),
        cache_of(mixed, Data(short_side=20), tmp_path),
    }
    assert len(keys) == 3
    assert cache_of(mixed, Data(image_size=8), tmp_path) in keys  # crops are made of the cached frames


def test_cache_over_its_budget_is_not_made(mixed: Manifest, tmp_path: Path) -> None:
    for budget in (0.0, 1e-7):
        assert ensure_cache(mixed, "train", Data(), "pyav", tmp_path, budget, quietly) is None
    assert not list(tmp_path.iterdir())


def test_cache_that_outgrows_its_budget_is_given_up(tmp_path: Path) -> None:
    """As where a few long films stand between those that it was estimated by."""
    rows = []
    for number in range(40):
        write_video(tmp_path / f"{number}.mp4", 100 if number == 4 else 2, 32, 32)
        rows.append(Row(str(number), Path(f"{number}.mp4"), "video", "train", ("c",)))
    made = manifest_writer.write(tmp_path / "set.parquet", rows, "long", tmp_path).split("train")
    assert 4 not in midpoints(40, 16)
    root = tmp_path / "cache"
    budget = 40 * 2 * 32 * 32 * 3 * 1.5 / 1e9
    assert ensure_cache(made, "train", Data(), "pyav", root, budget, quietly) is None
    assert not list(root.rglob("frames.bin"))
    assert ensure_cache(made, "train", Data(), "pyav", root, GENEROUS, quietly) is not None


def test_cache_tells_every_sample_made(mixed: Manifest, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    ensure_cache(mixed, "train", Data(), "pyav", tmp_path, GENEROUS, lambda *counts: told.append(counts))
    assert told == [(number + 1, len(mixed)) for number in range(len(mixed))]


def test_cache_pickled_maps_the_file_again_and_carries_no_frames(mixed: Manifest, tmp_path: Path) -> None:
    cache = FrameCache(cache_of(mixed, Data(), tmp_path))
    pickled = pickle.dumps(cache)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled)[3], cache[3])


MAKE = """
import os, sys
from pathlib import Path
from mac_ray.config import Data
from mac_ray.data.frame_cache import ensure_cache
from mac_ray.data.manifest import Manifest
def slowly(done, total):
    print(done, flush=True)
    if len(sys.argv) > 3 and done == int(sys.argv[3]):
        sys.stdin.read()
ensure_cache(Manifest.open(sys.argv[1]).split("train"), "train", Data(), "pyav", Path(sys.argv[2]), 1.0, slowly)
"""


def maker(mixed: Manifest, root: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(mixed.path), str(root), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_cache_of_a_killed_process_is_made_anew(mixed: Manifest, tmp_path: Path) -> None:
    with maker(mixed, tmp_path, "5") as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "5":
            pass
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob("frames/*/frames.bin"))) == 1
    assert not list(tmp_path.glob("frames/*/index.npy"))
    cache = FrameCache(cache_of(mixed, Data(), tmp_path))
    for sample in mixed:
        assert np.array_equal(cache[sample.index], read_pool(sample, Data(), "pyav", range))


def waits_for_lock(process: subprocess.Popen[str]) -> bool:
    """Whether it has opened the lock of a cache, which the other process holds."""
    with suppress(OSError):
        return any(link.readlink().name == "lock" for link in Path(f"/proc/{process.pid}/fd").iterdir())
    return False


def test_cache_asked_for_by_two_processes_at_once_is_made_by_one(mixed: Manifest, tmp_path: Path) -> None:
    first = maker(mixed, tmp_path, "3")
    assert first.stdout is not None
    assert first.stdout.readline() == "1\n"
    second = maker(mixed, tmp_path)
    while not waits_for_lock(second):
        assert second.poll() is None
        time.sleep(0.02)
    assert first.stdin is not None
    first.stdin.close()
    # by the stream that was read from: `communicate` would pass over what that has taken in already
    told = [first.stdout.read().split(), second.communicate()[0].split()]
    assert [process.wait() for process in (first, second)] == [0, 0]
    assert [len(lines) for lines in told] == [len(mixed) - 1, 0]


def _with_limit(path: Path, root: Path, limit: int, sentences: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        cache_of(Manifest.open(path).split("train"), Data(), root)
    except ConfigError as error:
        sentences.put(str(error))


def test_cache_on_a_full_disk_says_what_to_do_and_gives_the_room_back(
    mixed: Manifest, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    sentences = context.Queue()
    process = context.Process(target=_with_limit, args=(mixed.path, tmp_path, 40_000, sentences))
    process.start()
    assert "cluster.cache_budget_gb=0" in sentences.get(timeout=60)
    process.join()
    assert not list(tmp_path.glob("frames/*/frames.bin"))


def test_cache_in_a_folder_that_cannot_be_made_says_where(mixed: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written to .*file.*storage\.cache"):
        cache_of(mixed, Data(), tmp_path / "file")


@pytest.fixture
def faulty(tmp_path: Path) -> Manifest:
    """A sound video, one whose second half is damaged, and one that is no video."""
    folder = tmp_path / "faulty"
    folder.mkdir()
    for name in ("sound", "cut", "broken"):
        write_video(folder / f"{name}.mp4", 40, 64, 64)
    content = (folder / "cut.mp4").read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = (start + end) // 2
    (folder / "cut.mp4").write_bytes(content[:middle] + b"\xff" * (end - middle) + content[end:])
    (folder / "broken.mp4").write_text("not media at all")
    rows = [Row(name, Path(f"{name}.mp4"), "video", "train", ("c",)) for name in ("sound", "cut", "broken")]
    return manifest_writer.write(folder / "set.parquet", rows, "faulty", folder).split("train")


def test_faulty_files_are_the_same_with_and_without_a_cache(faulty: Manifest, tmp_path: Path) -> None:
    cached = ClipReader(faulty, Data(), "pyav", cache_of(faulty, Data(), tmp_path))
    decoded = ClipReader(faulty, Data(), "pyav", None)
    for draw in (0.0, 0.3, 0.99):
        # early frames of the cut video are numbered by its header, late ones by what decodes
        choose = partial(random_in_intervals, draws=np.array([draw]))
        for sample in (faulty[0], faulty[1]):
            assert np.array_equal(cached.read(sample, choose), decoded.read(sample, choose))
    errors = []
    for reader in (cached, decoded):
        with pytest.raises(DecodeError, match=r"broken\.mp4: pyav") as caught:
            reader.read(faulty[2], range)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_file_mended_after_the_cache_was_made_is_read(faulty: Manifest, tmp_path: Path) -> None:
    cached = ClipReader(faulty, Data(), "pyav", cache_of(faulty, Data(), tmp_path))
    os.link(faulty[0].source.place, Path(faulty.root) / "copy.mp4")
    (Path(faulty.root) / "copy.mp4").replace(faulty[2].source.place)
    assert np.array_equal(cached.read(faulty[2], range), cached.read(faulty[0], range))


def test_set_whose_media_are_not_there_yet_has_no_cache_until_they_are(tmp_path: Path) -> None:
    rows = [Row("a", Path("late.mp4"), "video", "train", ("c",))]
    late = manifest_writer.write(tmp_path / "set.parquet", rows, "late", tmp_path).split("train")
    assert ensure_cache(late, "train", Data(), "pyav", tmp_path, GENEROUS, quietly) is None
    write_video(tmp_path / "late.mp4", 9, 32, 32)
    pool = FrameCache(cache_of(late, Data(), tmp_path))[0]
    assert pool is not None
    assert len(pool) == 9


def test_media_of_one_name_below_another_root_are_not_taken_from_the_cache_of_the_first(
    tmp_path: Path,
) -> None:
    for name, num_frames in (("first", 3), ("second", 9)):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "clip.mp4", num_frames, 32, 32)
    rows = [Row("a", Path("clip.mp4"), "video", "train", ("c",))]
    manifest_writer.write(tmp_path / "set.parquet", rows, "set", tmp_path / "first")
    sizes = []
    for root in ("first", "second"):
        opened = Manifest.open(tmp_path / "set.parquet", tmp_path / root).split("train")
        folder = cache_of(opened, Data(), tmp_path / "cache")
        assert folder is not None
        sizes.append(len(ClipReader(opened, Data(), "pyav", folder).read(opened[0], range)))
    assert sizes == [3, 9]
