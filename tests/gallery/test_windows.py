"""Windows of time by hand, and their clips against those that evaluation makes."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mac_ray import encoder
from mac_ray.config import Data, Search
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DecodeError
from mac_ray.data.loader import EvaluationClips
from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.manifest_writer import write as write_manifest
from mac_ray.gallery.windows import Window, read_stretch, shown, sliding, thumbnail
from tests.data.conftest import make_hanging, write_video

SHORT = Search(window=1.0, hop=0.5)
SIZES = Data(image_size=16, pool_frames=6, short_side=24)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (0.0, [(0, 0)]),
        (4.0, [(0, 4)]),
        (10.0, [(0, 10)]),
        (10.4, [(0, 10.4)]),  # less than a tenth of a hop more
        (11.0, [(0, 10), (1, 11)]),
        (20.0, [(0, 10), (5, 15), (10, 20)]),
        (22.0, [(0, 10), (5, 15), (10, 20), (12, 22)]),
    ],
)
def test_windows_slide_by_the_hop_and_the_last_ends_with_the_file(
    duration: float, expected: list[tuple[float, float]]
) -> None:
    found = sliding(duration, Search(window=10, hop=5))
    assert [(window.start, window.end) for window in found] == expected


@pytest.mark.parametrize("duration", np.random.default_rng(0).uniform(0, 300, 50))
@pytest.mark.parametrize(("window", "hop"), [(10, 5), (7, 7), (3, 0.5)])
def test_windows_cover_every_second_of_any_file(duration: float, window: float, hop: float) -> None:
    found = sliding(duration, Search(window=window, hop=hop))
    assert found[0].start == 0
    assert found[-1].end == duration
    for earlier, later in pairwise(found):
        assert earlier.start < later.start <= earlier.end
    assert all(each.end - each.start <= window + 0.1 * hop + 1e-9 for each in found)


def evaluation_clips(
    folder: Path, windows: list[tuple[float | None, float | None]], frames: int
) -> torch.Tensor:
    """(W, F, 3, S, S) of windows of clip.mp4, as a set of such samples is scored."""
    rows = [
        Row(str(number), Path("clip.mp4"), "video", "test", ("a clip",), *times)
        for number, times in enumerate(windows)
    ]
    manifest: Manifest = write_manifest(folder / "set.parquet", rows, "set", folder)
    clips, positions, failures, _ = EvaluationClips(
        ClipReader(manifest, SIZES, "pyav", None), SIZES, frames, range(len(rows)), len(rows)
    )[0]
    assert (positions, failures) == (list(range(len(rows))), [])
    return clips


def whole(duration: float) -> list[Window]:
    return [Window(0.0, duration)]


def test_clip_of_a_whole_file_is_the_one_that_evaluation_scores(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 23, 40, 56)
    stretch = read_stretch(tmp_path / "clip.mp4", "video", 0, 8, whole, SIZES, 4)
    assert np.array_equal(stretch.clips, evaluation_clips(tmp_path, [(None, None)], 4))
    assert (stretch.total, stretch.lost) == (1, 0.0)


@pytest.mark.parametrize("first", [0, 3, 8])
def test_stretch_of_windows_is_what_evaluation_sees_in_each(tmp_path: Path, first: int) -> None:
    write_video(tmp_path / "clip.mp4", 100, 32, 48)
    cut = [(start / 2, start / 2 + 1) for start in range(19)]  # 10 s in windows of 1 s every 0.5 s
    expected = evaluation_clips(tmp_path, list(cut), 4)
    stretch = read_stretch(
        tmp_path / "clip.mp4", "video", first, 8, lambda duration: sliding(duration, SHORT), SIZES, 4
    )
    assert stretch.total == 19
    count = len(stretch.windows)
    assert count == min(8, 19 - first)
    assert [(window.start, window.end) for window in stretch.windows] == [
        pytest.approx(window) for window in cut[first : first + count]
    ]
    assert np.array_equal(stretch.clips, expected[first : first + count])


def test_stretch_beyond_the_last_window_is_empty(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 9, 32, 48)
    stretch = read_stretch(tmp_path / "clip.mp4", "video", 1, 8, whole, SIZES, 4)
    assert (list(stretch.windows), stretch.clips.shape, stretch.total) == ([], (0, 4, 3, 16, 16), 1)


def test_slide_show_has_its_last_picture_in_windows_where_none_begins(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "show.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in (0, 60):  # 6 s each
            pixels = np.full((32, 32, 3), 40 + 3 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    stretch = read_stretch(
        tmp_path / "show.mp4",
        "video",
        0,
        16,
        lambda duration: sliding(duration, Search(window=2, hop=2)),
        SIZES,
        2,
    )
    assert stretch.windows[-1] == Window(10.0, 12.0)
    brightness = stretch.clips.mean((1, 2, 3, 4))
    assert brightness[0] == pytest.approx(40, abs=4)
    assert brightness[3:] == pytest.approx(220, abs=4)


def test_what_does_not_decode_at_the_end_is_told(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", 60, 64, 64)
    content = (tmp_path / "whole.mp4").read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = (start + end) // 2
    (tmp_path / "broken.mp4").write_bytes(content[:middle] + b"\xff" * (end - middle) + content[end:])
    stretch = read_stretch(
        tmp_path / "broken.mp4", "video", 0, 8, lambda duration: sliding(duration, SHORT), SIZES, 4
    )
    assert 1 < stretch.lost < 5
    assert stretch.windows[-1].end == pytest.approx(6.0 - stretch.lost)
    assert stretch.total == len(stretch.windows)


def test_thumbnail_is_the_middle_frame_with_its_shape_and_never_enlarged(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 30, 32, 64)
    path = tmp_path / "clip.mp4"
    middle = thumbnail(path, "video", Window(1.0, 2.0), 1000)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][15]
    assert np.array_equal(middle, expected)
    assert thumbnail(path, "video", Window(1.0, 2.0), 32).shape == (16, 32, 3)
    assert np.array_equal(thumbnail(path, "video", None, 1000), middle)
    with pytest.raises(DecodeError):
        thumbnail(tmp_path / "gone.mp4", "video", None, 32)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(0, 0), "image"),
        (Window(0, 0.4), "00:00–00:01"),
        (Window(61.4, 71.4), "01:01–01:11"),
        (Window(3595, 3605), "59:55–1:00:05"),
    ],
)
def test_window_is_shown_in_minutes_and_seconds(window: Window, expected: str) -> None:
    assert shown(window) == expected


def test_file_that_hangs_its_decoder_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "GIVEN_UP_AFTER_S", 1.0)
    make_hanging(tmp_path / "hangs.mp4")
    with pytest.raises(DecodeError, match=r"hangs\.mp4: pyav: not done within 1 s"):
        read_stretch(tmp_path / "hangs.mp4", "video", 0, 8, whole, Data(), 4)
    with pytest.raises(DecodeError, match=r"hangs\.mp4: pyav: not done within 1 s"):
        thumbnail(tmp_path / "hangs.mp4", "video", None, 64)
