"""Parquet tables with their media: each form of a media column, captions, splits, and what is written once."""

import io
import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mac_ray.data.decode import frames
from mac_ray.data.manifest import Manifest, ManifestError, Row
from mac_ray.data.readers import table
from mac_ray.prepare.__main__ import main
from tests.data.readers.memory import MEGABYTE, measured

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), shade).save(content, "png")
    return content.getvalue()


def parquet(path: Path, columns: dict[str, list[Any]], **types: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)
    return path


def embedded(*values: tuple[bytes | None, str | None]) -> list[dict[str, bytes | str | None]]:
    return [{"bytes": content, "path": path} for content, path in values]


def test_table_of_embedded_images_becomes_a_sound_set_by_the_command(tmp_path: Path) -> None:
    for split, shades in {"train": (0, 50), "validation": (100,), "test": (150,)}.items():
        images = embedded(*((picture(shade), f"{shade}.png") for shade in shades))
        captions = [[f"shade {shade}", "a square"] for shade in shades]
        columns = {"image": images, "caption": captions, "label": [1] * len(shades)}
        parquet(tmp_path / f"data/{split}-00000-of-00001-ab12.parquet", columns, image=MEDIA)
    out = tmp_path / "set.parquet"
    assert main(["manifest", "table", str(tmp_path / "data"), "--out", str(out)]) == 0
    manifest = Manifest.open(out)
    assert manifest.split_sizes() == {"test": 1, "train": 2, "val": 1}
    (test,) = manifest.split("test")
    assert test.captions == ("shade 150", "a square")
    assert test.source.file is not None
    assert test.source.file.is_relative_to(tmp_path / "data/media")
    assert test.source.file.read_bytes() == picture(150)
    assert set(frames(test.source, test.kind, lambda count: [0], "pyav").flat) == {150}

    # the set may be written beside what it is of, and written again
    beside = tmp_path / "data/set.parquet"
    for _ in range(2):
        assert main(["manifest", "table", str(tmp_path / "data"), "--out", str(beside)]) == 0
        assert Manifest.open(beside).fingerprint == manifest.fingerprint


def test_table_rows_that_repeat_a_medium_are_one_sample_written_once(tmp_path: Path) -> None:
    # a path may repeat for different media, and lead elsewhere: neither may decide where bytes are written
    images = [
        (picture(1), "../../a.png"),
        (picture(2), "../../a.png"),
        (picture(1), None),
        (picture(3), "b.txt"),
    ]
    path = parquet(
        tmp_path / "in/train.parquet",
        {"image": embedded(*images), "text": ["one", "two", "again one", "three"]},
        image=MEDIA,
    )
    media = tmp_path / "media"
    media.mkdir()
    rows = list(table.read(path, media))
    assert [row.captions for row in rows] == [("two",), ("three",), ("one", "again one")]
    assert [Path(row.path).read_bytes() for row in rows] == [picture(2), picture(3), picture(1)]
    assert {row.kind for row in rows} == {"image"}
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert set(written) == {path, *(Path(row.path) for row in rows)}
    assert list(table.read(path, media)) == rows
    assert {file: file.stat().st_mtime_ns for file in written} == written


@pytest.mark.parametrize("form", ["strings", "structs"])
def test_table_of_paths_names_files_below_its_own_folder_or_that_of_the_media(
    tmp_path: Path, form: str
) -> None:
    names = ["clips/a.mp4", "clips/b.webm", "clips/a.mp4", "s3://bucket/c.mp4"]
    columns: dict[str, list[Any]] = {
        "video": names if form == "strings" else embedded(*((None, name) for name in names)),
        "caption": ["one", "two", "three", "four"],
        "split": ["train", "validation", "train", "extra"],
    }
    types = {} if form == "strings" else {"video": MEDIA}
    path = parquet(tmp_path / "in/any.parquet", columns, **types)
    assert list(table.read(path)) == [
        Row("clips/b.webm", tmp_path / "in/clips/b.webm", "video", "val", ("two",)),
        Row("s3://bucket/c.mp4", "s3://bucket/c.mp4", "video", "extra", ("four",)),
        Row("clips/a.mp4", tmp_path / "in/clips/a.mp4", "video", "train", ("one", "three")),
    ]
    (other,) = {row.path for row in table.read(path, tmp_path / "out") if row.split == "val"}
    assert other == tmp_path / "out/clips/b.webm"


def test_table_of_which_some_rows_have_a_split_spreads_no_others_over_it(tmp_path: Path) -> None:
    columns = {"video": ["0.mp4", "1.mp4"], "caption": ["c", "d"]}
    for name in ("train-0.parquet", "restval-0.parquet", "partial-test/0000.parquet"):
        parquet(tmp_path / "coco" / name, {**columns, "video": [f"{name[:5]}{n}.mp4" for n in range(2)]})
    assert Counter(row.split for row in table.read(tmp_path / "coco")) == {"train": 4, "test": 2}
    parquet(tmp_path / "coco" / "extra.parquet", columns)
    with pytest.raises(
        ManifestError, match=r"neither the name nor a column of .*extra\.parquet says which split"
    ):
        list(table.read(tmp_path / "coco"))
    upper = parquet(tmp_path / "upper.parquet", {**columns, "split": ["TEST", "Train"]})
    assert {row.split for row in table.read(upper)} == {"test", "train"}


def test_configurations_of_one_repository_are_not_mixed(tmp_path: Path) -> None:
    columns = {"video": ["0.mp4", "1.mp4"], "caption": ["c", "d"]}
    for name in ("train_9k/train-0.parquet", "train_9k/train-1.parquet", "test_1k/test-0.parquet"):
        parquet(tmp_path / name, columns)
    assert len(list(table.read(tmp_path))) == 4
    parquet(tmp_path / "train_7k/train-0.parquet", columns)
    with pytest.raises(
        ManifestError, match=r"split train .* lies in 2 folders, .*: train_7k, train_9k; give one"
    ):
        list(table.read(tmp_path))


def test_table_splits_come_from_folders_or_else_from_a_hash(tmp_path: Path) -> None:
    # this folder's own name starts with "test", which tells nothing
    names = [f"{number}.mp4" for number in range(4000)]
    columns = {"video": names, "caption": ["c"] * 4000}
    for below in ("default/test/0000.parquet", "dev/0.parquet"):
        parquet(tmp_path / "named" / below, {name: values[:3] for name, values in columns.items()})
    assert Counter(row.split for row in table.read(tmp_path / "named")) == {"test": 3, "val": 3}
    path = parquet(tmp_path / "part.parquet", columns)
    splits = {row.id: row.split for row in table.read(path, val=0.1, test=0.0)}
    counts = Counter(splits.values())
    # three standard deviations of a binomial with 4,000 draws of 0.1
    assert abs(counts["val"] - 400) < 57
    assert set(counts) == {"train", "val"}
    shorter = parquet(tmp_path / "half.parquet", {name: values[:2000] for name, values in columns.items()})
    assert {row.id: row.split for row in table.read(shorter, val=0.1, test=0.0)}.items() <= splits.items()


def test_table_columns_of_other_names_are_named_and_a_declared_type_tells_the_kind(tmp_path: Path) -> None:
    features = {"clip": {"_type": "Video"}, "told": {"_type": "Value", "dtype": "string"}}
    schema = pa.schema([("clip", pa.binary()), ("told", pa.string())]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table([[b"some video"], ["a dog"]], schema=schema), path)
    with pytest.raises(
        ManifestError, match=r"no column video, .*; its columns are clip, told; .*--media-column"
    ):
        list(table.read(path))
    (row,) = table.read(path, media_column="clip", caption_column="told")
    assert (row.kind, row.split, row.captions) == ("video", "test", ("a dog",))
    assert Path(row.path).read_bytes() == b"some video"


def test_table_rows_without_media_or_caption_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {
        "image": ["a.png", None, "c.png", "d.png", "e.png"],
        "caption": [["a"], ["b"], None, [], [" ", "e"]],
    }
    path = parquet(tmp_path / "train.parquet", columns)
    with caplog.at_level(logging.INFO):
        rows = list(table.read(path))
    assert [(row.id, row.captions) for row in rows] == [("a.png", ("a",)), ("e.png", (" ", "e"))]
    assert any("3 rows of train.parquet" in line and line.endswith(": 2, 3, 4") for line in caplog.messages)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"image": ["a.png"], "label": ["c"]},
            r"no column caption, .*its columns are image, label.*--caption-",
        ),
        ({"image": [3], "caption": ["c"]}, r"row 1: the media are of the type int; expected are"),
        ({"image": ["a.png"], "caption": [[{"raw": "c"}]]}, r"row 1: captions must be text or a list of it"),
        ({"path": ["a.png", "b.txt"], "caption": ["c", "d"]}, r"row 2: 'b\.txt' is neither a video nor an"),
        ({"path": [b"some bytes"], "caption": ["c"]}, r"row 1: '' is neither a video nor an image"),
    ],
)
def test_table_of_another_form_says_where_and_why(
    tmp_path: Path, columns: dict[str, list[Any]], reason: str
) -> None:
    path = parquet(tmp_path / "train.parquet", columns)
    with pytest.raises(ManifestError, match=reason):
        list(table.read(path))


def test_table_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no \.parquet file in "):
        list(table.read(tmp_path))
    path = tmp_path / "train.parquet"
    path.write_text("path,caption\n")
    with pytest.raises(ManifestError, match=r"train\.parquet is not a Parquet file"):
        list(table.read(path))
    latin = pa.array([b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"image": ["a.png"], "caption": latin}), path)
    with pytest.raises(ManifestError, match=r"train\.parquet cannot be read as a Parquet table .*utf-8"):
        list(table.read(path))


def test_table_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    schema = pa.schema([("video", MEDIA), ("caption", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none") as writer:  # ten rows a group, as `datasets` does
        for start in range(0, 400, 10):
            rows = [
                {"video": {"bytes": os.urandom(MEGABYTE // 4)}, "caption": f"{start + n}"} for n in range(10)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    assert path.stat().st_size > 100 * MEGABYTE
    rise, number = measured(
        "from mac_ray.data.readers import table", "sum(1 for _ in table.read(path))", path
    )
    assert number == "400"
    assert rise < 64 * MEGABYTE
