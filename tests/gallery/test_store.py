"""The store on disk: what is added stays, names are any bytes, and trouble is one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mac_ray.gallery.media import Media, SearchError
from mac_ray.gallery.store import Rows, alone, opened
from mac_ray.gallery.windows import Window


def rows(path: str, count: int, complete: bool = True, problem: str = "", first: int = 0) -> Rows:
    windows = [Window(float(number), number + 1.0) for number in range(first, first + count)]
    vectors = np.arange(first, first + count, dtype=np.float32)[:, None].repeat(3, 1)
    return Rows(Media(path, "video", 10, 20), windows, vectors, complete, problem)


def test_what_is_added_in_parts_is_read_back_by_path_and_time(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.add([rows("b.mp4", 2, complete=False), rows("a.mp4", 1)])
    with opened(tmp_path) as store:
        assert store.known()["b.mp4"].num_windows == 2
        store.add([rows("b.mp4", 1, first=2), rows("c.mp4", 0, problem="the file is empty")])
        gallery = store.gallery()
        known = store.known()
    assert [path for path, _ in gallery.media] == ["a.mp4", "b.mp4", "b.mp4", "b.mp4"]
    assert gallery.windows == [Window(0, 1), Window(0, 1), Window(1, 2), Window(2, 3)]
    assert gallery.vectors.tolist() == [[0.0] * 3, [0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert [(entry.path, entry.reason) for entry in gallery.unreadable] == [("c.mp4", "the file is empty")]
    assert all(entry.complete for entry in known.values())


def test_what_is_forgotten_leaves_no_window(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.add([rows("a.mp4", 2), rows("b.mp4", 1)])
        store.forget(["a.mp4", "unknown.mp4"])
        assert [path for path, _ in store.gallery().media] == ["b.mp4"]
        assert set(store.known()) == {"b.mp4"}


def test_name_that_is_no_text_is_read_back_as_it_was(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    with opened(tmp_path) as store:
        store.add([rows(name, 1)])
        assert store.gallery().media == [(name, "video")]


def test_batch_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    bad = rows("b.mp4", 2)
    with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="shorter"):
            store.add([rows("a.mp4", 1), Rows(bad.media, bad.windows, bad.vectors[:1], True, "")])
        assert store.known() == {}


def test_damaged_index_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "windows.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(SearchError, match=r"index in .* is damaged .*; delete that folder"), opened(tmp_path):
        pass


def test_place_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "taken" / "windows.sqlite").mkdir(parents=True)
    for place in (tmp_path / "file" / "index", tmp_path / "taken"):
        with pytest.raises(SearchError, match=r"cannot be kept in .*--cache"), opened(place):
            pass


HOLD = """
import sys
from pathlib import Path
from mac_ray.gallery.store import alone
with alone(Path(sys.argv[1]), lambda: print("waiting", flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_write_one_after_the_other(tmp_path: Path) -> None:
    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with start() as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "held\n"
        with start() as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting\n"
            first.kill()  # however it ends
            assert second.stdout.readline() == "held\n"
            second.communicate()
    with alone(tmp_path, lambda: pytest.fail("nobody holds it")):
        pass
