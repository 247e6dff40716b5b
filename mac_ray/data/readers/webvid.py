"""WebVid: results_2M_train.csv and results_2M_val.csv, or those of 10M. There is no test split.

Columns are found by their names, as 2M and 10M have them in different orders. The path of a video comes from
page_dir alone, because page_idx is not always inside it; durations are measured, not read. Rows of one videoid
(10M has some) are captions of one sample, which comes after the others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Literal, NamedTuple

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files
from mac_ray.data.readers.gathered import gathered
from mac_ray.data.readers.published import left_out
from mac_ray.data.readers.recognise import resemblance

log = logging.getLogger(__name__)

Variant = Literal["2M", "10M"]
Layout = Literal["page_dir", "flat"]


class _Entry(NamedTuple):
    video: str
    caption: str
    page_dir: str


def read(
    annotations: Path,
    videos: Path,
    variant: Variant,
    layout: Annotated[Layout, "page_dir (default): PAGE_DIR/VIDEOID.mp4; flat: VIDEOID.mp4"] = "page_dir",
) -> Iterator[Row]:
    """Rows of train, then val, of whichever csv is there. Raises ManifestError for files of another form."""
    tables = _tables(annotations, variant)
    if (videos / "videos").is_dir():
        videos = videos / "videos"
    without: list[str] = []
    for split, path in tables.items():
        for entries in gathered(partial(_entries, path, layout), lambda entry: entry.video, path):
            video = entries[0].video
            captions = tuple(entry.caption for entry in entries if entry.caption.strip())
            if captions:
                file = PurePath(entries[0].page_dir if layout == "page_dir" else "", f"{video}.mp4")
                yield Row(video, videos / file, "video", split, captions)
            else:
                without.append(video)
    left_out("webvid", "videos have no caption and are left out", without)


def _tables(annotations: Path, variant: Variant) -> dict[str, Path]:
    """The csv of each split that has one."""
    names = {split: f"results_{variant}_{split}.csv" for split in ("train", "val")}
    # not looked for further down, where millions of videos may lie
    folders = (annotations, annotations / "metadata")
    tables = {
        split: path
        for split, name in names.items()
        if (path := next((folder / name for folder in folders if (folder / name).is_file()), None))
    }
    if not tables:
        raise ManifestError(
            f"there is neither {' nor '.join(names.values())} in {annotations}; "
            f"they are WebVid's official files{resemblance(annotations)}"
        )
    for split in names.keys() - tables.keys():
        log.warning("webvid: there is no %s in %s, so no %s split", names[split], annotations, split)
    return tables


def _entries(path: Path, layout: Layout) -> Iterator[_Entry]:
    for number, row in files.table(path, ("videoid", "name", "page_dir")):
        video, page_dir = row["videoid"].strip(), row["page_dir"].strip()
        if not video.isdecimal():
            raise ManifestError(
                f"{path}, line {number}: videoid is {video[:80]!r}; those of WebVid are digits"
            )
        if layout == "page_dir" and not re.fullmatch(r"[\w-]+", page_dir):
            raise ManifestError(
                f"{path}, line {number}: page_dir is {page_dir[:80]!r}; it must name a folder, "
                "like 027701_027750, or the layout be flat"
            )
        yield _Entry(video, row["name"], page_dir)
