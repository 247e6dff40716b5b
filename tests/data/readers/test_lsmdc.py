"""LSMDC: tabs, dots in ids, quotation marks that quote nothing, and sentences that are not there."""

from pathlib import Path

import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers import lsmdc

DOTTED = "3001_TWO_DOGS_00.12.34.000-00.12.38.765"
TWICE = "1001_A_Movie_00.00.12.345-00.00.15.678"
EMPTY = "0001_A_Movie_00.01.02.000-00.01.04.000"
VAL = "1004_Other_00.00.33.333-00.00.36.000"


def line(clip: str, sentence: str) -> str:
    return "\t".join([clip, "00.00.01.000", "00.00.02.000", "00.00.01.000", "00.00.02.000", sentence])


CONTENT = {
    "LSMDC16_annos_training.csv": [
        line(TWICE, 'He says "no, and leaves.'),
        line(EMPTY, ""),
        line(TWICE, 'SOMEONE\'s dog, "Rex" barks.'),
    ],
    "LSMDC16_annos_val.csv": [line(VAL, "She walks.")],
    "LSMDC16_challenge_1000_publictect.csv": [line(DOTTED, "Someone smiles.")],
}


def lsmdc_files(folder: Path, ending: str = "\n") -> Path:
    for name, lines in CONTENT.items():
        (folder / name).write_bytes(ending.join([*lines, ""]).encode())
    return folder


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lsmdc_reads_every_line_to_its_letter(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = list(lsmdc.read(lsmdc_files(tmp_path, ending), tmp_path / "videos"))
    assert [(row.id, row.split, row.captions) for row in rows] == [
        (TWICE, "train", ('He says "no, and leaves.', 'SOMEONE\'s dog, "Rex" barks.')),
        (VAL, "val", ("She walks.",)),
        (DOTTED, "test", ("Someone smiles.",)),
    ]
    assert f"1 clips of train have no sentence and are left out: {EMPTY}" in caplog.text
    assert "lsmdc: test has 1 samples; published are 1,000" in caplog.text
    assert "lsmdc: train has 2 captions; published are 101,079" in caplog.text


def test_lsmdc_clip_lies_in_the_folder_of_its_movie_and_keeps_its_dots(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / "flat").mkdir(parents=True)
    (videos / "flat" / f"{VAL}.mp4").touch()
    rows = {row.id: row for row in lsmdc.read(lsmdc_files(tmp_path), videos)}
    assert rows[DOTTED].path == videos / "3001_TWO_DOGS" / f"{DOTTED}.avi"
    assert rows[VAL].path == videos / "flat" / f"{VAL}.mp4"


def test_lsmdc_blind_test_is_refused_as_a_test_split(tmp_path: Path) -> None:
    lsmdc_files(tmp_path)
    (tmp_path / "LSMDC16_challenge_1000_publictect.csv").write_text(
        f"{line(DOTTED, '')}\n{line(EMPTY, '')}\n"
    )
    with pytest.raises(ManifestError, match=r"publictect\.csv has no sentence in any line, .*blind test"):
        list(lsmdc.read(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a caption\thttp://host/a.jpg\n", r"in line 1 'a caption.*looks like a file of CC3M"),
        (line(DOTTED, "c").rsplit("\t", 1)[0], r"in line 1 .*a tab after each of the first five"),
        (line(DOTTED, "c\td"), r"in line 1 "),
        (f"{line(VAL, 'c')}\n{line('clip 7', 'c')}", r"in line 2 'clip 7"),
        (line(TWICE, "c"), r"A_Movie\S* is in both train and val of LSMDC"),
    ],
)
def test_lsmdc_of_another_form_says_where(tmp_path: Path, content: str, reason: str) -> None:
    (lsmdc_files(tmp_path) / "LSMDC16_annos_val.csv").write_text(content)
    with pytest.raises(ManifestError, match=reason):
        list(lsmdc.read(tmp_path, tmp_path))
