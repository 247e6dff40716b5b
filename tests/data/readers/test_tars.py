"""Shards as img2dataset and video2dataset write them, and what of them is no sample."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import tars
from mac_ray.data.source import Source


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def sample(key: str, media: str = "mp4", caption: str = "a caption", **facts: Any) -> list[tuple[str, bytes]]:
    """As video2dataset orders them."""
    told = {"caption": caption, "key": key, "status": "success"} | facts
    return [
        (f"{key}.json", json.dumps(told).encode()),
        (f"{key}.{media}", f"media of {key}".encode()),
        (f"{key}.txt", caption.encode()),
    ]


def read(place: str, split: str | None = None, id_field: str | None = None) -> tars.Shard:
    return tars.read(place, split, id_field, "caption")


def bytes_of(row: Row) -> bytes:
    return Source(str(row.path), row.offset, row.length).read()


def test_shard_of_video2dataset_has_a_row_per_sample(tmp_path: Path) -> None:
    members = [*sample("000000014"), *sample("0000008_00001", caption="a clip of it"), *sample("7", "jpg")]
    shard = read(write_tar(tmp_path / "00000.tar", members))

    assert [(row.id, row.kind, row.split, row.captions) for row in shard.rows] == [
        ("000000014", "video", "train", ("a caption",)),
        ("0000008_00001", "video", "train", ("a clip of it",)),
        ("7", "image", "train", ("a caption",)),
    ]
    assert [bytes_of(row) for row in shard.rows] == [b"media of %s" % row.id.encode() for row in shard.rows]
    assert (shard.left_out, shard.failed, shard.cut_short) == ([], {}, None)


def test_ids_splits_and_captions_come_from_where_they_are_said_to(tmp_path: Path) -> None:
    members = [*sample("0", videoid=4711), *sample("1", caption="")]
    members += [
        ("2.mp4", b"x"),
        ("2.txt", b"only a text"),
        ("folder/3.a.mp4", b"x"),
        ("folder/3.a.txt", b"c"),
    ]
    place = write_tar(tmp_path / "00000.tar", members)
    shard = tars.read(place, "val", None, "caption")
    assert [(row.id, row.split) for row in shard.rows] == [("0", "val"), ("2", "val"), ("folder/3", "val")]
    assert shard.rows[1].captions == ("only a text",)

    by_field = tars.read(place, None, "videoid", "caption")
    assert [row.id for row in by_field.rows] == ["4711"]
    assert "2 in" in by_field.left_out[1]
    assert "no videoid" in by_field.left_out[1]

    several = write_tar(tmp_path / "several.tar", sample("0", texts=["one", " ", "two", 3]))
    assert tars.read(several, None, None, "texts").rows[0].captions == ("one", "two")


def test_numbered_pictures_are_the_frames_of_one_clip(tmp_path: Path) -> None:
    pictures = [(f"a.{number:03}.jpg", bytes([number]) * 700) for number in range(3)]
    shard = read(write_tar(tmp_path / "a.tar", [*pictures, ("a.txt", b"c")]))
    (row,) = shard.rows
    assert row.kind == "frames"
    with tarfile.open(fileobj=io.BytesIO(bytes_of(row))) as run:
        assert run.getnames() == [name for name, _ in pictures]

    (reason,) = read(write_tar(tmp_path / "b.tar", [*pictures[:1], ("a.txt", b"c"), *pictures[1:]])).left_out
    assert "do not follow one another" in reason
    unpadded = [(f"a.{number}.JPG", b"x") for number in (0, 1, 10, 2)]  # in the order of their names
    (reason,) = read(write_tar(tmp_path / "c.tar", [*unpadded, ("a.txt", b"c")])).left_out
    assert "not in the order of their numbers" in reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.mp4", b"x")], "no caption"),
        ([("a.mp4", b"x"), ("a.txt", b" \n")], "no caption"),
        ([("a.txt", b"c")], "no video or picture"),
        ([("a.mp4", b""), ("a.txt", b"c")], "mp4 is empty"),
        ([("a.mp4", b"x"), ("a.webm", b"x"), ("a.txt", b"c")], "2 videos"),
        ([("a.jpg", b"x"), ("a.seg.png", b"x"), ("a.txt", b"c")], "2 pictures that are not numbered"),
        ([("a.mp4", b"x"), ("a.json", b"{"), ("a.txt", b"c")], "json cannot be read"),
        ([("a.mp4", b"x"), ("a.json", b"\xff"), ("a.txt", b"c")], "json cannot be read"),
        ([("a.mp4", b"x"), ("a.json", b"[1]"), ("a.txt", b"c")], "json is no object"),
    ],
)
def test_what_is_no_sample_is_left_out_and_named(
    tmp_path: Path, members: list[tuple[str, bytes]], reason: str
) -> None:
    place = write_tar(tmp_path / "a.tar", [*members, *sample("good")])
    shard = read(place)
    assert [row.id for row in shard.rows] == ["good"]
    (told,) = shard.left_out
    assert f"a in {place}" in told
    assert reason in told


def test_video_with_a_picture_beside_it_is_the_video(tmp_path: Path) -> None:
    members = [("a.jpg", b"thumbnail"), ("a.mp4", b"video"), ("a.m4a", b"sound"), ("a.txt", b"c")]
    (row,) = read(write_tar(tmp_path / "a.tar", members)).rows
    assert (row.kind, bytes_of(row)) == ("video", b"video")


def test_downloads_that_failed_are_counted_from_the_table_beside_the_tar(tmp_path: Path) -> None:
    statuses = ["success", "failed_to_download", "success", "failed_to_resize", "failed_to_download"]
    pq.write_table(pa.table({"key": list("abcde"), "status": statuses}), tmp_path / "00000.parquet")
    shard = read(write_tar(tmp_path / "00000.tar", sample("a")))
    assert shard.failed == {"failed_to_download": 2, "failed_to_resize": 1}

    (tmp_path / "00000.parquet").write_bytes(b"half of it")
    with pytest.raises(ManifestError, match=r"00000\.parquet beside the shard"):
        read(str(tmp_path / "00000.tar"))


def test_shard_cut_short_gives_the_samples_before_and_says_so(tmp_path: Path) -> None:
    place = write_tar(tmp_path / "a.tar", [*sample("a"), *sample("b")])
    content = Path(place).read_bytes()
    Path(place).write_bytes(content[: content.index(b"b.txt") + 100])
    shard = read(place)
    assert [row.id for row in shard.rows] == ["a"]
    assert shard.cut_short is not None
    assert place in shard.cut_short


def test_shard_with_a_name_that_leads_out_of_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"leads out of it"):
        read(write_tar(tmp_path / "a.tar", [*sample("a"), *sample("../b")]))
