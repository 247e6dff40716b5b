"""COCO, Flickr30k and Flickr8k: the same images, splits and captions from each form of their files."""

import csv
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mac_ray.data.manifest import Manifest, ManifestError, Row
from mac_ray.data.readers import READERS, coco, flickr8k, flickr30k
from mac_ray.prepare.__main__ import main


def karpathy(images: Sequence[tuple[str, str, Sequence[str]]], **more: Any) -> str:
    """The JSON of (name, split, captions), whose tokens are other words than the raw captions."""
    entries = [
        {
            "sentids": [],
            "imgid": number,
            "sentences": [{"tokens": ["lower", "case"], "raw": text, "imgid": number} for text in captions],
            "split": split,
            "filename": name,
        }
        | more
        for number, (name, split, captions) in enumerate(images)
    ]
    return json.dumps({"images": entries, "dataset": "any"})


def lavis(folder: Path, name: str, images: Sequence[tuple[str, str, Sequence[str]]]) -> Path:
    """LAVIS's lists of the same: flat for train, with the captions as a list else."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        entries: list[dict[str, Any]] = []
        for image, of, captions in images:
            if of == split == "train":
                entries += [{"caption": text, "image": image, "image_id": "any_1"} for text in captions]
            elif of == split:
                entries.append({"image": image, "caption": list(captions)})
        (folder / f"{name}_{split}.json").write_text(json.dumps(entries))
    return folder


FIVE = ("A dog .", "One, two", 'He "sits"', "d", "e")
COCO = [
    ("COCO_train2014_000000000009.jpg", "train", FIVE),
    ("COCO_val2014_000000000042.jpg", "restval", (*FIVE, "a sixth")),
    ("COCO_val2014_000000123456.jpg", "val", FIVE),
    ("COCO_val2014_000000654321.jpg", "test", FIVE),
]


def test_coco_restval_is_train_and_sixth_captions_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "dataset_coco.json").write_text(karpathy(COCO, filepath="val2014", cocoid=1))
    with caplog.at_level(logging.INFO):
        rows = list(coco.read(tmp_path, tmp_path / "images"))
    assert [(row.id, row.split, row.captions) for row in rows] == [
        ("9", "train", FIVE),
        ("42", "train", (*FIVE, "a sixth")),
        ("123456", "val", FIVE),
        ("654321", "test", FIVE),
    ]
    assert rows[0].path == tmp_path / "images/train2014/COCO_train2014_000000000009.jpg"
    assert rows[1].path == tmp_path / "images/val2014/COCO_val2014_000000000042.jpg"
    told = [record.getMessage() for record in caplog.records]
    assert any("train has 2 samples; published are 113,287" in line for line in told)
    assert any("1 images have more than five captions" in line for line in told)


def test_coco_of_lavis_has_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "dataset_coco.json").write_text(karpathy(COCO))
    images = [
        (f"{name[5:-17]}/{name}", {"restval": "train"}.get(split, split), captions)
        for name, split, captions in COCO
    ]
    folder = lavis(tmp_path / "lavis", "coco_karpathy", images)
    assert list(coco.read(folder, tmp_path)) == list(coco.read(tmp_path, tmp_path))


def test_coco_images_are_found_under_their_names_of_2017_and_flat(tmp_path: Path) -> None:
    (tmp_path / "dataset_coco.json").write_text(karpathy(COCO))
    there = ["train2017/000000000009.jpg", "val2017/000000000042.jpg", COCO[2][0]]
    for name in there:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rows = list(coco.read(tmp_path, tmp_path / "images"))
    assert [str(Path(row.path).relative_to(tmp_path / "images")) for row in rows[:3]] == there


FLICKR30K = [
    ("1000000001.jpg", "train", FIVE),
    ("1000000002.jpg", "val", FIVE),
    ("1000000003.jpg", "test", FIVE),
]


def test_flickr30k_names_the_images_in_no_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "dataset_flickr30k.json").write_text(karpathy(FLICKR30K))
    names = [name for name, _, _ in FLICKR30K] + ["1000000009.jpg"]
    tokens = [f"{name}#{number}\t{text}" for name in names for number, text in enumerate(FIVE)]
    (tmp_path / "results_20130124.token").write_text("\r\n".join(tokens))
    with caplog.at_level(logging.INFO):
        rows = list(flickr30k.read(tmp_path, tmp_path / "images"))
    assert rows == [
        Row(name, tmp_path / "images" / name, "image", split, captions) for name, split, captions in FLICKR30K
    ]
    told = [record.getMessage() for record in caplog.records]
    assert any("1 captioned images are in no split" in line and "1000000009.jpg" in line for line in told)
    assert any("val has 1 samples; published are 1,014" in line for line in told)


def test_flickr30k_of_lavis_has_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "dataset_flickr30k.json").write_text(karpathy(FLICKR30K))
    images = [(f"flickr30k-images/{name}", split, captions) for name, split, captions in FLICKR30K]
    folder = lavis(tmp_path / "lavis", "flickr30k", images)
    media = tmp_path / "media/flickr30k-images"
    media.mkdir(parents=True)
    (media / "1000000002.jpg").touch()
    rows = list(flickr30k.read(folder, tmp_path / "media"))
    assert rows == list(flickr30k.read(tmp_path, tmp_path / "media"))
    assert rows[1].path == media / "1000000002.jpg"


FLICKR8K = [("1_a.jpg", "train", FIVE), ("2_b.jpg", "val", FIVE), ("3_c.jpg", "test", FIVE)]
LISTS = {"train": "trainImages", "val": "devImages", "test": "testImages"}


def test_flickr8k_has_the_same_rows_from_each_of_its_forms(tmp_path: Path) -> None:
    forms = {name: tmp_path / name for name in ("official", "kaggle", "karpathy")}
    for folder in forms.values():
        folder.mkdir()
    (forms["karpathy"] / "dataset_flickr8k.json").write_text(karpathy(FLICKR8K))
    more = [*FLICKR8K, ("4_d.jpg", "", FIVE)]  # captioned, and in no list
    tokens = [f"{name}#{number}\t{text}\n" for name, _, told in more for number, text in enumerate(told)]
    (forms["official"] / "Flickr8k.token.txt").write_text("".join(tokens))
    with (forms["kaggle"] / "captions.txt").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        table.writerows([name, text] for name, _, told in more for text in told)
    for form in ("official", "kaggle"):
        for name, split, _ in FLICKR8K:
            (forms[form] / f"Flickr_8k.{LISTS[split]}.txt").write_text(f"{name}\n")
    expected = [Row(name, tmp_path / name, "image", split, told) for name, split, told in FLICKR8K]
    for folder in forms.values():
        assert list(flickr8k.read(folder, tmp_path)) == expected


def test_flickr8k_of_kaggle_alone_says_what_has_the_splits(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("image,caption\n1_a.jpg,a dog\n")
    with pytest.raises(ManifestError, match=r"no file .*trainImages.*which dataset_flickr8k\.json has too"):
        list(flickr8k.read(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("reader", "name", "content", "reason"),
    [
        ("coco", "dataset_coco.json", karpathy(FLICKR30K), r"an image is called '1000000001\.jpg'; those of"),
        ("coco", "dataset_coco.json", "[]", r"is JSON of another form; expected is Karpathy's"),
        ("coco", "coco_karpathy_train.json", karpathy(COCO), r"is JSON of another form.*LAVIS's.*of COCO"),
        ("coco", "coco_karpathy_train.json", "[]", r"no file .*coco_karpathy_val\.json"),
        ("coco", "dataset_flickr30k.json", karpathy(FLICKR30K), r"neither dataset_coco\.json nor coco_karp"),
        ("flickr30k", "dataset_flickr30k.json", '{"images": [{"filename": "a"}]}', r"of another form"),
        ("flickr8k", "dataset_flickr8k.json", '{"images": [3]}', r"of another form"),
    ],
)
def test_images_of_another_form_say_what_was_found(
    tmp_path: Path, reader: str, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=reason):
        list(READERS[reader](annotations=tmp_path, images=tmp_path))


@pytest.mark.realdata
def test_real_karpathy_entries_are_captions_of_the_real_token_file(tmp_path: Path) -> None:
    real = Path(os.environ["MAC_RAY_REAL_DATA"])
    media = real / "media/flickr8k"
    (tmp_path / "dataset_flickr8k.json").symlink_to(real / "annotations/flickr8k/dataset_flickr8k.head3.json")
    out = tmp_path / "flickr8k.parquet"
    given = ["--annotations", str(tmp_path), "--images", str(media / "Images"), "--out", str(out)]
    assert main(["manifest", "flickr8k", *given]) == 0
    official = {row.id: row for row in flickr8k.read(media, media / "Images")}
    manifest = Manifest.open(out)
    assert len(manifest) == 3
    for sample in manifest:
        assert sample.split == official[sample.id].split
        same = {" ".join(text.split()) for text in official[sample.id].captions}
        assert set(sample.captions) == same
