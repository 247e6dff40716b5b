"""The manifest: what goes in comes out, by content and not by place, and what is wrong is said."""

import hashlib
import json
import pickle
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mac_ray.data.manifest import METADATA_KEY, Manifest, ManifestError, Row
from mac_ray.data.manifest_writer import write, write_durations
from tests.web_server import web_server


def video(
    name: str, split: str = "train", captions: tuple[str, ...] = ("a caption",), **window: float
) -> Row:
    return Row(name, Path(f"{name}.mp4"), "video", split, captions, **window)


def media(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").write_bytes(name.encode())
    return folder


def test_manifest_written_and_opened_gives_the_same_samples(tmp_path: Path) -> None:
    root = media(tmp_path / "media", "one", "three")
    rows = [
        video("one", captions=("first", "second")),
        Row("two", Path("below/two.png"), "image", "val", ("a picture",)),
        video("three", start=1.5, end=4),
    ]
    write(tmp_path / "set.parquet", rows, "small", root)

    manifest = Manifest.open(tmp_path / "set.parquet")

    assert (manifest.name, manifest.root, len(manifest)) == ("small", str(root), 3)
    assert [sample.id for sample in manifest] == ["one", "two", "three"] == manifest.ids().to_pylist()
    assert manifest[0].captions == ("first", "second")
    assert (manifest[0].start, manifest[0].end) == (None, None)
    assert (manifest[1].source.file, manifest[1].kind) == (root / "below/two.png", "image")
    assert (manifest[2].index, manifest[2].start, manifest[2].end) == (2, 1.5, 4.0)
    assert manifest.table["num_bytes"].to_pylist() == [3, -1, 5]
    assert manifest.table["duration"].to_pylist() == [None] * 3


def test_split_keeps_file_order_and_fingerprint(tmp_path: Path) -> None:
    splits = ["train", "val", "train", "test", "train"]
    rows = [video(f"v{number}", split) for number, split in enumerate(splits)]
    manifest = write(tmp_path / "set.parquet", rows, "small", tmp_path)

    train = manifest.split("train")

    assert manifest.split_sizes() == {"train": 3, "val": 1, "test": 1}
    assert [(sample.index, sample.id) for sample in train] == [(0, "v0"), (1, "v2"), (2, "v4")]
    assert train.fingerprint == manifest.fingerprint
    assert pickle.loads(pickle.dumps(train))[2] == train[2]
    with pytest.raises(IndexError, match="sample 3"):
        train[3]


def test_split_of_unknown_name_lists_those_that_exist(tmp_path: Path) -> None:
    manifest = write(tmp_path / "set.parquet", [video("a"), video("b", "val")], "small", tmp_path)
    with pytest.raises(ValueError, match=r"'dev'.*train, val"):
        manifest.split("dev")


def test_captions_with_inner_whitespace_and_blanks_are_normalised(tmp_path: Path) -> None:
    row = video("a", captions=("  two\n words\t", " \n", "kept"))
    assert write(tmp_path / "set.parquet", [row], "small", tmp_path)[0].captions == ("two words", "kept")


def test_fingerprint_of_the_same_set_in_another_place_is_the_same(tmp_path: Path) -> None:
    here, there = media(tmp_path / "here", "a"), media(tmp_path / "there", "a")
    first = write(tmp_path / "1.parquet", [Row("a", here / "a.mp4", "video", "train", ("c",))], "x", here)
    second = write(tmp_path / "2.parquet", [Row("a", Path("a.mp4"), "video", "train", ("c",))], "y", there)
    assert first.fingerprint == second.fingerprint
    assert (first[0].source.file, second[0].source.file) == (here / "a.mp4", there / "a.mp4")


@pytest.mark.parametrize(
    "changed",
    [
        video("b"),
        video("a", "val"),
        video("a", captions=("another",)),
        video("a", captions=("a", "caption")),
        video("a", start=1.0),
        video("a", end=1.0),
        Row("a", Path("b.mp4"), "video", "train", ("a caption",)),
        Row("a", Path("a.mp4"), "image", "train", ("a caption",)),
    ],
)
def test_fingerprint_of_any_other_content_differs(tmp_path: Path, changed: Row) -> None:
    original = write(tmp_path / "1.parquet", [video("a")], "x", tmp_path)
    assert write(tmp_path / "2.parquet", [changed], "x", tmp_path).fingerprint != original.fingerprint


def test_fingerprint_after_a_media_file_changes_its_size_differs(tmp_path: Path) -> None:
    root = media(tmp_path / "media", "a")
    before = write(tmp_path / "1.parquet", [video("a")], "x", root)
    (root / "a.mp4").write_bytes(b"longer than it was")
    assert write(tmp_path / "2.parquet", [video("a")], "x", root).fingerprint != before.fingerprint


def test_root_given_when_opening_moves_the_relative_paths_only(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere/b.mp4"
    rows = [video("a"), Row("b", outside, "video", "train", ("c",))]
    write(tmp_path / "set.parquet", rows, "small", tmp_path / "old")
    manifest = Manifest.open(tmp_path / "set.parquet", root=tmp_path / "new")
    assert [sample.source.file for sample in manifest] == [tmp_path / "new/a.mp4", outside]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([video("a"), video("a")], r"'a' occurs twice in split 'train'"),
        ([video("a", captions=())], r"'a' of split 'train' has no caption"),
        ([video("a", captions=(" ", "\n"))], r"'a' of split 'train' has no caption"),
        ([Row("a", Path("a.mp3"), "audio", "train", ("c",))], r"'audio'.*video and image"),
        ([video("a", start=3.0, end=3.0)], r"3\.0 to 3\.0 s"),
        ([video("a", end=float("nan"))], r"nan"),
        ([video("a", start=-1.0)], r"-1\.0"),
        ([Row("a", Path("a.png"), "image", "train", ("c",), 0.0, 1.0)], r"image with a window"),
        ([video("a", captions=("half a \ud83d",))], r"not valid Unicode"),
        ([video("")], r"must not be empty"),
        ([], r"no samples"),
    ],
)
def test_write_of_unusable_rows_says_why_and_leaves_the_file(
    tmp_path: Path, rows: list[Row], reason: str
) -> None:
    path = tmp_path / "set.parquet"
    before = write(path, [video("old")], "small", tmp_path).fingerprint
    with pytest.raises(ManifestError, match=reason):
        write(path, rows, "small", tmp_path)
    assert Manifest.open(path).fingerprint == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.parquet"]


def test_ids_repeated_in_another_split_are_allowed(tmp_path: Path) -> None:
    assert len(write(tmp_path / "set.parquet", [video("a"), video("a", "val")], "small", tmp_path)) == 2


def test_durations_stored_later_leave_the_rest_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    written = write(path, [video("a"), video("b", "val")], "small", tmp_path)
    write_durations(written, [2.5, None])
    opened = Manifest.open(path)
    assert opened.table["duration"].to_pylist() == [2.5, None]
    assert (opened.fingerprint, list(opened)) == (written.fingerprint, list(written))


def test_durations_are_not_stored_for_other_rows_than_were_measured(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    measured = write(path, [video("a"), video("b", "val")], "small", tmp_path)
    write(path, [video("b", "val"), video("a")], "small", tmp_path)
    with pytest.raises(
        ManifestError, match=r"set\.parquet was written anew while its durations were measured"
    ):
        write_durations(measured, [2.5, None])
    assert Manifest.open(path).table["duration"].to_pylist() == [None, None]


def test_sizes_of_files_behind_urls_are_asked_for_several_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    def answer(path: str, asked: str | None) -> tuple[int, bytes]:
        together.wait()  # for another request that is under way
        return 200, b"content"

    rows = [video(f"{number:03}") for number in range(128)]
    with web_server(answer) as address:
        written = write(tmp_path / "set.parquet", rows, "small", address)
    assert written.ids().to_pylist() == [row.id for row in rows]
    assert set(written.table["num_bytes"].to_pylist()) == {7}


def test_open_of_what_is_no_manifest_says_so(tmp_path: Path) -> None:
    text, other = tmp_path / "text.parquet", tmp_path / "other.parquet"
    text.write_text("path,caption\n")
    pq.write_table(pa.table({"id": ["a"]}), other)
    for path, reason in [
        (tmp_path / "gone", "no manifest at"),
        (text, "not a Parquet"),
        (other, "no manifest of"),
    ]:
        with pytest.raises(ManifestError, match=rf"{reason}.*prepare manifest") as caught:
            Manifest.open(path)
        assert str(path) in str(caught.value)


def test_open_of_a_newer_format_or_lacking_columns_names_them(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"]})
    for version, reason in [(99, "format 99"), (1, "lacks the columns path, kind")]:
        stored = {"version": version, "name": "x", "root": "/", "fingerprint": "0"}
        path = tmp_path / f"{version}.parquet"
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(stored)}), path)
        with pytest.raises(ManifestError, match=reason):
            Manifest.open(path)


def test_part_of_a_file_is_a_sample_with_bytes_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(bytes(range(100)))
    rows = [
        Row("a", "shard.tar", "video", "train", ("c",), offset=10, length=5),
        Row("b", "shard.tar", "video", "train", ("c",), offset=98, length=5),
    ]
    manifest = write(tmp_path / "set.parquet", rows, "parts", tmp_path)

    assert manifest[0].source.read() == bytes(range(10, 15))
    assert (manifest[0].source.size(), manifest[0].source.file) == (5, None)
    assert manifest.table["num_bytes"].to_pylist() == [5, -1]
    moved = Manifest.open(tmp_path / "set.parquet", "s3://bucket/shards?scheme=http")
    assert moved[0].source.place == "s3://bucket/shards/shard.tar?scheme=http"


def test_other_part_of_the_same_file_makes_another_set(tmp_path: Path) -> None:
    fingerprints = {
        write(
            tmp_path / "set.parquet",
            [Row("a", "x.tar", "video", "train", ("c",), offset=offset, length=512)],
            "parts",
            tmp_path,
        ).fingerprint
        for offset in (0, 512)
    }
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    "part", [{"offset": 1}, {"length": 1}, {"offset": -1, "length": 1}, {"offset": 0, "length": 0}]
)
def test_part_that_is_none_is_refused(tmp_path: Path, part: dict[str, int]) -> None:
    with pytest.raises(ManifestError, match=r"'a'.*offset from 0"):
        write(tmp_path / "set.parquet", [Row("a", "x.tar", "video", "train", ("c",), **part)], "x", tmp_path)


def test_manifest_of_the_first_format_opens_with_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    sample = write(path, [video("a")], "old", tmp_path)[0]
    stored = json.loads(pq.read_metadata(path).metadata[METADATA_KEY]) | {"version": 1}
    old = pq.read_table(path).drop_columns(["offset", "length"])
    pq.write_table(old.replace_schema_metadata({METADATA_KEY: json.dumps(stored).encode()}), path)

    opened = Manifest.open(path)

    assert opened[0] == sample
    # what format 1 wrote for this row
    row = ["a", "a.mp4", "video", "train", None, None, ["a caption"], -1]
    assert opened.fingerprint == hashlib.sha256(json.dumps(row).encode() + b"\n").hexdigest()
