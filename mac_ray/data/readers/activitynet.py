"""ActivityNet Captions: train.json and val_1.json or val_2.json, a paragraph of sentences for each video.

Retrieval is trained on train and tested on val_1; val_2 are other people's sentences about nearly the same videos. A
validation split is held out of train. Ids are those of the official files, `v_` and 11 characters; files of videos may
lack the `v_`, and so may the ids of converted annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from mac_ray.data.manifest import Row
from mac_ray.data.readers import files
from mac_ray.data.readers.media import MediaFolder
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.recognise import foreign
from mac_ray.data.readers.splits import require_disjoint, with_val_of_train

Test = Literal["val_1", "val_2"]

LISTS = ("train_ids.json", "val_ids.json")  # not needed; they hold 15 and 9 videos that nobody described
LESS_VAL = "10,009 train of the official files; 500 of them are held out as val"
PUBLISHED = {
    "val_1": Published({"train": 9509, "val": 500, "test": 4917}, LESS_VAL),
    "val_2": Published({"train": 9509, "val": 500, "test": 4885}, LESS_VAL),
}
PARAGRAPHS = "{'v_<YouTube id>': {'duration': …, 'timestamps': […], 'sentences': ['…', …]}}"


def read(
    annotations: Annotated[Path, "the folder of train.json and val_1.json or val_2.json"],
    videos: Path,
    test: Annotated[Test, "whose sentences the test split is scored with (default: val_1)"] = "val_1",
) -> Iterator[Row]:
    """Rows of train, val, test, in file order. Raises ManifestError for files of another form."""
    return PUBLISHED[test].compared(f"activitynet {test}", _rows(annotations, videos, test))


def _rows(annotations: Path, videos: Path, test: Test) -> Iterator[Row]:
    trained, tested = (_sentences(annotations / f"{name}.json") for name in ("train", test))
    sentences = trained | tested
    splits = with_val_of_train(trained, list(tested))
    require_disjoint(splits, f"train and {test}", annotations)
    media = MediaFolder(videos)
    for split, ids in splits.items():
        for id in ids:
            yield Row(id, media.find([id, id.removeprefix("v_")]), "video", split, sentences[id])
    for name, known in zip(LISTS, (trained, tested), strict=True):
        if (annotations / name).exists():
            ids = [_id(str(id)) for id in files.parsed(annotations / name, "a list of ids")]
            left_out("activitynet", f"ids of {name} have no sentences", [id for id in ids if id not in known])
            listed = set(ids)
            left_out("activitynet", f"videos are not in {name}", [id for id in known if id not in listed])


def _sentences(path: Path) -> dict[str, tuple[str, ...]]:
    """By video, in file order, which is not always that of time. Most begin with a blank, some hold line ends."""
    content = files.parsed(path, PARAGRAPHS)
    if not isinstance(content, dict):
        raise foreign(path, f"holds a {type(content).__name__}", PARAGRAPHS)
    sentences: dict[str, tuple[str, ...]] = {}
    for video, entry in content.items():
        told = entry.get("sentences") if isinstance(entry, dict) else None
        if not isinstance(told, list) or not all(isinstance(sentence, str) for sentence in told):
            raise foreign(path, f"has the entry {video!r}: {str(entry)[:80]}", PARAGRAPHS)
        sentences[_id(video)] = tuple(told)
    silent = [video for video, told in sentences.items() if not "".join(told).strip()]
    left_out("activitynet", f"videos of {path.name} have only empty sentences and are left out", silent)
    return {video: told for video, told in sentences.items() if video not in silent}


def _id(video: str) -> str:
    """With `v_`, which a YouTube id of 11 characters may begin with too."""
    return video if len(video) == 13 and video.startswith("v_") else f"v_{video}"
