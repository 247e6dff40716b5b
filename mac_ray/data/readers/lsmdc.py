"""LSMDC: clips of movies with a sentence each, from three tab-separated files without a header.

Test are the 1,000 clips of LSMDC16_challenge_1000_publictect.csv, as the file is really called. Nothing is quoted:
a quotation mark is one of the sentence's. Ids have dots in them, and occur in several lines where a clip has several
sentences.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files
from mac_ray.data.readers.media import VIDEO_ENDINGS, MediaFolder
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.recognise import foreign, resemblance
from mac_ray.data.readers.splits import require_disjoint

log = logging.getLogger(__name__)

FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
ENDINGS = tuple(dict.fromkeys((".avi", *VIDEO_ENDINGS)))
FIELDS = 6
FORM = "lines of clip id, four times and a sentence, with a tab after each of the first five"
CLIP = re.compile(r"(.+)_\d\d\.\d\d\.\d\d\.\d+-\d\d\.\d\d\.\d\d\.\d+")
PUBLISHED = Published(
    {"test": 1000},
    "the official test file; Collaborative Experts count the train captions",
    captions={"train": 101079},
)


def read(
    annotations: Annotated[Path, "the folder of the three csv files"],
    videos: Annotated[Path, "the folder of <movie>/<clip id>.avi"],
) -> Iterator[Row]:
    """Rows of train, val, test, in file order. Raises ManifestError for files of another form."""
    return PUBLISHED.compared("lsmdc", _rows(annotations, videos))


def _rows(annotations: Path, videos: Path) -> Iterator[Row]:
    sentences = {split: _sentences(annotations / name) for split, name in FILES.items()}
    require_disjoint(sentences, "LSMDC", annotations)
    media = MediaFolder(videos)
    for split, clips in sentences.items():
        for clip, told in clips.items():
            if told:
                path = media.find([clip], ENDINGS, usual=_movie(clip))
                yield Row(clip, path, "video", split, tuple(told))
        silent = [clip for clip, told in clips.items() if not told]
        left_out("lsmdc", f"clips of {split} have no sentence and are left out", silent)


def _sentences(path: Path) -> dict[str, list[str]]:
    """By clip, in file order. A clip may have an empty sentence, which still ends its line with a tab."""
    sentences: dict[str, list[str]] = {}
    for number, line in enumerate(files.text(path, FORM).split("\n"), 1):
        if not line.strip():
            continue
        fields = line.removesuffix("\r").split("\t")
        if len(fields) != FIELDS or not CLIP.fullmatch(fields[0]):
            raise foreign(path, f"has in line {number} {line[:80]!r}", FORM)
        told = sentences.setdefault(fields[0], [])
        if fields[-1].strip():
            told.append(fields[-1])
    if sentences and not any(sentences.values()):
        raise ManifestError(
            f"{path} has no sentence in any line, as the file of the blind test; "
            f"LSMDC's retrieval test is {FILES['test']}{resemblance(path.parent)}"
        )
    return sentences


def _movie(clip: str) -> str:
    """The folder of a clip: its id up to the times."""
    return clip.rpartition("_")[0]
