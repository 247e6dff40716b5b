"""MSVD: 1,970 clips of YouTube videos (1,200 / 100 / 670) with 18 to 81 captions each, of which every one is a query.

The captions come from the first there is of raw-captions.pkl (CLIP4Clip, Collaborative Experts), captions_msvd.json
(X-Pool), AllVideoDescriptions.txt and video_corpus.csv (the original corpus, English alone). Their texts are not the
same to the letter, so numbers go with the file they come from.

A clip is <YouTube id>_<start>_<end>, where the id may hold `_` and start with `-`; with youtube_mapping.txt beside them
lists, captions and files may call it vid1 to vid1970 instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files
from mac_ray.data.readers.media import VIDEO_ENDINGS, MediaFolder
from mac_ray.data.readers.pickled import unpickled
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.recognise import foreign, resemblance
from mac_ray.data.readers.splits import require_disjoint

log = logging.getLogger(__name__)

Captions = dict[str, list[str]]  # by clip, in file order

LISTS = {split: f"{split}_list.txt" for split in ("train", "val", "test")}
MAPPING = "youtube_mapping.txt"
ENDINGS = tuple(dict.fromkeys((".avi", ".mp4", ".webm", ".mkv", *VIDEO_ENDINGS)))
PUBLISHED = Published(
    {"train": 1200, "val": 100, "test": 670},
    "lists and captions of Collaborative Experts",
    captions={"train": 48774, "val": 4290, "test": 27763},
)
BY_CLIP = "captions by clip: {'<YouTube id>_<start>_<end>': ['a sentence', …]}"


def read(
    annotations: Annotated[Path, "the folder of the three split lists and of the captions"], videos: Path
) -> Iterator[Row]:
    """Rows in the order of the lists: train, val, test. Raises ManifestError for files of another form."""
    return PUBLISHED.compared("msvd", _rows(annotations, videos))


def _rows(annotations: Path, videos: Path) -> Iterator[Row]:
    youtube = _youtube_names(annotations / MAPPING)
    short = {name: number for number, name in youtube.items()}
    splits = {
        split: [
            youtube.get(clip, clip)
            for clip in files.lines(annotations / name, f"the clips of the {split} split")
        ]
        for split, name in LISTS.items()
    }
    require_disjoint(splits, "MSVD", annotations)
    captions = {youtube.get(clip, clip): texts for clip, texts in _captions(annotations).items()}
    listed = [clip for clips in splits.values() for clip in clips]
    silent = [clip for clip in listed if clip not in captions]
    if len(silent) == len(listed):
        raise ManifestError(
            f"none of the {len(listed)} clips listed in {annotations}, such as {', '.join(listed[:2])}, has a caption; "
            f"lists and captions of one source are needed, and {MAPPING} where only one of them says vid1"
        )
    media = MediaFolder(videos)
    for split, clips in splits.items():
        for clip in clips:
            if clip in captions:
                path = media.find([clip, *([short[clip]] if clip in short else [])], ENDINGS)
                yield Row(clip, path, "video", split, tuple(captions[clip]))
    left_out("msvd", "listed clips have no caption and are left out", silent)
    left_out("msvd", "clips with captions are in no list", sorted(captions.keys() - set(listed)))


def _youtube_names(path: Path) -> dict[str, str]:
    """The clip behind each short name, from lines of the form `<YouTube id>_<start>_<end> vid1`; may be absent."""
    names: dict[str, str] = {}
    if path.exists():
        expected = "lines of the form <YouTube id>_<start>_<end> vid1"
        for line in files.lines(path, expected):
            clip, _, short = line.partition(" ")
            if not short.startswith("vid"):
                raise foreign(path, f"has the line {line[:80]!r}", expected)
            names[short.strip()] = clip
    return names


# ---------------------------------------------------------------- captions, by the file they are in


def _captions(annotations: Path) -> Captions:
    there = [name for name in CAPTIONS if (annotations / name).is_file()]
    if not there:
        raise ManifestError(
            f"{annotations} has no captions of MSVD: one of {', '.join(CAPTIONS)} is needed{resemblance(annotations)}"
        )
    log.info("msvd: captions are those of %s", there[0])
    return CAPTIONS[there[0]](annotations / there[0])


def _of_pickle(path: Path) -> Captions:
    return _by_clip(path, unpickled(path, BY_CLIP))


def _of_json(path: Path) -> Captions:
    return _by_clip(path, files.parsed(path, BY_CLIP))


def _by_clip(path: Path, content: Any) -> Captions:
    """Checked; a caption that is a list of words becomes one text."""
    if not isinstance(content, dict):
        raise foreign(path, f"holds a {type(content).__name__}", BY_CLIP)
    captions: Captions = {}
    for clip, texts in content.items():
        if not isinstance(clip, str) or not isinstance(texts, list):
            raise foreign(path, f"has the entry {clip!r}: {str(texts)[:80]}", BY_CLIP)
        captions[clip] = [" ".join(text) if _is_words(text) else text for text in texts]
        if not all(isinstance(text, str) for text in captions[clip]):
            raise foreign(path, f"has the entry {clip!r}: {str(texts)[:80]}", BY_CLIP)
    return captions


def _is_words(text: Any) -> bool:
    return isinstance(text, list) and all(isinstance(word, str) for word in text)


def _of_descriptions(path: Path) -> Captions:
    """Lines of a clip, a blank and a sentence, below a head of lines that start with #."""
    captions: Captions = {}
    expected = "lines of the form <YouTube id>_<start>_<end> a sentence"
    for line in files.lines(path, expected):
        if line.startswith("#"):
            continue
        clip, blank, sentence = line.partition(" ")
        if not blank or "_" not in clip:
            raise foreign(path, f"has the line {line[:80]!r}", expected)
        captions.setdefault(clip, []).append(sentence)
    return captions


def _of_corpus(path: Path) -> Captions:
    """The table of the whole corpus, in which a caption is in one of some 35 languages or empty."""
    captions: Captions = {}
    for _, row in files.table(path, ("VideoID", "Start", "End", "Language", "Description")):
        if row["Language"] == "English" and row["Description"].strip():
            captions.setdefault(f"{row['VideoID']}_{row['Start']}_{row['End']}", []).append(
                row["Description"]
            )
    return captions


# the first that is there counts
CAPTIONS: dict[str, Callable[[Path], Captions]] = {
    "raw-captions.pkl": _of_pickle,
    "captions_msvd.json": _of_json,
    "AllVideoDescriptions.txt": _of_descriptions,
    "video_corpus.csv": _of_corpus,
}
