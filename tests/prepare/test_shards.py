"""Shards, one after the other in this process: what makes them, what is in them, what is refused."""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mac_ray.data.decode import frames
from mac_ray.data.manifest import Manifest, ManifestError, Row
from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import tars
from mac_ray.errors import StorageError
from mac_ray.prepare.destination import Destination
from mac_ray.prepare.shards import convert, read_index, samples_per_shard, shards_of
from mac_ray.prepare.transcode import Options
from tests.data.conftest import write_media
from tests.prepare.sharded import converted, planned

OPTIONS = Options(form="jpeg", frames=4, rate=None, short_side=32, quality=90, decoder="pyav")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and images of every size with their manifest: six in train, three in val."""
    folder = tmp_path_factory.mktemp("media")
    rows = write_media(folder)
    splits = ["train", "train", "val"] * 3
    rows = [
        Row(row.id, row.path, row.kind, split, row.captions) for row, split in zip(rows, splits, strict=True)
    ]
    write(folder / "set.parquet", rows, "mixed", folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.parquet"}


def test_shards_hold_the_samples_in_order_with_their_frames(media: Path, tmp_path: Path) -> None:
    source = Manifest.open(media / "set.parquet")
    shards = converted(media / "set.parquet", tmp_path / "shards", OPTIONS)

    for split in ("train", "val"):
        pairs = list(zip(source.split(split), shards.split(split), strict=True))
        assert [(one.id, one.captions) for one, _ in pairs] == [
            (other.id, other.captions) for _, other in pairs
        ]
        for original, sample in pairs:
            assert sample.kind == ("image" if original.kind == "image" else "frames")
            pixels = frames(sample.source, sample.kind, range, "pyav")
            assert min(pixels.shape[1:3]) <= 32
            assert len(pixels) == (
                1
                if original.kind == "image"
                else min(4, len(frames(original.source, "video", range, "pyav")))
            )
    assert len(list((tmp_path / "shards").glob("train-*.tar"))) > 1


def test_shards_depend_on_the_manifest_and_not_on_where_it_lies(media: Path, tmp_path: Path) -> None:
    shutil.copytree(media, tmp_path / "moved")
    first = converted(media / "set.parquet", tmp_path / "first", OPTIONS)
    second = converted(tmp_path / "moved/set.parquet", tmp_path / "second", OPTIONS)
    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("form", ["jpeg", "h264"])
def test_manifest_of_the_shards_is_that_of_indexing_them(media: Path, tmp_path: Path, form: str) -> None:
    """By the tars alone: where the media lie, captions, ids and splits are all in them."""
    options = Options(form, None, None, 24, 90, "pyav")  # type: ignore[arg-type]
    manifest = converted(media / "set.parquet", tmp_path / "shards", options)
    found = [
        tars.read(str(path), None, None, "caption") for path in sorted((tmp_path / "shards").glob("*.tar"))
    ]
    rows = [row for shard in found for row in shard.rows]
    assert (
        write(tmp_path / "again.parquet", rows, "again", tmp_path / "shards").fingerprint
        == manifest.fingerprint
    )
    assert not any(shard.left_out for shard in found)


def test_members_of_a_sample_are_pictures_then_facts_then_caption(media: Path, tmp_path: Path) -> None:
    converted(media / "set.parquet", tmp_path / "shards", OPTIONS)
    with tarfile.open(tmp_path / "shards" / "val-00000.tar") as tar:
        names = tar.getnames()
        assert names[:6] == [
            f"000000000.{ending}" for ending in ("000.jpg", "001.jpg", "002.jpg", "json", "txt")
        ] + ["000000001.000.jpg"]
        told = json.load(tar.extractfile("000000000.json"))  # type: ignore[arg-type]
        caption = tar.extractfile("000000000.txt").read().decode()  # type: ignore[union-attr]
    assert told["captions"][0] == caption == "video2.mp4 said one"
    assert (told["id"], told["split"], told["num_frames"]) == ("video2.mp4", "val", 3)
    assert told["source"]["manifest"] == Manifest.open(media / "set.parquet").fingerprint


def test_sample_that_does_not_decode_is_in_the_index_alone(media: Path, tmp_path: Path) -> None:
    shutil.copytree(media, tmp_path / "media")
    (tmp_path / "media" / "video1.mp4").write_text("no video")
    manifest = converted(tmp_path / "media/set.parquet", tmp_path / "shards", OPTIONS, shard_mb=100)
    assert "video1.mp4" not in manifest.ids().to_pylist()
    assert len(manifest) == 8
    (row,) = (
        r
        for r in pq.read_table(tmp_path / "shards/train-00000.parquet").to_pylist()
        if r["status"] != "success"
    )
    assert (row["id"], row["source"], row["status"]) == ("video1.mp4", "video1.mp4", "undecodable")
    assert "pyav" in row["error_message"]
    assert tars.read(str(tmp_path / "shards/train-00000.tar"), None, None, "caption").failed == {
        "undecodable": 1
    }


def test_file_cut_short_is_used_as_far_as_it_goes_and_said_so(media: Path, tmp_path: Path) -> None:
    shutil.copytree(media, tmp_path / "media")
    whole = (tmp_path / "media/video5.mp4").read_bytes()
    # the index comes last in this file, so what it names is damaged and not cut off
    start, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    middle = (start + end) // 2
    (tmp_path / "media/video5.mp4").write_bytes(whole[:middle] + b"\xff" * (end - middle) + whole[end:])
    job = planned(
        Manifest.open(tmp_path / "media/set.parquet", tmp_path / "media"),
        tmp_path / "shards",
        OPTIONS,
        100,
        tmp_path,
    )
    shards = shards_of(
        Manifest.open(tmp_path / "media/set.parquet", tmp_path / "media"), job.samples_per_shard
    )
    for shard in shards:
        convert(job, shard)
    told = [row for shard in shards for row in read_index(shard, job.destination)[1] if row["error_message"]]
    assert [(row["id"], row["status"]) for row in told] == [("video5.mp4", "success")]
    assert "of the 30 frames that it promises decode" in told[0]["error_message"]


def test_shard_whose_media_are_not_seen_from_here_is_not_finished(media: Path, tmp_path: Path) -> None:
    """As on a node that lacks the mount: what could not be read is not what cannot be decoded."""
    shutil.copytree(media, tmp_path / "media")
    source = Manifest.open(tmp_path / "media/set.parquet", tmp_path / "media")
    job = planned(source, tmp_path / "shards", OPTIONS, 100, tmp_path)
    (shard, *_) = shards_of(source, job.samples_per_shard)
    for path in (tmp_path / "media").glob("*.[mp][pn][4g]"):
        path.rename(path.with_suffix(".away"))
    with pytest.raises(
        ManifestError, match=r"no sample of shard \S+ can be read on \S+.*no such file.*goes on"
    ):
        convert(job, shard)
    assert not [path.name for path in (tmp_path / "shards").glob("*.tar")]


def test_shard_of_which_a_sample_is_away_is_not_finished_without_it(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mac_ray.data.patience.PAUSES_S", (0.01, 0.01))
    shutil.copytree(media, tmp_path / "media")
    source = Manifest.open(tmp_path / "media/set.parquet", tmp_path / "media")
    job = planned(source, tmp_path / "shards", OPTIONS, 100, tmp_path)
    (shard, *_) = shards_of(source, job.samples_per_shard)
    (tmp_path / "media/video1.mp4").unlink()
    (tmp_path / "media/video1.mp4").symlink_to("/proc/self/mem")  # gives an error of input and output
    with pytest.raises(StorageError, match=r"video1\.mp4 cannot be read .*the same command goes on"):
        convert(job, shard)
    assert not list((tmp_path / "shards").glob("*.parquet"))


def test_sample_that_reads_back_otherwise_than_written_is_an_error(media: Path, tmp_path: Path) -> None:
    """As when a disk lies: the file that takes the shard's name is another one."""
    source = Manifest.open(media / "set.parquet")
    job = planned(source, tmp_path / "shards", OPTIONS, 100, tmp_path)
    (shard, *_) = shards_of(source, job.samples_per_shard)

    class Lying(Destination):
        def place(self, name: str) -> str:
            path = Path(super().place(name))
            if path.suffix == ".tar" and path.exists():
                path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff\xe0", b"\0\0\0\0"))
            return str(path)

    with pytest.raises(ManifestError, match=r"written a moment ago"):
        convert(replace(job, destination=Lying(job.destination.root)), shard)
    assert not (tmp_path / "shards" / shard.index).exists()


def test_manifest_written_anew_while_it_is_converted_is_refused(media: Path, tmp_path: Path) -> None:
    """By the workers that open it after that: theirs would be other samples, in another order."""
    shutil.copytree(media, tmp_path / "media")
    path = tmp_path / "media/set.parquet"
    source = Manifest.open(path, tmp_path / "media")
    job = planned(source, tmp_path / "shards", OPTIONS, 100, tmp_path)
    (shard, *_) = shards_of(source, job.samples_per_shard)
    rows = [
        Row(one.id, Path(one.source.place), one.kind, one.split, ("said otherwise",))
        for one in reversed(list(source))
    ]
    write(path, rows, "set", source.root)
    with pytest.raises(
        ManifestError, match=r"set\.parquet on \S+ is not the manifest that the conversion began"
    ):
        convert(job, shard)
    assert not list((tmp_path / "shards").glob("*.tar"))


def test_other_options_or_another_manifest_in_the_same_folder_are_refused(
    media: Path, tmp_path: Path
) -> None:
    source = Manifest.open(media / "set.parquet")
    destination = Destination.of(str(tmp_path / "shards"))
    samples_per_shard(source, destination, OPTIONS, 1)
    samples_per_shard(source, destination, OPTIONS, 1)
    other = Options(form="jpeg", frames=8, rate=None, short_side=32, quality=90, decoder="pyav")
    with pytest.raises(ManifestError, match=r"with frames 4, and asked for is frames 8; give another folder"):
        samples_per_shard(source, destination, other, 1)
    fewer = write(
        tmp_path / "fewer.parquet", [Row("a", "video0.mp4", "video", "train", ("c",))], "fewer", media
    )
    with pytest.raises(ManifestError, match=rf"manifest {source.fingerprint}"):
        samples_per_shard(fewer, destination, OPTIONS, 1)


def test_folder_with_other_shards_is_refused(media: Path, tmp_path: Path) -> None:
    (tmp_path / "00000.tar").touch()
    with pytest.raises(ManifestError, match=r"holds 00000\.tar, which is of no conversion"):
        planned(Manifest.open(media / "set.parquet"), tmp_path, OPTIONS, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]


def test_manifest_of_which_nothing_decodes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "set.parquet", [Row("a", "gone.mp4", "video", "train", ("c",))], "x", tmp_path
    )
    with pytest.raises(ManifestError, match=r"none of .* decodes.*no such file.*prepare check"):
        planned(manifest, tmp_path / "shards", OPTIONS, 1, tmp_path)
    assert not (tmp_path / "shards").exists()


def test_split_of_any_name_makes_files_in_the_folder(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    write(tmp_path / "set.parquet", [Row("a", "a.png", "image", "../up", ("c",))], "x", tmp_path)
    manifest = converted(tmp_path / "set.parquet", tmp_path / "shards", OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.png",
        "set.parquet",
        "shards",
        "shards.cache",
    ]
    assert manifest[0].split == "../up"
    assert manifest[0].source.size() is not None


def test_url_with_credentials_is_refused_without_showing_them() -> None:
    for url in ("s3://key:sesame@bucket/shards", "ftp://host/shards?username=me&password=sesame"):
        with pytest.raises(ManifestError, match="in the environment") as caught:
            Destination.of(url)
        assert "sesame" not in str(caught.value)
    assert Destination.of("s3://bucket/shards?region=eu").root == "s3://bucket/shards?region=eu"
