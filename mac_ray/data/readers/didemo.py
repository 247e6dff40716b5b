"""DiDeMo: train/val/test_data.json, whose videos are described moment by moment; all moments are one paragraph.

A video's id is its name without the ending. It is one video under two endings for 29 of val and 33 of test, with some
of its descriptions under either, and lists keep one of the two names: grouped by whole names, as others do, the
descriptions under the other ending are lost.

With train/val/test_list.txt beside them the splits are those lists, without them all that is described.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mac_ray.data.manifest import Row
from mac_ray.data.readers import files
from mac_ray.data.readers.media import VIDEO_ENDINGS, MediaFolder
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.recognise import foreign
from mac_ray.data.readers.splits import require_disjoint

SPLITS = ("train", "val", "test")
DESCRIBED_SECONDS = 30.0  # annotators saw no more of longer videos: six moments of five seconds
PUBLISHED = Published(
    {"train": 8392, "val": 1065, "test": 1004}, "lists of Collaborative Experts; the paper has 8,395 train"
)
ENTRIES = "a list of {video, description, …}"


@dataclass
class _Video:
    names: list[str] = field(default_factory=list)  # with endings, in order of appearance
    descriptions: list[str] = field(default_factory=list)  # in file order, whatever their times are


def read(
    annotations: Annotated[Path, "the folder of train_data.json, val_data.json, test_data.json"], videos: Path
) -> Iterator[Row]:
    """Rows of train, val, test, in the order of the lists. Raises ManifestError for files of another form."""
    return PUBLISHED.compared("didemo", _rows(annotations, videos))


def _rows(annotations: Path, videos: Path) -> Iterator[Row]:
    described = {split: _described(annotations / f"{split}_data.json") for split in SPLITS}
    listed = {
        split: _listed(annotations / f"{split}_list.txt", list(known)) for split, known in described.items()
    }
    require_disjoint(listed, "DiDeMo", annotations)
    media = MediaFolder(videos)
    for split, ids in listed.items():
        known = described[split]
        for id in ids:
            if id in known:
                path = media.find(_file_names(id, known[id].names), [""])
                descriptions = tuple(known[id].descriptions)
                yield Row(id, path, "video", split, descriptions, end=DESCRIBED_SECONDS)
        silent = [id for id in ids if id not in known]
        left_out("didemo", f"listed videos of {split} have no description and are left out", silent)
        unlisted = sorted(known.keys() - set(ids))
        left_out("didemo", f"described videos of {split} are in no list and left out", unlisted)


def _described(path: Path) -> dict[str, _Video]:
    """By id; the descriptions of a video are scattered over the file."""
    entries = files.parsed(path, ENTRIES)
    if not isinstance(entries, list):
        raise foreign(path, f"holds a {type(entries).__name__}", ENTRIES)
    videos: dict[str, _Video] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not {"video", "description"} <= entry.keys():
            raise foreign(path, f"has the entry {str(entry)[:80]}", ENTRIES)
        name = str(entry["video"])
        video = videos.setdefault(_id(name), _Video())
        if name not in video.names:
            video.names.append(name)
        video.descriptions.append(str(entry["description"]))
    return videos


def _listed(path: Path, otherwise: list[str]) -> list[str]:
    if not path.exists():
        return otherwise
    return list(dict.fromkeys(_id(name) for name in files.lines(path, "one file name of a video per line")))


def _id(name: str) -> str:
    """Without what follows the last dot, which may be nothing."""
    return name.rpartition(".")[0] or name


def _file_names(id: str, names: list[str]) -> list[str]:
    """What the file may be called: as its owner called it, transcoded, or by its number alone, as Flickr has it."""
    parts = id.split("_")  # owner, number, secret
    stems = [id, *parts[1:2]]
    return [*names, *(f"{stem}{ending}" for stem in stems for ending in (*VIDEO_ENDINGS, ""))]
