"""The command `prepare`: what it writes, what it finds wrong, and how it exits."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from PIL import Image

from mac_ray.data.manifest import Manifest, Row
from mac_ray.prepare.__main__ import main
from mac_ray.prepare.arguments import add_reader, media_root
from tests.prepare.made import make_clip


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder of a sound clip, a sound picture, and captions for them."""
    folder = tmp_path / "media"
    folder.mkdir()
    make_clip(folder / "a.mp4", seconds=2)
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    (folder / "captions.csv").write_text("path,caption,split\na.mp4,c,train\na.mp4,d,train\nb.png,e,val\n")
    return folder


def mention(media: Path, name: str) -> None:
    with (media / "captions.csv").open("a") as captions:
        captions.write(f"{name},f,val\n")


def write_manifest(media: Path, *more: str) -> tuple[int, Path]:
    out = media.parent / "set.parquet"
    return main(["manifest", "folder", str(media), "--out", str(out), *more]), out


def check(manifest: Path, *more: str) -> tuple[int, dict[str, Any]]:
    report = manifest.parent / "report.json"
    code = main(["check", str(manifest), "--without-ray", "--workers", "1", "--json", str(report), *more])
    return code, json.loads(report.read_text())


def test_sound_set_passes_and_its_durations_are_stored(
    media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, out = write_manifest(media, "--name", "mine")
    fingerprint = Manifest.open(out).fingerprint

    code, report = check(out)

    assert (written, code) == (0, 0)
    assert (report["name"], report["fingerprint"]) == ("mine", fingerprint)
    assert {
        name: (split["samples"], split["found"], split["captions"]["count"])
        for name, split in report["splits"].items()
    } == {"train": (1, 1, 2), "val": (1, 1, 1)}
    assert report["missing"] == report["undecodable"] == report["changed"] == []
    opened = Manifest.open(out)
    assert opened.table["duration"].to_pylist() == [pytest.approx(2.0, abs=1e-3), 0.0]
    assert opened.fingerprint == fingerprint
    assert fingerprint in capsys.readouterr().out


def test_missing_undecodable_and_changed_files_are_named(
    media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gone.mp4", "text.mp4", "cut.png"):
        mention(media, name)
    (media / "text.mp4").write_text("not media at all")
    (media / "cut.png").write_bytes((media / "b.png").read_bytes()[:40])
    written, out = write_manifest(media)
    make_clip(media / "a.mp4", seconds=1)

    code, report = check(out, "--decoder", "pyav")

    assert (written, code) == (1, 1)
    assert [entry["path"] for entry in report["missing"]] == [str(media / "gone.mp4")]
    assert [entry["path"] for entry in report["undecodable"]] == [
        str(media / "text.mp4"),
        str(media / "cut.png"),
    ]
    assert report["undecodable"][0]["reason"].startswith("pyav: ")
    assert [entry["path"] for entry in report["changed"]] == [str(media / "a.mp4")]
    assert Manifest.open(out).table["duration"].to_pylist()[2:] == [None, None, None]
    shown = capsys.readouterr().out
    assert all(str(media / name) in shown for name in ("gone.mp4", "text.mp4", "cut.png"))


def test_folders_may_be_given_relative_to_the_working_folder(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/Flickr8k.token.txt").write_text("a.jpg#0\tone\n")
    for split, names in (("train", "a.jpg\n"), ("dev", ""), ("test", "")):
        (tmp_path / f"texts/Flickr_8k.{split}Images.txt").write_text(names)
    Image.new("RGB", (8, 8)).save(media / "a.jpg")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["manifest", "flickr8k", "--annotations", "texts", "--images", "media", "--out", "f.parquet"])
        == 0
    )
    (sample,) = Manifest.open("f.parquet")
    assert sample.source.file == media / "a.jpg"


def test_drop_missing_leaves_out_what_is_not_there(media: Path) -> None:
    mention(media, "gone.mp4")
    code, out = write_manifest(media, "--drop-missing")
    assert code == 0
    assert Manifest.open(out).ids().to_pylist() == ["a.mp4", "b.png"]


def test_drop_missing_drops_nothing_that_is_there_and_says_where_everything_is_missing(
    media: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(media.parent))
    Image.new("RGB", (9, 9)).save(media / "c.png")
    mention(media, f"~/{media.name}/c.png")
    code, out = write_manifest(media, "--drop-missing")
    assert code == 0
    assert Manifest.open(out).table["path"].to_pylist() == ["a.mp4", "b.png", "c.png"]
    for name in ("a.mp4", "b.png", "c.png"):
        (media / name).unlink()
    capsys.readouterr()
    code, _ = write_manifest(media, "--drop-missing")
    assert code == 2
    assert f"none of the 3 samples has its media, for instance {media / 'a.mp4'}" in capsys.readouterr().err


def test_many_missing_files_are_listed_in_part_and_counted(
    media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        mention(media, f"gone{number:02}.mp4")
    write_manifest(media)
    shown = capsys.readouterr().out
    assert "missing: 30" in shown
    assert shown.count("gone") == 20
    assert "and 10 more" in shown


def test_media_that_moved_is_found_by_its_new_root(media: Path) -> None:
    _, out = write_manifest(media)
    moved = media.rename(media.parent / "moved")
    assert check(out)[0] == 1
    assert check(out, "--root", str(moved))[0] == 0


def test_unusable_input_exits_with_two_and_one_sentence(
    media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (media / "captions.csv").write_text("file,caption\n")
    assert write_manifest(media)[0] == 2
    assert "lacks the column path" in capsys.readouterr().err
    assert main(["check", str(media / "captions.csv")]) == 2
    assert "not a Parquet file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["manifest", "folder", str(media / "nowhere"), "--out", "x.parquet"])
    assert caught.value.code == 2
    assert "there is no file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["manifest", "folder", str(media), "--out", "s3://bucket/x.parquet"])
    assert "s3://bucket/x.parquet is a URL" in capsys.readouterr().err


def test_msrvtt_and_flickr8k_are_written_by_their_options(media: Path, tmp_path: Path) -> None:
    for name, content in {
        "Flickr8k.token.txt": "b.png#0\tone\n",
        "Flickr_8k.trainImages.txt": "b.png\n",
        "Flickr_8k.devImages.txt": "",
        "Flickr_8k.testImages.txt": "",
    }.items():
        (media / name).write_text(content)
    flickr = ["manifest", "flickr8k", "--annotations", str(media), "--images", str(media)]
    assert main([*flickr, "--out", str(tmp_path / "flickr8k.parquet")]) == 0
    assert Manifest.open(tmp_path / "flickr8k.parquet").name == "flickr8k"

    (media / "a.mp4").rename(media / "video0.mp4")
    (media / "captions.json").write_text('[{"video": "video0", "caption": "c"}]')
    for split, content in {"train": "video0", "val": "", "test": ""}.items():
        (media / f"{split}_list_full.txt").write_text(content)
    videos = ["manifest", "msrvtt", "--annotations", str(media), "--videos", str(media), "--variant", "full"]
    assert main([*videos, "--out", str(tmp_path / "msrvtt.parquet")]) == 0
    assert Manifest.open(tmp_path / "msrvtt.parquet")[0].source.file == media / "video0.mp4"


def test_arguments_of_a_reader_are_the_parameters_of_its_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(
        annotations: Path,
        media_folder: Path,
        half: Literal["a", "b"],
        share: Annotated[float, "how much"] = 0.5,
        more: Path | None = None,
        strict: bool = False,
    ) -> Iterator[Row]:
        raise NotImplementedError

    parser = argparse.ArgumentParser()
    add_reader(parser.add_subparsers(), "made", read)
    folders = ["made", "--media-folder", str(tmp_path / "in"), "--annotations", str(tmp_path / "list.csv")]
    (tmp_path / "in").mkdir()
    (tmp_path / "list.csv").touch()

    given = vars(parser.parse_args([*folders, "--half", "a"]))
    assert given == {
        "annotations": tmp_path / "list.csv",
        "media_folder": tmp_path / "in",
        "half": "a",
        "share": 0.5,
        "more": None,
        "strict": False,
    }
    # a file stands for its folder
    assert media_root(read, given) == tmp_path / "in"
    given["more"] = tmp_path / "list.csv"
    assert media_root(read, given) == tmp_path
    changed = vars(parser.parse_args([*folders, "--half", "b", "--share", "0.1", "--strict"]))
    assert (changed["share"], changed["strict"]) == (0.1, True)
    for wrong in (["--half", "c"], [], ["--half", "a", "--share", "x"], ["--half", "a", "--more", "gone"]):
        with pytest.raises(SystemExit):
            parser.parse_args([*folders, *wrong])
    assert "there is no file or folder gone" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["made", "--help"])
    assert "how much" in capsys.readouterr().out
