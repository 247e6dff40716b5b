"""Samples that are parts of files or tars of pictures: what the check finds of them."""

import io
import tarfile
from pathlib import Path

from PIL import Image

from mac_ray.data.manifest import Row
from mac_ray.data.manifest_writer import write
from tests.prepare.test_check import check, paths


def picture(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, 4)).save(file, "PNG")
    return file.getvalue()


def test_parts_and_tars_are_read_hashed_and_told_as_files_are(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "clip.tar", "w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(picture(5))
            tar.addfile(member, io.BytesIO(picture(5)))
    whole = picture(6) + picture(7)
    (tmp_path / "shard").write_bytes(whole)
    (tmp_path / "same.png").write_bytes(picture(7))
    first, second = len(picture(6)), len(picture(7))
    rows = [
        Row("clip", "clip.tar", "frames", "train", ("c",)),
        Row("six", "shard", "image", "train", ("d",), offset=0, length=first),
        Row("seven", "shard", "image", "train", ("e",), offset=first, length=second),
        Row("beyond", "shard", "image", "train", ("f",), offset=first, length=second + 1),
        Row("alone", "same.png", "image", "test", ("g",)),
    ]
    code, report = check(write(tmp_path / "set.parquet", rows, "set", tmp_path).path)

    assert code == 1
    assert paths(report["missing"]) == ["shard"]
    assert report["splits"]["train"]["found"] == 3
    assert report["media"]["container"] == {"png": {"train": 2, "test": 1}, "tar": {"train": 1}}
    assert report["media"]["codec"] == {"png": {"train": 3, "test": 1}}
    assert report["media"]["resolution"] == {
        "7×4": {"train": 1, "test": 1},
        "5×4": {"train": 1},
        "6×4": {"train": 1},
    }
    assert report["splits"]["train"]["frames"] == 3 + 1 + 1
    (leak,) = report["overlaps"]
    assert [place["id"] for place in leak["examples"][0]] == ["seven", "alone"]
