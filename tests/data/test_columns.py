"""The copy of a manifest's rows: the same samples, found without the manifest in memory."""

import json
import pickle
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mac_ray.data.columns import TOGETHER
from mac_ray.data.manifest import METADATA_KEY, SCHEMA, Manifest, ManifestError, Row
from mac_ray.data.manifest_writer import write, write_durations

TOGETHER_BY_SPLIT = ["train"] * 500 + ["val"] * 30 + ["test"] * 9
SCATTERED = [("val", "train", "train", "test", "train")[number % 5] for number in range(539)]


def write_rows(path: Path, splits: Sequence[str], word: str = "said") -> Manifest:
    """Every third sample is a part of a tar."""
    rows = (
        Row(
            id=f"v{number}",
            path=f"clips/{number}.mp4" if number % 3 else "shard.tar",
            kind="video",
            split=split,
            captions=tuple(f"{number} {word} {time}" for time in range(1 + number % 4)),
            end=2.5 if number % 3 else None,
            offset=None if number % 3 else 512 * number,
            length=None if number % 3 else 512,
        )
        for number, split in enumerate(splits)
    )
    return write(path, rows, "set", path.parent)


@pytest.mark.parametrize("splits", [TOGETHER_BY_SPLIT, SCATTERED, ["train"], ["train"] * TOGETHER])
def test_samples_of_the_copy_are_those_of_the_file(tmp_path: Path, splits: list[str]) -> None:
    written = write_rows(tmp_path / "set.parquet", splits)
    opened = Manifest.open(tmp_path / "set.parquet", cache=tmp_path / "cache")
    assert [opened[index] for index in range(len(opened))] == list(written)
    assert opened.split_sizes() == {name: splits.count(name) for name in dict.fromkeys(splits)}
    for name in set(splits):
        own = opened.split(name)
        expected = [sample for sample in written if sample.split == name]
        ids = [sample.id for sample in expected]
        assert [sample.id for sample in own] == [own[index].id for index in range(len(own))] == ids
        assert [sample.index for sample in own] == list(range(len(ids)))
        assert (own.ids().to_pylist(), own.table["id"].to_pylist()) == (ids, ids)
        assert [tuple(captions) for captions in own.captions()] == [sample.captions for sample in expected]
        assert own[len(own) - 1].source == expected[-1].source


def test_copy_is_made_once_and_anew_for_another_file(tmp_path: Path) -> None:
    path, cache = tmp_path / "set.parquet", tmp_path / "cache"
    write_rows(path, SCATTERED)
    earlier = Manifest.open(path, cache=cache).split("train")
    (made,) = cache.rglob("rows.arrow")
    before = made.stat().st_mtime_ns

    assert Manifest.open(path, cache=cache)[3].captions[0] == "3 said 0"
    assert [file.stat().st_mtime_ns for file in cache.rglob("rows.arrow")] == [before]

    write_rows(path, SCATTERED, word="wrote")
    assert Manifest.open(path, cache=cache)[3].captions[0] == "3 wrote 0"
    assert earlier[3].captions[0].split()[1] == "said"  # whoever had opened it has the set of its fingerprint


def test_durations_stored_after_the_copy_are_read(tmp_path: Path) -> None:
    path, cache = tmp_path / "set.parquet", tmp_path / "cache"
    write_rows(path, ["train", "train"])
    write_durations(Manifest.open(path, cache=cache), [1.5, None])
    assert Manifest.open(path, cache=cache).table["duration"].to_pylist() == [1.5, None]


def test_copy_that_was_interrupted_is_made_again(tmp_path: Path) -> None:
    path, cache = tmp_path / "set.parquet", tmp_path / "cache"
    written = write_rows(path, SCATTERED)
    Manifest.open(path, cache=cache)
    (rows,), (last,) = cache.rglob("rows.arrow"), cache.rglob("splits.json")
    rows.write_bytes(rows.read_bytes()[:1000])
    last.unlink()
    opened = Manifest.open(path, cache=cache)
    assert [opened[index] for index in range(len(opened))] == list(written)


def test_copy_that_finds_no_room_gives_back_what_it_took(tmp_path: Path) -> None:
    path, cache = tmp_path / "set.parquet", tmp_path / "cache"
    write_rows(path, SCATTERED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ManifestError, match=r"copy of manifest .*set\.parquet.* and has room"):
            Manifest.open(path, cache=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in cache.rglob("*") if file.is_file()] == ["lock"]
    assert len(Manifest.open(path, cache=cache)) == len(SCATTERED)


def test_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "set.parquet", ["train"])
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ManifestError, match=r"copy of manifest .*set\.parquet.* set storage\.cache"):
        Manifest.open(tmp_path / "set.parquet", cache=tmp_path / "cache")


def test_pickled_manifest_carries_no_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "set.parquet", SCATTERED)
    train = Manifest.open(tmp_path / "set.parquet", cache=tmp_path / "cache").split("train")
    before = train[7]
    assert len(pickle.dumps(train)) < 2000
    assert pickle.loads(pickle.dumps(train))[7] == before


# ---------------------------------------------------------------- memory

LOOK_UP = """
import sys
from pathlib import Path
import psutil
from mac_ray.data.manifest import Manifest
from mac_ray.data.order import GlobalOrder

train = Manifest.open(sys.argv[1], cache=sys.argv[2]).split("train")
late = 2 * len(train) + 1000
ids = [train[number].id for _, number in GlobalOrder(len(train), seed=3, stage=0).at(range(late, late + 2000))]
captions = sum(map(len, train.captions()))
print(len(train), captions, psutil.Process().memory_info().rss, ids[0], ids[-1])
"""


def write_many(path: Path, count: int) -> int:
    """A manifest of 300 bytes of captions a sample; every tenth is in another split. The size of its table."""
    numbers = range(count)
    columns = {
        "id": [f"v{number}" for number in numbers],
        "path": [f"shard{number // 1000}.tar" for number in numbers],
        "offset": [number % 1000 * 512 for number in numbers],
        "length": [512] * count,
        "kind": ["frames"] * count,
        "split": ["train" if number % 10 else "val" for number in numbers],
        "captions": [[f"{number:0100}"] * 3 for number in numbers],
        "num_bytes": [512] * count,
    }
    table = pa.table(
        [pa.array(columns.get(field.name, [None] * count), field.type) for field in SCHEMA], schema=SCHEMA
    )
    description = {"version": 2, "name": "many", "root": "/", "fingerprint": str(count)}
    described = table.replace_schema_metadata({METADATA_KEY: json.dumps(description).encode()})
    pq.write_table(described, path, row_group_size=10_000)
    return int(table.nbytes)


def test_memory_and_order_of_ten_times_the_samples_are_as_they_should(tmp_path: Path) -> None:
    """Of any step at once: 4 bytes a sample for the order, and nothing for the samples."""
    resident = []
    for count in (20_000, 200_000):
        path = tmp_path / f"{count}.parquet"
        size = write_many(path, count)
        Manifest.open(path, cache=tmp_path / "cache")  # makes the copy
        told = subprocess.run(
            [sys.executable, "-c", LOOK_UP, str(path), str(tmp_path / "cache")],
            capture_output=True,
            text=True,
            check=True,
        )
        samples, captions, memory, first, last = told.stdout.split()
        samples = int(samples)
        assert (samples, int(captions)) == (count * 9 // 10, 3 * samples)
        order = np.random.default_rng([3, 0, 2, samples]).permutation(samples)[[1000, 2999]]
        expected = [number // 9 * 10 + number % 9 + 1 for number in order.tolist()]  # of the whole file
        assert [first, last] == [f"v{number}" for number in expected]
        resident.append(int(memory))
    assert size > 70e6
    assert resident[1] - resident[0] < size / 4
