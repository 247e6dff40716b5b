"""The command `prepare index`: shards that exist to a manifest."""

import os
from pathlib import Path

import pytest

from mac_ray.data.manifest import Manifest
from mac_ray.data.manifest_writer import write
from mac_ray.prepare.__main__ import main
from mac_ray.prepare.transcode import Options
from tests.data.conftest import write_media
from tests.data.readers.test_tars import sample, write_tar
from tests.prepare.sharded import converted
from tests.web_server import part_of, web_server


def index(*arguments: object) -> int:
    return main(["index", *map(str, arguments), "--workers", "1"])


def test_folder_of_shards_is_indexed_in_order_and_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tmp_path / "shards"
    (shards / "below").mkdir(parents=True)
    write_tar(shards / "00001.tar", [*sample("c"), ("d.mp4", b"no caption"), *sample("e", "jpg")])
    write_tar(shards / "00000.tar", [*sample("a"), *sample("b")])
    write_tar(shards / "below" / "00002.tar", sample("f"))
    before = {path: path.read_bytes() for path in shards.rglob("*.tar")}

    code = index(shards, "--out", tmp_path / "set.parquet", "--split", "val", "--name", "mine")

    manifest = Manifest.open(tmp_path / "set.parquet")
    assert (code, manifest.name, manifest.root) == (1, "mine", str(shards))
    assert manifest.ids().to_pylist() == ["a", "b", "c", "e", "f"]
    assert manifest.split_sizes() == {"val": 5}
    assert [s.source.read() for s in manifest] == [f"media of {s.id}".encode() for s in manifest]
    assert f"d in {shards / '00001.tar'}: it has no caption" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in shards.rglob("*.tar")} == before
    moved = tmp_path / "moved"
    shards.rename(moved)
    assert [s.source.read() for s in Manifest.open(tmp_path / "set.parquet", moved)][4] == b"media of f"


def test_folders_behind_links_are_entered_once(tmp_path: Path) -> None:
    for name in ("shards", "other disk"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "0.tar", sample(name))
    (tmp_path / "shards/more").symlink_to(tmp_path / "other disk")
    (tmp_path / "other disk/ring").symlink_to(tmp_path / "shards")
    assert index(tmp_path / "shards", "--out", tmp_path / "set.parquet") == 0
    assert Manifest.open(tmp_path / "set.parquet").ids().to_pylist() == ["shards", "other disk"]


def test_question_mark_in_a_local_path_is_no_option(tmp_path: Path) -> None:
    folder = tmp_path / "which?"
    folder.mkdir()
    for name in "ab":
        write_tar(folder / f"{name}.tar", sample(name))
    assert index(folder, "--out", tmp_path / "set.parquet") == 0
    manifest = Manifest.open(tmp_path / "set.parquet")
    assert manifest.root == str(folder)
    assert [s.source.read() for s in manifest] == [b"media of a", b"media of b"]


def test_store_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    content = Path(write_tar(tmp_path / "0.tar", [*sample("a"), *sample("b")])).read_bytes()
    asked: list[str | None] = []

    def answer(path: str, wanted: str | None) -> tuple[int, bytes]:
        if path != "/0.tar":
            return 404, b""
        asked.append(wanted)
        if asked.count(wanted) == 1:
            return 503, b""
        return (206, part_of(content, wanted)) if wanted else (200, content)

    with web_server(answer) as address:
        code = index(f"{address}/0.tar", "--out", tmp_path / "set.parquet")
    assert code == 0
    assert len(asked) > len(set(asked)) > 1
    assert Manifest.open(tmp_path / "set.parquet").ids().to_pylist() == ["a", "b"]


def test_single_shards_are_indexed_under_the_folder_they_share(tmp_path: Path) -> None:
    places = [write_tar(tmp_path / f"{name}.tar", sample(name)) for name in "ab"]
    assert index(*places, "--out", tmp_path / "set.parquet") == 0
    manifest = Manifest.open(tmp_path / "set.parquet")
    assert (manifest.root, manifest.name) == (str(tmp_path), tmp_path.name)
    assert [s.source.read() for s in manifest] == [b"media of a", b"media of b"]


def test_index_of_a_conversion_is_its_manifest(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    write(media / "set.parquet", write_media(media), "mixed", media)
    options = Options(form="jpeg", frames=3, rate=None, short_side=16, quality=80, decoder="pyav")
    manifest = converted(media / "set.parquet", tmp_path / "shards", options)
    assert index(tmp_path / "shards", "--out", tmp_path / "again.parquet") == 0
    assert Manifest.open(tmp_path / "again.parquet").fingerprint == manifest.fingerprint


@pytest.mark.parametrize(
    ("name", "members", "reason"),
    [
        ("a.tar", [*sample("a"), ("../b.mp4", b"x")], "leads out of it"),
        ("a.tar.gz", sample("a"), r"only compressed ones such as a.tar.gz; unpack"),
        ("a.tar", [("a.txt", b"no media")], "no samples"),
        ("a.tar", [*sample("a"), *sample("b"), *sample("a")], "'a' occurs twice"),
        ("a.mp4", sample("a"), "there is no .tar at"),
    ],
)
def test_index_of_what_cannot_be_used_says_why_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    members: list[tuple[str, bytes]],
    reason: str,
) -> None:
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / name, members)
    assert index(tmp_path / "shards", "--out", tmp_path / "set.parquet") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "set.parquet").exists()


@pytest.mark.realdata
def test_index_of_a_real_shard_of_video2dataset(tmp_path: Path) -> None:
    shard = Path(os.environ["MAC_RAY_REAL_DATA"]) / "media/faults/return_all_test.tar"
    assert index(shard, "--out", tmp_path / "set.parquet") == 0
    manifest = Manifest.open(tmp_path / "set.parquet")
    assert manifest.ids().to_pylist() == [
        *("000000014", "000000025", "000000356"),
        *("0000008_00001", "0000030_00005", "0000038_00003"),
    ]
    assert manifest[1].captions == ("Get RugbyFit with James Haskell",)
    assert manifest[3].captions == ("a man in a suit and orange tie standing at a podium .",)
    assert main(["check", str(tmp_path / "set.parquet"), "--workers", "1"]) == 0
