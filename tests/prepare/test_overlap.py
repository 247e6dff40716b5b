"""Leaks between splits, by id, by path and by content."""

from pathlib import Path

import pyarrow as pa

from mac_ray.data.manifest import Row
from mac_ray.data.manifest_writer import write
from mac_ray.prepare.overlap import copies, overlaps


def samples(tmp_path: Path, *rows: tuple[str, str, str]) -> pa.Table:
    """Of (id, split, path)."""
    written = (Row(id, Path(path), "video", split, ("c",)) for id, split, path in rows)
    return write(tmp_path / "set.parquet", written, "set", tmp_path).table


def test_each_way_to_be_the_same_is_told_by_itself_and_by_pair_of_splits(tmp_path: Path) -> None:
    table = samples(
        tmp_path,
        ("same id", "train", "a"),
        ("same id", "test", "b"),
        ("c", "train", "file"),
        ("d", "val", "file"),
        ("e", "test", "file"),
        ("f", "train", "copy 1"),
        ("g", "test", "copy 2"),
        ("h", "train", "own 1"),
        ("i", "train", "own 2"),
        ("j", "test", "unread 1"),
        ("k", "train", "unread 2"),
    )
    digests = pa.chunked_array([["1", "2", "3", "3", "3", "4", "4", "5", "5", None, None]])
    found = {
        (entry.by, entry.splits): (
            entry.count,
            [[place.id for place in group] for group in entry.examples],
        )
        for entry in overlaps(table, digests)
    }
    assert found == {
        ("id", ("train", "test")): (1, [["same id", "same id"]]),
        ("path", ("train", "val")): (1, [["c", "d"]]),
        ("path", ("train", "test")): (1, [["c", "e"]]),
        ("path", ("test", "val")): (1, [["d", "e"]]),
        ("content", ("train", "test")): (1, [["f", "g"]]),
    }
    assert {entry.by for entry in overlaps(table, digests) if entry.is_leak} == {"path", "content"}
    assert [
        (entry.split, entry.count, [[place.id for place in group] for group in entry.examples])
        for entry in copies(table, digests)
    ] == [("train", 1, [["h", "i"]])]


def test_windows_of_one_file_are_no_copies_and_parts_of_one_file_are_no_leak(tmp_path: Path) -> None:
    rows = [
        Row("a", Path("film.mp4"), "video", "train", ("c",), 0.0, 1.0),
        Row("b", Path("film.mp4"), "video", "train", ("c",), 1.0, 2.0),
        Row("c", Path("shard.tar"), "video", "train", ("c",), offset=0, length=10),
        Row("d", Path("shard.tar"), "video", "test", ("c",), offset=10, length=10),
    ]
    table = write(tmp_path / "set.parquet", rows, "set", tmp_path).table
    digests = pa.chunked_array([["1", "1", "2", "3"]])
    assert overlaps(table, digests) == copies(table, digests) == []
