"""WebVid: columns by name, paths by page_dir, and rows of one video as captions of one sample."""

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mac_ray.data.manifest import Manifest, ManifestError, Row
from mac_ray.data.readers import webvid
from mac_ray.prepare.__main__ import main

HEADER_2M = "videoid,name,page_idx,page_dir,duration,contentUrl"
HEADER_10M = "videoid,contentUrl,duration,page_dir,name"


def csv_of(folder: Path, name: str, *lines: str, ending: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(ending.join([*lines, ""]).encode())
    return folder


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("below", ["", "metadata"])
def test_webvid_2m_paths_follow_page_dir_and_captions_may_be_quoted(
    tmp_path: Path, ending: str, below: str
) -> None:
    folder = tmp_path / below
    train = ['11,"A dog, running ""home""",27732,027701_027750,PT00H00M17S,http://host/11.mp4']
    # the page is not inside the folder
    val = ["12,Beach,28620,054101_054150,PT00H00M24S,http://host/12.mp4"]
    csv_of(folder, "results_2M_train.csv", HEADER_2M, *train, ending=ending)
    csv_of(folder, "results_2M_val.csv", HEADER_2M, *val, ending=ending)
    rows = list(webvid.read(tmp_path, tmp_path / "media", "2M"))
    assert rows == [
        Row(
            "11",
            tmp_path / "media/027701_027750/11.mp4",
            "video",
            "train",
            ('A dog, running "home"',),
        ),
        Row("12", tmp_path / "media/054101_054150/12.mp4", "video", "val", ("Beach",)),
    ]


def test_webvid_10m_repeated_videos_are_one_sample_with_all_captions(tmp_path: Path) -> None:
    rows = [
        "21,u,PT00H00M10S,000001_000050,first",
        "22,u,PT00H00M10S,000051_000100,alone",
        "21,u,PT00H00M10S,000101_000150,second",
        "23,u,PT00H00M10S,000051_000100,also alone",
        "21,u,PT00H00M10S,000001_000050,third",
    ]
    csv_of(tmp_path, "results_10M_train.csv", HEADER_10M, *rows)
    (tmp_path / "videos").mkdir()  # as WebVid's downloader has them
    read = list(webvid.read(tmp_path, tmp_path, "10M"))
    assert [(row.id, row.captions) for row in read] == [
        ("22", ("alone",)),
        ("23", ("also alone",)),
        ("21", ("first", "second", "third")),
    ]
    assert read[2].path == tmp_path / "videos/000001_000050/21.mp4"


def test_webvid_flat_layout_needs_no_page_dir(tmp_path: Path) -> None:
    csv_of(tmp_path, "results_2M_val.csv", HEADER_2M, "31,a dog,1,,PT00H00M10S,u")
    (row,) = webvid.read(tmp_path, tmp_path / "2M_val", "2M", "flat")
    assert (row.path, row.split) == (tmp_path / "2M_val/31.mp4", "val")
    with pytest.raises(ManifestError, match=r"line 2: page_dir is ''.*or the layout be flat"):
        list(webvid.read(tmp_path, tmp_path, "2M"))


def test_webvid_rows_without_caption_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f'{number},"{caption}",1,000001_000050,,u' for number, caption in enumerate(["a", "", " ", "b"])]
    csv_of(tmp_path, "results_2M_train.csv", HEADER_2M, *lines)
    with caplog.at_level(logging.INFO):
        assert [row.id for row in webvid.read(tmp_path, tmp_path, "2M")] == ["0", "3"]
    told = [record.getMessage() for record in caplog.records]
    assert any("no results_2M_val.csv" in line and "no val split" in line for line in told)
    assert any("2 videos have no caption" in line and line.endswith(": 1, 2") for line in told)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("a dog\thttp://host/a.jpg",), r"lacks the column videoid, name.*looks like a file of CC3M"),
        ((HEADER_2M, "1.0,a,1,000001_000050,,u"), r"line 2: videoid is '1\.0'; those of WebVid are digits"),
        ((HEADER_2M, "1,a,1,../../etc,,u"), r"line 2: page_dir is '\.\./\.\./etc'; it must name a folder"),
        ((HEADER_2M, "1,a,1,..,,u"), r"line 2: page_dir is '\.\.'"),
        ((HEADER_2M, "1,a, b,1,000001_000050,,u"), r"line 2: the row has not the 6 fields"),
    ],
)
def test_webvid_of_another_form_says_where_and_why(
    tmp_path: Path, lines: tuple[str, ...], reason: str
) -> None:
    csv_of(tmp_path, "results_2M_train.csv", *lines)
    with pytest.raises(ManifestError, match=reason):
        list(webvid.read(tmp_path, tmp_path, "2M"))


def test_webvid_of_the_other_size_is_not_taken(tmp_path: Path) -> None:
    csv_of(tmp_path, "results_10M_train.csv", HEADER_10M, "21,u,,000001_000050,first")
    with pytest.raises(ManifestError, match=r"neither results_2M_train\.csv nor.*files of WebVid"):
        list(webvid.read(tmp_path, tmp_path, "2M"))


@pytest.mark.realdata
def test_real_webvid_rows_become_samples_by_the_command(tmp_path: Path) -> None:
    source = Path(os.environ["MAC_RAY_REAL_DATA"]) / "annotations/webvid/test_webvid.csv"
    shutil.copy(source, tmp_path / "results_2M_val.csv")
    out = tmp_path / "webvid.parquet"
    given = ["--annotations", str(tmp_path), "--videos", str(tmp_path), "--variant", "2M", "--out", str(out)]
    assert main(["manifest", "webvid", *given]) == 1  # the videos are missing
    manifest = Manifest.open(out)
    assert manifest.split_sizes() == {"val": 20}
    assert Counter(len(Path(path).parts) for path in manifest.table["path"].to_pylist()) == {2: 20}
