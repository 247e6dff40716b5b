"""Images with their captions and split in Karpathy's JSON, or in the three lists that LAVIS made of it.

Karpathy: {"images": [{"filename", "split", "sentences": [{"raw"}]}]}; LAVIS: lists of {"image", "caption"}, with
a row per caption for training and a list of captions else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers import files
from mac_ray.data.readers.recognise import foreign, resemblance

KARPATHY = 'Karpathy\'s {"images": [{"filename", "split", "sentences": [{"raw"}]}]}'
LAVIS = 'LAVIS\'s [{"image", "caption"}]'
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Captioned:
    image: str  # name of its file
    split: str
    captions: tuple[str, ...]


def captioned(annotations: Path, karpathy: str, lavis: str) -> Iterator[Captioned]:
    """The images of whichever form is there, by name of the one and name of the other without its split."""
    whole = annotations / karpathy
    by_split = {split: annotations / f"{lavis}_{split}.json" for split in SPLITS}
    if whole.is_file():
        yield from _of_karpathy(whole)
    elif any(path.is_file() for path in by_split.values()):
        for split, path in by_split.items():
            yield from _of_lavis(path, split)
    else:
        raise ManifestError(
            f"there is neither {karpathy} nor {lavis}_train.json in {annotations}{resemblance(annotations)}"
        )


def _of_karpathy(path: Path) -> Iterator[Captioned]:
    content = files.parsed(path, KARPATHY)
    try:
        for entry in content["images"]:
            captions = tuple(str(sentence["raw"]) for sentence in entry["sentences"])
            # restval is what of COCO's validation images the splits val and test did not take
            split = "train" if entry["split"] == "restval" else entry["split"]
            yield Captioned(str(entry["filename"]), split, captions)
    except (KeyError, TypeError) as error:
        raise foreign(path, "is JSON of another form", KARPATHY) from error


def _of_lavis(path: Path, split: str) -> Iterator[Captioned]:
    captions: dict[str, list[str]] = {}
    try:
        for entry in files.parsed(path, LAVIS):
            told = entry["caption"]
            of_image = captions.setdefault(str(entry["image"]), [])
            of_image.extend(map(str, told if isinstance(told, list) else [told]))
    except (KeyError, TypeError) as error:
        raise foreign(path, "is JSON of another form", LAVIS) from error
    for image, texts in captions.items():
        yield Captioned(PurePosixPath(image).name, split, tuple(texts))
