"""ActivityNet Captions: paragraphs, ids and file names with and without v_."""

import json
import logging
import os
import re
from pathlib import Path

import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import READERS, activitynet
from mac_ray.data.readers.files import hashed
from mac_ray.data.readers.splits import VAL_SHARE


def told(*sentences: str) -> dict[str, object]:
    """Moments as some are: backwards in time, empty, and after the end of the video. They decide nothing."""
    times = [[90.0 - number, 80.0] for number in range(len(sentences))]
    return {"duration": 82.7, "timestamps": times, "sentences": list(sentences)}


VAL_1 = {"v_-0aBcD1eF2g": told("A dog.", " It runs\naway. "), "v_v_abcdefghi": told("Tea.")}
VAL_2 = {"v_-0aBcD1eF2g": told("Another view.")}


def activitynet_files(folder: Path, num_train: int = 600) -> Path:
    train = {f"v_{number:011}": told("One.", f" Video {number}.") for number in range(num_train)}
    for name, content in {"train": train, "val_1": VAL_1, "val_2": VAL_2}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_activitynet_sentences_are_captions_in_order_and_val_is_carved_from_train(tmp_path: Path) -> None:
    rows = READERS["activitynet"](annotations=activitynet_files(tmp_path), videos=tmp_path / "videos")
    manifest = write(tmp_path / "anet.parquet", rows, "activitynet", tmp_path / "videos")
    val = sum(hashed(f"v_{number:011}") < VAL_SHARE for number in range(600))
    assert manifest.split_sizes() == {"train": 600 - val, "val": val, "test": 2}
    test = manifest.split("test")
    assert [(sample.id, sample.captions) for sample in test] == [
        ("v_-0aBcD1eF2g", ("A dog.", "It runs away.")),
        ("v_v_abcdefghi", ("Tea.",)),
    ]
    # a shorter training file keeps its videos in the split they had
    held_out = set(manifest.split("val").ids().to_pylist())
    fewer = list(activitynet.read(activitynet_files(tmp_path, 550), tmp_path))
    kept = {row.id for row in fewer if row.split == "val"}
    assert held_out & {row.id for row in fewer} <= kept


def test_activitynet_val_2_has_its_own_sentences(tmp_path: Path) -> None:
    rows = list(activitynet.read(activitynet_files(tmp_path), tmp_path, "val_2"))
    assert [row.captions for row in rows if row.split == "test"] == [("Another view.",)]


def test_activitynet_ids_without_v_are_those_with_it(tmp_path: Path) -> None:
    activitynet_files(tmp_path)
    # of these 11 characters the first two are part of the id
    bare = {"-0aBcD1eF2g": told("A dog."), "v_abcdefghi": told("Tea.")}
    (tmp_path / "val_1.json").write_text(json.dumps(bare))
    rows = [row for row in activitynet.read(tmp_path, tmp_path) if row.split == "test"]
    assert [row.id for row in rows] == list(VAL_1)


@pytest.mark.parametrize(
    "name", ["v_-0aBcD1eF2g.mkv", "-0aBcD1eF2g.mp4", "-0aBcD1eF2g.webm", "v_-0aBcD1eF2g.avi"]
)
def test_activitynet_files_are_found_with_or_without_v_and_in_any_container(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "videos/v1-3").mkdir(parents=True)
    (tmp_path / "videos/v1-3" / name).touch()
    (tmp_path / "videos/v1-3/v_abcdefghi.mp4").touch()
    rows = {row.id: row for row in activitynet.read(activitynet_files(tmp_path), tmp_path / "videos")}
    assert rows["v_-0aBcD1eF2g"].path == tmp_path / "videos/v1-3" / name
    assert rows["v_v_abcdefghi"].path == tmp_path / "videos/v1-3/v_abcdefghi.mp4"


def test_activitynet_videos_that_nobody_described_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    activitynet_files(tmp_path)
    (tmp_path / "val_1.json").write_text(json.dumps(VAL_1 | {"v_empty000000": told(" ", "")}))
    (tmp_path / "val_ids.json").write_text(json.dumps(["v_-0aBcD1eF2g", "v_nobody00000"]))
    with caplog.at_level(logging.INFO):
        rows = list(activitynet.read(tmp_path, tmp_path))
    assert [row.id for row in rows if row.split == "test"] == list(VAL_1)
    assert "1 videos of val_1.json have only empty sentences and are left out: v_empty000000" in caplog.text
    assert "1 ids of val_ids.json have no sentences: v_nobody00000" in caplog.text
    assert "1 videos are not in val_ids.json: v_v_abcdefghi" in caplog.text
    assert re.search(r"activitynet val_1: train has 5\d\d samples; published are 9,509", caplog.text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a_b_c_d_e_f_1_2": ["a dog"]}', r"has the entry 'a_b_c_d_e_f_1_2'"),
        ('{"-a_b-c1D2e3_5_15": ["a dog"]}', r"expected is .*'sentences'.*looks like a file of MSVD"),
        ('[{"dl_link": "u"}]', r"holds a list.*looks like a file of DiDeMo"),
        (
            json.dumps({"v_00000000007": told("c")}),
            r"v_00000000007 is in both \w+ and test of train and val_1",
        ),
    ],
)
def test_activitynet_of_another_form_says_what_was_found(tmp_path: Path, content: str, reason: str) -> None:
    (activitynet_files(tmp_path) / "val_1.json").write_text(content)
    with pytest.raises(ManifestError, match=reason):
        list(activitynet.read(tmp_path, tmp_path))


@pytest.mark.realdata
def test_real_activitynet_lists_name_what_has_no_sentences(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The lists are complete, of the sentences there are the first 50 of train."""
    source = Path(os.environ["MAC_RAY_REAL_DATA"]) / "annotations/activitynet"
    (tmp_path / "train.json").symlink_to(source / "train.head50.json")
    (tmp_path / "val_1.json").write_text(json.dumps(VAL_1))
    for name in activitynet.LISTS:
        (tmp_path / name).symlink_to(source / name)
    rows = READERS["activitynet"](annotations=tmp_path, videos=tmp_path)
    manifest = write(tmp_path / "anet.parquet", rows, "activitynet", tmp_path)
    sizes = manifest.split_sizes()
    assert (sizes["train"] + sizes["val"], sizes["test"]) == (50, 2)
    assert "9,974 ids of train_ids.json have no sentences" in caplog.text  # of 10,024
    assert "videos are not in train_ids.json" not in caplog.text
    captions = [caption for sample in manifest for caption in sample.captions]
    assert not any(caption != caption.strip() or "\n" in caption or "  " in caption for caption in captions)
