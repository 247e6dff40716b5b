"""`prepare check` on real files: what each of the difficult ones gives, and what a real set holds."""

import os
from pathlib import Path
from typing import Any

import pytest

from mac_ray.data.kinds import kind_of
from mac_ray.data.manifest import Row
from mac_ray.data.manifest_writer import write
from mac_ray.prepare.__main__ import main
from tests.prepare.test_check import check

pytestmark = pytest.mark.realdata

# container, codec, pixel format, upright size, frames; as `ffprobe -count_frames` tells of the larger video stream
EXPECTED = {
    "av1_video.mkv": ("mkv/webm", "av1", "yuv420p", "640×360", 125),
    "bt709_full_range.mp4": ("mp4/mov", "h264", "yuvj420p", "1280×720", 30),
    "fire2.mp4": ("mp4/mov", "h264", "yuv420p", "1280×720", 25),
    "flipping_a_pancake.mkv": ("mkv/webm", "h264", "yuv420p", "426×240", 310),
    "h264_10bits.mp4": ("mp4/mov", "h264", "yuv420p10le", "200×200", 30),
    "h265_10bits.mp4": ("mp4/mov", "hevc", "yuv420p10le", "200×200", 30),
    "h265_video.mp4": ("mp4/mov", "hevc", "yuv420p", "128×128", 10),
    "nasa_13013.mp4": ("mp4/mov", "h264", "yuv420p", "480×270", 390),
    "no_duration.webm": ("mkv/webm", "vp9", "yuv420p", "1280×720", 74),
    "part_0.mp4": ("mp4/mov", "h264", "yuv420p", "340×256", 32),
    "pigs_in_a_polka.gif": ("gif", "gif", "bgra", "314×273", 30),
    "test.avi": ("avi", "mpeg4", "yuv420p", "320×240", 164),
    "test_video.mp4": ("mp4/mov", "h264", "yuv444p", "1×1", 5),
    "transparent.webm": ("mkv/webm", "vp9", "yuv420p", "200×200", 150),
    "unordered.mov": ("mp4/mov", "h264", "yuv420p", "50×50", 4),
    "video_0.mov": ("mp4/mov", "h264", "yuv420p", "568×320", 3),
    "video_180.mov": ("mp4/mov", "h264", "yuv420p", "568×320", 3),
    "video_270.mov": ("mp4/mov", "h264", "yuv420p", "320×568", 3),
    "video_90.mov": ("mp4/mov", "h264", "yuv420p", "320×568", 3),
    "video_with_failing_audio.mp4": ("mp4/mov", "h264", "yuv420p", "640×360", 280),
}


@pytest.fixture
def media() -> Path:
    return Path(os.environ["MAC_RAY_REAL_DATA"]) / "media"


def test_faults_folder_is_told_file_by_file(media: Path, tmp_path: Path) -> None:
    faults, manifest = media / "faults", tmp_path / "faults.parquet"
    names = sorted(path.name for path in faults.iterdir() if kind_of(path.name) == "video")
    assert set(EXPECTED) < set(names)
    # each in a split of its own, to see what it gives
    rows = [Row(name, name, "video", name, (f"the file {name}",)) for name in names]
    write(manifest, rows, "faults", faults)

    code, report = check(manifest)

    assert code == 1
    assert [entry["id"] for entry in report["empty"]] == ["empty_0_bytes_result.webm"]
    assert [entry["id"] for entry in report["cut_short"]] == ["corrupted.mp4"]
    assert report["undecodable"] == report["missing"] == report["changed"] == report["overlaps"] == []
    assert {name: told(report, name) for name in EXPECTED} == EXPECTED


def told(report: dict[str, Any], name: str) -> tuple[Any, ...]:
    """What is told of the one file of a split."""
    kinds = ("container", "codec", "pixel_format", "resolution")
    values = [
        next(value for value, counts in report["media"][kind].items() if name in counts) for kind in kinds
    ]
    return (*values, report["splits"][name]["frames"])


def test_flickr8k_is_ready_with_its_known_repeats(media: Path, tmp_path: Path) -> None:
    flickr8k, manifest = media / "flickr8k", tmp_path / "flickr8k.parquet"
    read = ["--annotations", str(flickr8k), "--images", str(flickr8k / "Images"), "--out", str(manifest)]
    assert main(["manifest", "flickr8k", *read]) == 0
    code, report = check(manifest, "--expect", "train=6000", "val=1000", "test=1000")
    assert code == 0
    assert [split["found"] for split in report["splits"].values()] == [6000, 1000, 1000]
    assert report["media"]["resolution"] == {"112×112": {"train": 6000, "val": 1000, "test": 1000}}
    # one picture is there under two names, as any tool that hashes files tells
    assert [(entry["split"], entry["count"]) for entry in report["copies"]] == [("train", 1)]
    # within a split, between pictures; over the whole file 334 captions are repeated
    assert [split["captions"]["tied_texts"] for split in report["splits"].values()] == [121, 3, 6]
