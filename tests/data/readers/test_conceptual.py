"""CC3M and CC12M: pairs in either order, images by crc32, and URLs that share one."""

import logging
import os
from pathlib import Path

import pytest

from mac_ray.data.manifest import Manifest, ManifestError, Row
from mac_ray.data.readers import cc3m, cc12m
from mac_ray.prepare.__main__ import main

# the numbers were computed bit by bit from the polynomial
A, B, C = "http://host/a.jpg", "https://host/b?x=1,2", "http://host/é.jpg"
FILE = {A: "2736469242", B: "1402759158", C: "189377149"}
SAME_CRC32 = ("http://host/olbfmjqn.jpg", "http://host/fomlonrv.jpg")
TRAIN, VAL = "Train_GCC-training.tsv", "Validation_GCC-1.1.0-Validation.tsv"


def lines_of(folder: Path, name: str, *lines: str, ending: str = "\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(ending.join([*lines, ""]).encode())
    return folder


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_cc3m_has_no_header_and_quotes_are_letters(tmp_path: Path, ending: str) -> None:
    lines_of(tmp_path, TRAIN, f'author : " a life\t{A}', f"a dog , on grass\t{B}", ending=ending)
    lines_of(tmp_path, VAL, f"a cat\t{C}", ending=ending)
    images = tmp_path / "images"
    (images / "validation").mkdir(parents=True)
    (images / "README").touch()
    assert list(cc3m.read(tmp_path, images)) == [
        Row(FILE[A], images / "training" / FILE[A], "image", "train", ('author : " a life',)),
        Row(FILE[B], images / "training" / FILE[B], "image", "train", ("a dog , on grass",)),
        Row(FILE[C], images / "validation" / FILE[C], "image", "val", ("a cat",)),
    ]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("cc3m_training_success_full.tsv", ("caption\tthumbnailUrl", f"a dog\t{A}", f'"a, cat"\t{B}')),
        ("train.csv", ("caption,thumbnailUrl", f"a dog,{A}", f'"a, cat","{B}"')),
        ("train.csv", (",caption,thumbnailUrl", f"0,a dog,{A}", f'1,"a, cat","{B}"')),
        (
            "Train_GCC-training-success-020321-VALIDIMG.csv",
            ("caption,thumbnailUrl", f"a dog,{A}", f'"a, cat","{B}"'),
        ),
        (TRAIN, ("caption\turl", f"a dog\t{A}", f"a, cat\t{B}")),
        (TRAIN, ("url\tcaption", f"{A}\ta dog", f"{B}\ta, cat")),
    ],
)
def test_cc3m_lists_of_downloads_have_a_header(tmp_path: Path, name: str, lines: tuple[str, ...]) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / FILE[B]).touch()
    rows = list(cc3m.read(lines_of(tmp_path, name, *lines), tmp_path / "flat"))
    assert [(row.id, row.captions) for row in rows] == [(FILE[A], ("a dog",)), (FILE[B], ("a, cat",))]
    assert rows[0].path == tmp_path / "flat" / FILE[A]
    assert {row.split for row in rows} == {"train"}


def test_quotes_stay_letters_where_a_header_was_put_on_top(tmp_path: Path) -> None:
    """As img2dataset's guide to CC12M does, with sed."""
    lines = ("url\tcaption", f'{A}\t"a life" by somebody', f'{B}\t"opened only', f'{C}\tends here"')
    rows = list(cc3m.read(lines_of(tmp_path, TRAIN, *lines), tmp_path))
    assert [row.captions for row in rows] == [('"a life" by somebody',), ('"opened only',), ('ends here"',)]


def test_cc3m_urls_that_share_a_file_are_left_out_and_repeated_ones_are_one_sample(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    same, other = SAME_CRC32
    pairs = [f"one\t{same}", f"two\t{A}", f"three\t{other}", f"four\t{B}", f"five\t{A}", f" \t{C}"]
    with caplog.at_level(logging.INFO):
        rows = list(cc3m.read(lines_of(tmp_path, TRAIN, *pairs), tmp_path))
    assert [(row.id, row.captions) for row in rows] == [(FILE[B], ("four",)), (FILE[A], ("two", "five"))]
    told = [record.getMessage() for record in caplog.records]
    assert any("2 URLs" in line and same in line and other in line for line in told)
    assert any("1 URLs" in line and "no caption" in line and C in line for line in told)
    assert any("1 rows" in line and "further captions" in line for line in told)
    assert any("train has 2 samples; published are 3,318,333" in line for line in told)
    assert any("has 'val' in its name" in line for line in told)


def test_cc12m_has_the_url_first_and_a_val_split_by_hash(tmp_path: Path) -> None:
    urls = [f"http://host/{number}.jpg" for number in range(20_000)]
    lines = [f"{url}\tcaption {number}" for number, url in enumerate(urls)]
    few = list(cc12m.read(lines_of(tmp_path / "few", "cc12m.tsv", *lines[:5000]), tmp_path))
    many = list(cc12m.read(lines_of(tmp_path / "many", "cc12m.tsv", *lines), tmp_path))
    assert [row.captions for row in many[:2]] == [("caption 0",), ("caption 1",)]
    assert few == many[:5000]
    # three standard deviations of a binomial with 20,000 draws of 0.001
    assert abs(sum(row.split == "val" for row in many) - 20) < 14
    assert {row.split for row in many} == {"train", "val"}
    turned = [f"caption {number}\t{url}" for number, url in enumerate(urls[:5000])]
    assert list(cc12m.read(lines_of(tmp_path / "turned", "cc12m.tsv", *turned), tmp_path)) == few


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("videoid,name,page_dir,contentUrl", "1,a,000001_000050,u"), r"has the line 1 .*file of WebVid"),
        ((f"a dog\t{A}", f"a cat {B}"), r"has the line 2 'a cat .*rows of a caption, a tab and a URL"),
        ((f"a dog\t{A}", f"a cat\t1\t{B}"), r"has the line 2 "),
        (("a dog\ta.jpg",), r"has the line 1 'a dog.*rows of a caption"),
    ],
)
def test_cc3m_of_another_form_says_where_and_why(tmp_path: Path, lines: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        list(cc3m.read(lines_of(tmp_path, TRAIN, *lines), tmp_path))


def test_cc3m_with_no_or_two_files_of_a_split_says_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"neither Train_GCC-training\.tsv nor Validation"):
        list(cc3m.read(tmp_path, tmp_path))
    lines_of(lines_of(tmp_path, TRAIN, f"a\t{A}"), "train.csv", "caption,url", f"a,{A}")
    with pytest.raises(
        ManifestError, match=r"2 files for the train split, Train_GCC-training\.tsv and train"
    ):
        list(cc3m.read(tmp_path, tmp_path))


@pytest.mark.realdata
def test_real_cc3m_rows_become_samples_by_the_command(tmp_path: Path) -> None:
    annotations = Path(os.environ["MAC_RAY_REAL_DATA"]) / "annotations/cc3m"
    out = tmp_path / "cc3m.parquet"
    given = ["--annotations", str(annotations), "--images", str(tmp_path), "--out", str(out)]
    assert main(["manifest", "cc3m", *given]) == 1  # the images are missing
    manifest = Manifest.open(out)
    assert manifest.split_sizes() == {"val": 2000}  # the first row too, which is no header
    assert manifest[0].captions == (next(annotations.glob("*.tsv")).read_text().split("\t")[0],)
