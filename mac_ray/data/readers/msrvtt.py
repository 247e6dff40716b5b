"""MSR-VTT in its splits: 9k and 7k (tested on 1k-A), 1k-B, full, and those of LAVIS' retrieval files.

9k, 7k and 1k-B come without a validation split, and choosing models on the test split would be choosing on the test;
so 500 of their training videos, drawn by hash, become one. The variant decides the test split too, because the lists
overlap: 9k holds 1,990 of the 2,990 full test videos, and that of 1k-B 453 of the 1k-A test videos. Nothing here can
pair them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files
from mac_ray.data.readers.media import MediaFolder
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.recognise import foreign, resemblance
from mac_ray.data.readers.splits import require_disjoint, with_val_of_train

Variant = Literal["9k", "7k", "1k-B", "full", "lavis"]

TEST_1KA = "MSRVTT_JSFUSION_test.csv"
LISTS_1KB = ("train_list_miech.txt", "test_list_miech.txt")
FULL_LISTS = {"train": "train_list_full.txt", "val": "val_list_full.txt", "test": "test_list_full.txt"}
LAVIS = {split: f"retrieval_{split}.json" for split in ("train", "val", "test")}
CAPTION_FORMS = (
    "the official {videos, sentences}, {annotations: [{image_id, caption}]} or a list of {video, caption}"
)
LESS_VAL = "measured on the official lists; 500 of train are held out as val"
PUBLISHED = {
    "9k": Published({"train": 8500, "val": 500, "test": 1000}, LESS_VAL),
    "7k": Published({"train": 6510, "val": 500, "test": 1000}, LESS_VAL),
    "1k-B": Published(
        {"train": 6156, "val": 500, "test": 1000},
        "Miech et al., arXiv 1804.02516; 500 of train are held out as val",
    ),
    "full": Published({"train": 6513, "val": 497, "test": 2990}, "Xu et al., CVPR 2016"),
}
Annotations = Annotated[Path, "the folder of the split lists and of the captions' JSON"]


def read(annotations: Annotations, videos: Path, variant: Variant) -> Iterator[Row]:
    """Rows of one variant: train, val, test. Raises ManifestError for missing, mixed or foreign files."""
    rows = _rows(annotations, videos, variant)
    return PUBLISHED[variant].compared(f"msrvtt {variant}", rows) if variant in PUBLISHED else rows


def _rows(annotations: Path, videos: Path, variant: Variant) -> Iterator[Row]:
    if variant == "lavis":
        splits, captions = _lavis(annotations)
    else:
        splits, captions = split_ids(annotations, variant), _captions(annotations)
    if variant in ("9k", "7k"):
        # 35 of the sentences are not verbatim among the videos' captions, so the text comes from the csv
        captions |= _test_sentences(annotations)
    listed = [video for ids in splits.values() for video in ids]
    silent = [video for video in listed if video not in captions]
    if silent:
        raise ManifestError(
            f"the JSON files in {annotations} have no caption for {len(silent)} of {len(listed)} videos of "
            f"{variant}, for instance {silent[0]}; add the official MSRVTT_data.json{resemblance(annotations)}"
        )
    media = MediaFolder(videos)
    for split, ids in splits.items():
        for video in ids:
            yield Row(video, media.find([video]), "video", split, tuple(captions[video]))


def split_ids(annotations: Path, variant: Variant) -> dict[str, list[str]]:
    """Video ids of train, val and test, in the order of the official lists, and none in two of them."""
    if variant == "full":
        splits = {split: _listed_in(annotations, name) for split, name in FULL_LISTS.items()}
    elif variant == "1k-B":
        train, test = (_listed_in(annotations, name) for name in LISTS_1KB)
        splits = with_val_of_train(train, test)
    else:
        train = [row["video_id"].strip() for row in _table(annotations, f"MSRVTT_train.{variant}.csv")]
        splits = with_val_of_train(train, list(_test_sentences(annotations)))
    require_disjoint(splits, f"variant {variant}", annotations)
    return splits


def _lavis(annotations: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Video ids by split and captions by video id. The training list may hold the val videos, and loses them."""
    captions = {split: _captions_in(_file(annotations, name)) for split, name in LAVIS.items()}
    both = [video for video in captions["train"] if video in captions["val"]]
    left_out("msrvtt lavis", "training videos are val videos and no longer in train", both)
    splits = {
        "train": [video for video in captions["train"] if video not in captions["val"]],
        "val": list(captions["val"]),
        "test": list(captions["test"]),
    }
    require_disjoint(splits, "variant lavis", annotations)
    return splits, captions["train"] | captions["val"] | captions["test"]


def _test_sentences(annotations: Path) -> dict[str, list[str]]:
    return {row["video_id"].strip(): [row["sentence"]] for row in _table(annotations, TEST_1KA, "sentence")}


def _table(annotations: Path, name: str, *columns: str) -> Iterator[dict[str, str]]:
    return (row for _, row in files.table(_file(annotations, name), ("video_id", *columns)))


def _listed_in(annotations: Path, name: str) -> list[str]:
    return files.lines(_file(annotations, name), "one video id per line")


def _file(annotations: Path, name: str) -> Path:
    """The file of this name in the folder or, as in unpacked archives, below it."""
    found = sorted(annotations.rglob(name))
    if not found:
        raise ManifestError(
            f"there is no {name} in {annotations}; it is one of MSR-VTT's split lists{resemblance(annotations)}"
        )
    return found[0]


def _captions(annotations: Path) -> dict[str, list[str]]:
    """Captions by video id from all JSON files below; where two know a video, the first by name counts."""
    captions: dict[str, list[str]] = {}
    for path in sorted(annotations.rglob("*.json")):
        captions = _captions_in(path) | captions
    return captions


def _captions_in(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for video, texts in _pairs(path):
        if not video.startswith("video"):
            raise foreign(path, f"names a video {video!r}", "video0 to video9999 in files of MSR-VTT")
        captions.setdefault(video, []).extend(texts)
    return captions


def _pairs(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(video id, captions) from one JSON file in any of the three forms."""
    content = files.parsed(path, CAPTION_FORMS)
    if isinstance(content, dict):
        for part, name in (("sentences", "video_id"), ("annotations", "image_id")):
            if part in content:
                entries, key = content[part], name
                break
        else:
            raise foreign(path, f"has the keys {', '.join(content)[:200]}", CAPTION_FORMS)
    else:
        entries, key = content, "video"
    if not isinstance(entries, list):
        raise foreign(path, f"holds a {type(entries).__name__}", CAPTION_FORMS)
    for entry in entries:
        if not isinstance(entry, dict) or not {key, "caption"} <= entry.keys():
            raise foreign(path, f"has the entry {str(entry)[:80]}", CAPTION_FORMS)
        yield PurePath(str(entry[key])).stem, _listed(entry["caption"])


def _listed(caption: Any) -> list[str]:
    return [str(text) for text in caption] if isinstance(caption, list) else [str(caption)]
