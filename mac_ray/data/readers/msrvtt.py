"""MSR-VTT in its three splits: 9k and 7k with the 1,000 sentences of 1k-A, and full (6,513 / 497 / 2,990).

9k and 7k come without a validation split, and choosing models on 1k-A would be choosing on the test; so 500
of their training videos, drawn by hash, become one. The variant decides the test split too, because the 9k
list holds 1,990 of the 2,990 full test videos: nothing here can pair the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Literal

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files

Variant = Literal["9k", "7k", "full"]

NUM_VAL = 500
TEST_1KA = "MSRVTT_JSFUSION_test.csv"
FULL_LISTS = {"train": "train_list_full.txt", "val": "val_list_full.txt", "test": "test_list_full.txt"}
FOLDERS = ("", "all", "videos", "videos/all", "MSRVTT_Videos", "TrainValVideo", "TestVideo")
CAPTION_FORMS = (
    "the official {videos, sentences}, {annotations: [{image_id, caption}]} or a list of {video, caption}"
)


def read(annotations: Path, videos: Path, variant: Variant) -> Iterator[Row]:
    """Rows of one variant: train, val, test. Raises ManifestError for missing, mixed or foreign files."""
    splits = split_ids(annotations, variant)
    captions = _captions(annotations)
    if variant != "full":
        # 35 of the sentences are not verbatim among the videos' captions, so the text comes from the csv
        captions |= _test_sentences(annotations)
    listed = [video for ids in splits.values() for video in ids]
    silent = [video for video in listed if video not in captions]
    if silent:
        raise ManifestError(
            f"the JSON files in {annotations} have no caption for {len(silent)} of {len(listed)} videos of "
            f"{variant}, for instance {silent[0]}; add the official MSRVTT_data.json"
        )
    paths = _video_files(videos)
    for split, ids in splits.items():
        for video in ids:
            path = paths.get(video, videos / f"{video}.mp4")
            yield Row(video, path, "video", split, tuple(captions[video]))


def split_ids(annotations: Path, variant: Variant) -> dict[str, list[str]]:
    """Video ids of train, val and test, in the order of the official lists, and none in two of them."""
    if variant == "full":
        splits = {
            split: files.lines(_file(annotations, name), f"the video ids of the full {split} split")
            for split, name in FULL_LISTS.items()
        }
    else:
        train = [row["video_id"].strip() for row in _table(annotations, f"MSRVTT_train.{variant}.csv")]
        held_out = set(sorted(train, key=files.hashed)[:NUM_VAL])
        splits = {
            "train": [video for video in train if video not in held_out],
            "val": [video for video in train if video in held_out],
            "test": list(_test_sentences(annotations)),
        }
    seen: dict[str, str] = {}
    for split, ids in splits.items():
        for video in ids:
            if video in seen:
                raise ManifestError(
                    f"{video} is in both {seen[video]} and {split} of variant {variant} in {annotations}; "
                    "lists of different splits were mixed"
                )
            seen[video] = split
    return splits


def _test_sentences(annotations: Path) -> dict[str, list[str]]:
    return {row["video_id"].strip(): [row["sentence"]] for row in _table(annotations, TEST_1KA, "sentence")}


def _table(annotations: Path, name: str, *columns: str) -> Iterator[dict[str, str]]:
    return (row for _, row in files.table(_file(annotations, name), ("video_id", *columns)))


def _file(annotations: Path, name: str) -> Path:
    """The file of this name in the folder or, as in unpacked archives, below it."""
    found = sorted(annotations.rglob(name))
    if not found:
        raise ManifestError(
            f"there is no {name} in {annotations}; it is one of MSR-VTT's official split lists"
        )
    return found[0]


def _captions(annotations: Path) -> dict[str, list[str]]:
    """Captions by video id from all JSON files below; where two know a video, the first by name counts."""
    captions: dict[str, list[str]] = {}
    for path in sorted(annotations.rglob("*.json")):
        of_file: dict[str, list[str]] = {}
        for video, texts in _pairs(path):
            if not video.startswith("video"):
                raise ManifestError(
                    f"{path} names a video {video!r}; those of MSR-VTT are video0 to video9999"
                )
            of_file.setdefault(video, []).extend(texts)
        captions = of_file | captions
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
            raise ManifestError(
                f"{path} has the keys {', '.join(content)[:200]}; expected is {CAPTION_FORMS}"
            )
    else:
        entries, key = content, "video"
    if not isinstance(entries, list):
        raise ManifestError(f"{path} holds a {type(entries).__name__}; expected is {CAPTION_FORMS}")
    for entry in entries:
        if not isinstance(entry, dict) or not {key, "caption"} <= entry.keys():
            raise ManifestError(f"{path} has the entry {str(entry)[:80]}; expected is {CAPTION_FORMS}")
        yield PurePath(str(entry[key])).stem, _listed(entry["caption"])


def _listed(caption: Any) -> list[str]:
    return [str(text) for text in caption] if isinstance(caption, list) else [str(caption)]


def _video_files(videos: Path) -> dict[str, Path]:
    """The file of each video id that is there, as .mp4 or else .webm, in the folders archives unpack to."""
    found: dict[str, Path] = {}
    for suffix in (".mp4", ".webm"):
        for folder in FOLDERS:
            for path in sorted((videos / folder).glob(f"*{suffix}")):
                found.setdefault(path.stem, path)
    return found
