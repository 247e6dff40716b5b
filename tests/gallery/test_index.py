"""The index of a folder: right at first, and afterwards only as much work as there is something new."""

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mac_ray.config import Config, Search
from mac_ray.data.decode import DecoderDiedError, frames
from mac_ray.data.pool import midpoints
from mac_ray.data.sizes import centre_crop
from mac_ray.data.source import Source
from mac_ray.encoder import Encoder, load_encoder
from mac_ray.gallery import index
from mac_ray.gallery.index import CLIPS_AT_ONCE, bring_up_to_date, place_of
from mac_ray.gallery.media import Unreadable, media_below
from mac_ray.gallery.store import Gallery, opened
from mac_ray.gallery.windows import Stretch, read_stretch
from tests.data.conftest import IMAGES, VIDEOS, write_video
from tests.test_encoder import saved_run

Indexed = Callable[..., tuple[Gallery, list[int]]]


@pytest.fixture
def section(tmp_path: Path) -> Search:
    """Windows short enough for the longest video, of 3 s, to have many."""
    return Search(window=0.5, hop=0.25, cache=str(tmp_path / "cache"))


@pytest.fixture
def indexed(encoder: Encoder, folder: Path, section: Search) -> Indexed:
    """Brings the index up to date; gives what is in it and the numbers of files that were reported as done."""

    def index(stop: Callable[[int], None] = lambda done: None) -> tuple[Gallery, list[int]]:
        told: list[int] = []

        def progress(done: int, total: int) -> None:
            told.append(done)
            stop(done)

        with opened(place_of(folder, encoder, section)) as store:
            bring_up_to_date(store, folder, *media_below(folder), encoder, section, progress)
            return store.gallery(), told

    return index


def vectors_of(gallery: Gallery) -> dict[tuple[str, float], bytes]:
    """Bytes of every vector by path and start."""
    return {
        (path, window.start): vector.tobytes()
        for (path, _), window, vector in zip(gallery.media, gallery.windows, gallery.vectors, strict=True)
    }


def mark(place: Path, path: str) -> None:
    """Turn the stored vectors of a file into zeros, which no encoder gives: they stay until it is embedded anew."""
    with sqlite3.connect(place / "windows.sqlite") as database:
        changed = database.execute(
            "UPDATE windows SET embedding = zeroblob(length(embedding)) "
            "WHERE file = (SELECT number FROM files WHERE path = ?)",
            (os.fsencode(path),),
        )
        assert changed.rowcount
    database.close()


def marked(gallery: Gallery) -> set[str]:
    return {
        path for (path, _), vector in zip(gallery.media, gallery.vectors, strict=True) if not vector.any()
    }


def test_every_window_of_every_file_has_the_vector_of_its_frames(
    indexed: Indexed, folder: Path, encoder: Encoder
) -> None:
    gallery, _ = indexed()
    assert gallery.num_files == len(VIDEOS) + len(IMAGES)
    assert gallery.unreadable == []
    assert len(gallery.windows) > 20
    for (path, kind), window, vector in zip(gallery.media, gallery.windows, gallery.vectors, strict=True):
        times = (window.start, window.end) if kind == "video" else (None, None)
        pixels = frames(Source.of(folder / path), kind, lambda size: list(midpoints(size, 4)), "pyav", *times)
        clip = torch.from_numpy(centre_crop(pixels, 32).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            expected = encoder.model.encode_video(clip[None])[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
    ends = {path: window.end for (path, _), window in zip(gallery.media, gallery.windows, strict=True)}
    assert ends["video5.mp4"] == pytest.approx(3.0)
    assert ends["image0.png"] == 0


@pytest.mark.parametrize("slow", [False, True])
def test_windows_of_large_frames_are_decoded_in_smaller_stretches(
    indexed: Indexed,
    folder: Path,
    encoder: Encoder,
    section: Search,
    monkeypatch: pytest.MonkeyPatch,
    slow: bool,
) -> None:
    expected, _ = indexed()
    shutil.rmtree(place_of(folder, encoder, section))
    asked: list[tuple[str, int, int]] = []

    def read(path: Path, kind: str, first: int, at_once: int, **others: Any) -> Stretch:
        asked.append((path.name, first, at_once))
        if slow and at_once > 1:
            error = DecoderDiedError(Source.of(path), "not done within 120 s")
            error.late = True
            raise error
        return read_stretch(path, kind, first, at_once, **others)

    monkeypatch.setattr(index, "read_stretch", read)
    if not slow:
        monkeypatch.setattr(index, "SMALL_FILE", 0)
        monkeypatch.setattr(index, "BYTES_AT_ONCE", 2 * 4 * 144 * 16 * 3)  # two windows of the longest video
    found, _ = indexed()
    assert vectors_of(found).keys() == vectors_of(expected).keys()
    for one, other in zip(*(sorted(vectors_of(each).items()) for each in (found, expected)), strict=True):
        np.testing.assert_allclose(
            *(np.frombuffer(value, np.float32) for _, value in (one, other)), atol=1e-5
        )
    longest = sorted((first, at_once) for name, first, at_once in asked if name == "video5.mp4")
    smaller = [(0, 1), (1, 2), (3, 2), (5, 2), (7, 2), (9, 2)]
    assert longest == (sorted([(0, 8), (8, 8), *((first, 1) for first in range(11))]) if slow else smaller)
    assert found.unreadable == []


def test_second_time_nothing_is_embedded(
    indexed: Indexed, folder: Path, encoder: Encoder, section: Search
) -> None:
    indexed()
    place = place_of(folder, encoder, section)
    for path in ("video5.mp4", "image0.png"):
        mark(place, path)
    gallery, told = indexed()
    assert told == []
    assert marked(gallery) == {"video5.mp4", "image0.png"}


def test_only_what_is_new_or_changed_is_embedded_and_what_is_gone_is_dropped(
    indexed: Indexed, folder: Path, encoder: Encoder, section: Search
) -> None:
    before = vectors_of(indexed()[0])
    mark(place_of(folder, encoder, section), "video4.mp4")
    write_video(folder / "video3.mp4", 20, 40, 56)
    (folder / "video0.mp4").unlink()
    (folder / "image1.png").rename(folder / "renamed.png")
    (folder / "deep").mkdir()
    write_video(folder / "deep" / "new.mp4", 7, 40, 56)

    gallery, told = indexed()

    after = vectors_of(gallery)
    assert told[-1] == 3
    assert {path for path, _ in after} == {
        *(f"video{number}.mp4" for number in range(1, 7)),
        *("image0.png", "renamed.png", "deep/new.mp4"),
    }
    assert marked(gallery) == {"video4.mp4"}
    assert max(start for path, start in after if path == "video3.mp4") == pytest.approx(1.5)  # of 2 s now
    assert after["video3.mp4", 0.0] != before["video3.mp4", 0.0]
    assert after["renamed.png", 0.0] == before["image1.png", 0.0]
    kept = {key for key in before if key[0] in ("video1.mp4", "video2.mp4", "video5.mp4", "image0.png")}
    assert all(after[key] == before[key] for key in kept)


def test_file_of_the_same_size_but_a_later_time_is_embedded_anew(
    indexed: Indexed, folder: Path, encoder: Encoder, section: Search
) -> None:
    indexed()
    mark(place_of(folder, encoder, section), "image0.png")
    os.utime(folder / "image0.png", (time.time() + 10, time.time() + 10))
    gallery, told = indexed()
    assert told[-1] == 1
    assert marked(gallery) == set()


def test_bad_file_is_listed_and_tried_again_only_when_it_changes(indexed: Indexed, folder: Path) -> None:
    sound = (folder / "video5.mp4").read_bytes()
    (folder / "video5.mp4").write_bytes(b"not a video at all")
    (folder / "video6.mp4").write_bytes(b"")
    gallery, _ = indexed()
    reasons = {entry.path: entry.reason for entry in gallery.unreadable}
    assert set(reasons) == {"video5.mp4", "video6.mp4"}
    assert reasons["video5.mp4"].startswith("pyav: ")
    assert reasons["video6.mp4"] == "the file is empty"
    assert gallery.num_files == len(VIDEOS) + len(IMAGES) - 2

    gallery, told = indexed()
    assert told == []
    assert {entry.path for entry in gallery.unreadable} == {"video5.mp4", "video6.mp4"}

    (folder / "video5.mp4").write_bytes(sound)
    gallery, told = indexed()
    assert told[-1] == 1
    assert [entry.path for entry in gallery.unreadable] == ["video6.mp4"]
    assert "video5.mp4" in {path for path, _ in gallery.media}


def test_file_that_could_not_be_read_is_tried_again_though_it_has_not_changed(
    indexed: Indexed, encoder: Encoder, folder: Path, section: Search
) -> None:
    """As when a server does not answer for a moment."""
    listed = media_below(folder)[0]
    (folder / "video5.mp4").rename(folder.with_name("away.mp4"))
    with opened(place_of(folder, encoder, section)) as store:
        bring_up_to_date(store, folder, listed, [], encoder, section, lambda *_: None)
        assert [entry.path for entry in store.gallery().unreadable] == ["video5.mp4"]
    folder.with_name("away.mp4").rename(folder / "video5.mp4")
    gallery, told = indexed()
    assert told[-1] == 1
    assert gallery.unreadable == []
    assert "video5.mp4" in {path for path, _ in gallery.media}


def test_what_cannot_be_listed_for_a_while_keeps_its_vectors(
    indexed: Indexed, folder: Path, encoder: Encoder, section: Search
) -> None:
    """A folder on a share that does not answer, say."""
    (folder / "deep").mkdir()
    write_video(folder / "deep" / "new.mp4", 7, 40, 56)
    gallery, _ = indexed()
    listed, _ = media_below(folder)
    left = [media for media in listed if media.path not in ("deep/new.mp4", "video5.mp4")]
    refused = [Unreadable("deep", "stale file handle"), Unreadable("video5.mp4", "input/output error")]
    with opened(place_of(folder, encoder, section)) as store:
        bring_up_to_date(store, folder, left, refused, encoder, section, lambda *_: None)
        assert vectors_of(store.gallery()) == vectors_of(gallery)
    assert indexed()[1] == []


def test_film_that_is_read_from_its_start_and_breaks_off_late_has_all_windows_until_there(
    indexed: Indexed, folder: Path
) -> None:
    for path in folder.iterdir():
        path.unlink()
    with av.open(str(folder / "broken.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        for number in range(100):  # 10 s
            pixels = np.full((32, 32, 3), 2 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    content = bytearray((folder / "broken.avi").read_bytes())
    starts = [found.start() for found in re.finditer(b"00dc", bytes(content))][:100]  # an index follows
    content[starts[80] + 8 : starts[81]] = bytes(starts[81] - starts[80] - 8)
    (folder / "broken.avi").write_bytes(content)
    gallery, _ = indexed()
    end = gallery.windows[-1].end
    assert end == pytest.approx(8.0, abs=0.2)
    starts = [window.start for window in gallery.windows]
    assert starts == pytest.approx([*(0.25 * number for number in range(len(starts) - 1)), end - 0.5])
    (reason,) = (entry.reason for entry in gallery.unreadable)
    assert reason == f"its last {10 - end:.1f} s do not decode"


def test_interrupted_index_keeps_what_is_embedded_and_goes_on_within_a_video(
    indexed: Indexed, folder: Path, encoder: Encoder, section: Search
) -> None:
    for path in folder.iterdir():
        path.unlink()
    for number in range(CLIPS_AT_ONCE - 20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"image{number:02}.png")
    write_video(folder / "long.mp4", 150, 32, 32)  # 15 s: 59 windows, the last ones in later batches

    def interrupt(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        indexed(interrupt)
    place = place_of(folder, encoder, section)
    with opened(place) as store:
        kept = store.gallery()
        begun = store.known()["long.mp4"]
    assert 0 < begun.num_windows < 59
    assert not begun.complete
    assert kept.num_files == CLIPS_AT_ONCE - 20 + 1
    for path in ("image00.png", "long.mp4"):
        mark(place, path)

    gallery, told = indexed()

    assert told[-1] == 1
    assert marked(gallery) == {"image00.png", "long.mp4"}
    untouched = [
        vector for (path, _), vector in zip(gallery.media, gallery.vectors, strict=True) if path == "long.mp4"
    ]
    assert sum(not vector.any() for vector in untouched) == begun.num_windows
    starts = [
        window.start
        for (path, _), window in zip(gallery.media, gallery.windows, strict=True)
        if path == "long.mp4"
    ]
    assert starts == pytest.approx([0.25 * number for number in range(59)])


def test_folder_without_a_readable_file_gives_an_empty_gallery(indexed: Indexed, folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"nothing")
    gallery, _ = indexed()
    assert (gallery.windows, gallery.num_files) == ([], 0)
    assert len(gallery.unreadable) == len(VIDEOS) + len(IMAGES)


def test_place_is_another_for_other_weights_frames_windows_or_folder(
    tiny: Config, encoder: Encoder, folder: Path, section: Search, tmp_path: Path
) -> None:
    other, _ = saved_run(tiny, tmp_path / "other", steps=(4,))
    same, _ = saved_run(tiny, tmp_path / "same")
    fewer, _ = saved_run(
        tiny.model_copy(update={"evaluation": tiny.evaluation.model_copy(update={"frames": 2})}),
        tmp_path / "fewer",
    )
    place = place_of(folder, encoder, section)
    assert place == place_of(folder, load_encoder(same.path), section.model_copy(update={"top": 3}))
    others = [
        place_of(folder, load_encoder(other.path), section),
        place_of(folder, load_encoder(fewer.path), section),
        place_of(folder, encoder, section.model_copy(update={"window": 0.6})),
        place_of(folder, encoder, section.model_copy(update={"hop": 0.2})),
        place_of(tmp_path, encoder, section),
    ]
    assert len({place, *others}) == 6


def test_place_is_the_same_wherever_the_weights_once_came_from(
    encoder: Encoder, folder: Path, section: Search
) -> None:
    model = encoder.config.model

    def with_model(**changes: object) -> Encoder:
        changed = encoder.config.model_copy(update={"model": model.model_copy(update=changes)})
        return replace(encoder, config=changed)

    place = place_of(folder, encoder, section)
    exported = with_model(text=model.text.model_copy(update={"tokenizer": "elsewhere"}))
    assert place_of(folder, exported, section) == place
    other = with_model(video=model.video.model_copy(update={"residual": "timesformer"}))
    assert place_of(folder, other, section) != place
