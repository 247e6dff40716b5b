"""DiDeMo: paragraphs out of scattered moments, and file names that are not what they seem."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import READERS, didemo

OWNER = "12345678901@N01_70000000"
BARE = f"{OWNER}07_ab12cd34ef."  # ends in its dot
TWICE = f"{OWNER}08_aa1a90b8ef"


def moment(video: str, description: str, segment: int = 0) -> dict[str, Any]:
    return {
        "num_segments": 6,
        "description": description,
        "dl_link": "https://host/?id=1",
        "times": [[segment, segment]] * 4,
        "video": video,
        "annotation_id": 1,
    }


MOMENTS = {
    "train": [
        moment(f"{TWICE}.mov", "last in time", 5),
        moment(BARE, "the bare one"),
        moment(f"{TWICE}.mp4", "under the other ending", 1),
        moment(f"{TWICE}.mov", "first in time", 0),
    ],
    "val": [moment("1@N01_2_c.3gp", "a dog"), moment("1@N01_3_d.m2ts", "a cat")],
    "test": [moment("1@N01_4_e.mts", "a bird")],
}


def didemo_files(folder: Path, **lists: list[str]) -> Path:
    for split, moments in MOMENTS.items():
        (folder / f"{split}_data.json").write_text(json.dumps(moments))
    for split, names in lists.items():
        (folder / f"{split}_list.txt").write_text("\r\n".join(names) + "\r\n")
    return folder


def test_didemo_moments_of_a_video_are_its_paragraph_in_file_order(tmp_path: Path) -> None:
    rows = list(didemo.read(didemo_files(tmp_path), tmp_path / "videos"))
    assert [(row.id, row.split, row.captions) for row in rows] == [
        (TWICE, "train", ("last in time", "under the other ending", "first in time")),
        (BARE[:-1], "train", ("the bare one",)),
        ("1@N01_2_c", "val", ("a dog",)),
        ("1@N01_3_d", "val", ("a cat",)),
        ("1@N01_4_e", "test", ("a bird",)),
    ]
    assert {(row.start, row.end) for row in rows} == {(None, 30.0)}


def test_didemo_list_of_one_ending_keeps_what_is_said_under_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists = {"train": [f"{TWICE}.mp4", "9@N01_9_z.avi"], "val": ["1@N01_3_d.m2ts"]}
    rows = list(didemo.read(didemo_files(tmp_path, **lists), tmp_path))
    assert Counter(row.split for row in rows) == {"train": 1, "val": 1, "test": 1}
    assert rows[0].captions == ("last in time", "under the other ending", "first in time")
    assert "1 listed videos of train have no description and are left out: 9@N01_9_z" in caplog.text
    assert f"1 described videos of train are in no list and left out: {BARE[:-1]}" in caplog.text
    assert "didemo: test has 1 samples; published are 1,004" in caplog.text


@pytest.mark.parametrize(
    ("there", "video"),
    [
        (BARE, BARE[:-1]),
        (BARE[:-1], BARE[:-1]),  # as unpacked where names cannot end in a dot
        (f"{BARE}mp4", BARE[:-1]),
        (f"{TWICE}.mp4", TWICE),
        (f"{TWICE}.webm", TWICE),
        ("7000000008.mp4", TWICE),  # Flickr's number alone
        ("1@N01_3_d.m2ts", "1@N01_3_d"),
    ],
)
def test_didemo_video_is_found_by_what_it_may_be_called(tmp_path: Path, there: str, video: str) -> None:
    if there == "7000000008.mp4":
        assert TWICE.split("_")[1] == "7000000008"
    (tmp_path / "videos/part").mkdir(parents=True)
    (tmp_path / "videos/part" / there).touch()
    rows = {row.id: row for row in didemo.read(didemo_files(tmp_path), tmp_path / "videos")}
    assert rows[video].path == tmp_path / "videos/part" / there


def test_didemo_video_that_is_nowhere_goes_by_its_first_name(tmp_path: Path) -> None:
    rows = {row.id: row for row in didemo.read(didemo_files(tmp_path), tmp_path / "videos")}
    assert rows[TWICE].path == tmp_path / "videos" / f"{TWICE}.mov"
    manifest = write(tmp_path / "d.parquet", rows.values(), "didemo", tmp_path / "videos")
    assert manifest.table["num_bytes"].to_pylist() == [-1] * 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            '{"v_aB0cD1eF2gH": {"sentences": []}}',
            r"holds a dict; expected is a list.*looks like .*ActivityNet",
        ),
        ('[{"video": "video1.mp4", "caption": "c"}]', r"has the entry .*video1.*looks like .*MSR-VTT"),
        ('["a"]', r"has the entry a; expected"),
        (json.dumps(MOMENTS["train"]), rf"{TWICE} is in both train and val of DiDeMo"),
    ],
)
def test_didemo_of_another_form_says_what_was_found(tmp_path: Path, content: str, reason: str) -> None:
    (didemo_files(tmp_path) / "val_data.json").write_text(content)
    with pytest.raises(ManifestError, match=reason):
        list(didemo.read(tmp_path, tmp_path))


def test_didemo_without_its_files_says_what_the_folder_has(tmp_path: Path) -> None:
    (tmp_path / "video_corpus.csv").write_text("VideoID,Start,End\n")
    with pytest.raises(ManifestError, match=r"no file .*train_data\.json.*the folder has files of MSVD"):
        list(didemo.read(tmp_path, tmp_path))


@pytest.mark.realdata
def test_real_didemo_val_is_whole_whichever_ending_its_list_keeps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """val is complete; train and test are made up, because their files are not there."""
    source = Path(os.environ["MAC_RAY_REAL_DATA"]) / "annotations/didemo"
    didemo_files(tmp_path)
    for name in ("val_data.json", "val_list.txt"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(source / name)
    rows = READERS["didemo"](annotations=tmp_path, videos=tmp_path)
    manifest = write(tmp_path / "didemo.parquet", rows, "didemo", tmp_path)
    val = manifest.split("val")
    assert len(val) == 1065
    assert "val has" not in caplog.text
    # every one of the file's 4,180 descriptions, also those under the ending that the list lacks
    assert sum(len(sample.captions) for sample in val) == len(
        json.loads((source / "val_data.json").read_text())
    )
    assert max(len(" ".join(sample.captions).split()) for sample in val) == 70
