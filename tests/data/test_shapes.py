"""The moving-shapes set as files: made, found again, mended, continued, or refused in one sentence."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from mac_ray.config import ConfigError, MovingShapes
from mac_ray.data import shape_scenes, shapes
from mac_ray.data.manifest import Manifest

SMALL = MovingShapes(train=5, val=2, test=4, frames=3, size=32)


def clips_of(manifest: Path) -> dict[str, bytes]:
    found = {path.relative_to(manifest.parent).as_posix(): path.read_bytes() for path in files_of(manifest)}
    assert found
    return found


def files_of(manifest: Path) -> list[Path]:
    return sorted(path for path in manifest.parent.glob("*/*") if path.is_file())


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of SMALL, not to be touched."""
    return shapes.make(SMALL, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def made(pristine: Path, tmp_path: Path) -> Path:
    """The manifest of a copy of SMALL in `tmp_path`, to be damaged at will."""
    shutil.copytree(pristine.parents[2], tmp_path, dirs_exist_ok=True)
    return shapes.make(SMALL, tmp_path)


def test_make_in_two_folders_by_one_or_more_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    section = MovingShapes(train=100, val=10, test=10, frames=2, size=32)
    one = shapes.make(section, tmp_path / "one", processes=1)
    other = shapes.make(section, tmp_path / "other", processes=3)
    assert clips_of(one) == clips_of(other)
    assert len(clips_of(one)) == 120
    assert Manifest.open(one).fingerprint == Manifest.open(other).fingerprint


def test_make_writes_videos_of_the_sizes_of_the_config(pristine: Path) -> None:
    manifest = Manifest.open(pristine)
    assert manifest.split_sizes() == {"train": 5, "val": 2, "test": 4}
    assert len(files_of(pristine)) == 11
    for sample in manifest:
        assert sample.kind == "video"
        with av.open(sample.source.place) as container:
            frames = list(container.decode(video=0))
        assert [(frame.width, frame.height) for frame in frames] == [(32, 32)] * 3


def test_manifest_holds_the_captions_of_each_clip(pristine: Path) -> None:
    expected = [
        shape_scenes.captions(clip)
        for split, count in (("train", 5), ("val", 2), ("test", 4))
        for clip in shape_scenes.clips(split, count, SMALL.objects, SMALL.seed)
    ]
    assert [sample.captions for sample in Manifest.open(pristine)] == expected


def test_sections_that_differ_are_kept_apart(pristine: Path) -> None:
    cache = pristine.parents[2]
    other = shapes.make(SMALL.model_copy(update={"seed": 1}), cache)
    assert other != pristine
    assert not set(clips_of(other).values()) & set(clips_of(pristine).values())


def test_make_of_a_complete_set_writes_nothing(pristine: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pristine.parent.rglob("*")}
    progressed: list[tuple[int, int]] = []
    assert shapes.make(SMALL, pristine.parents[2], progress=lambda *now: progressed.append(now)) == pristine
    assert {path: path.stat().st_mtime_ns for path in pristine.parent.rglob("*")} == before
    assert progressed == []


def test_make_mends_damaged_and_missing_clips_and_leaves_the_others(made: Path) -> None:
    before = clips_of(made)
    times = {path: path.stat().st_mtime_ns for path in files_of(made)}
    damaged, missing = made.parent / "train/000003.mp4", made.parent / "test/000000.mp4"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    missing.unlink()
    progressed: list[tuple[int, int]] = []
    shapes.make(SMALL, made.parents[2], progress=lambda *now: progressed.append(now))
    assert clips_of(made) == before
    assert progressed == [(10, 11), (11, 11)]
    untouched = set(times) - {damaged, missing}
    assert {path: path.stat().st_mtime_ns for path in untouched} == {path: times[path] for path in untouched}


@pytest.mark.parametrize("name", ["manifest.parquet", "SHA256SUMS"])
def test_make_mends_a_damaged_manifest_or_checksum_file(made: Path, name: str) -> None:
    fingerprint, before = Manifest.open(made).fingerprint, clips_of(made)
    path = made.parent / name
    path.write_bytes(path.read_bytes()[:-40] + b"\xff" * 5)
    shapes.make(SMALL, made.parents[2])
    assert Manifest.open(made).fingerprint == fingerprint
    assert clips_of(made) == before


def test_make_after_an_interruption_keeps_what_was_made(pristine: Path, tmp_path: Path) -> None:
    def interrupt(now: int, _: int) -> None:
        if now == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapes.make(SMALL, tmp_path, progress=interrupt)
    manifest = tmp_path / pristine.relative_to(pristine.parents[2])
    assert not manifest.exists()
    (manifest.parent / "val" / ".000000.mp4.1").write_bytes(b"half a clip")  # of a process that was killed
    progressed: list[tuple[int, int]] = []
    assert shapes.make(SMALL, tmp_path, progress=lambda *now: progressed.append(now)) == manifest
    assert progressed[0] == (5, 11)
    assert clips_of(manifest) == clips_of(pristine)


def test_make_by_several_at_once_makes_one_whole_set(pristine: Path, tmp_path: Path) -> None:
    progressed: list[tuple[int, int]] = []
    with ThreadPoolExecutor(3) as pool:
        calls = [
            pool.submit(shapes.make, SMALL, tmp_path, 1, lambda *now: progressed.append(now))
            for _ in range(3)
        ]
        (manifest,) = {call.result() for call in calls}
    assert clips_of(manifest) == clips_of(pristine)
    assert len(progressed) == 11


def test_make_in_a_cache_that_was_moved_finds_the_clips_there(made: Path, tmp_path: Path) -> None:
    moved = shutil.move(made.parents[1], tmp_path / "elsewhere" / "moving_shapes")
    manifest = shapes.make(SMALL, tmp_path / "elsewhere")
    assert manifest.is_relative_to(moved)
    assert all(
        Path(sample.source.place).is_relative_to(moved) and sample.source.size() is not None
        for sample in Manifest.open(manifest)
    )


def test_make_in_a_cache_that_cannot_be_written_says_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(
        ConfigError, match=r"cannot make .* in .*cache.*Not a directory.*storage\.cache"
    ) as raised:
        shapes.make(SMALL, tmp_path / "cache")
    assert "\n" not in str(raised.value)


def test_make_where_a_clip_cannot_be_written_says_why_in_one_sentence(made: Path) -> None:
    clip = made.parent / "train/000001.mp4"
    clip.unlink()
    clip.mkdir()
    with pytest.raises(ConfigError, match=r"Is a directory: .*storage\.cache") as raised:
        shapes.make(SMALL, made.parents[2])
    assert "\n" not in str(raised.value)
