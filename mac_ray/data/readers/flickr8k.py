"""Flickr8k: Flickr8k.token.txt or Kaggle's captions.txt with the three official lists, or dataset_flickr8k.json.

Of the 8,092 names in the token file, 8,000 are in a list. The others are left out: 91 images, and one name ending in
`.jpg.1` for which there never was an image. Karpathy's JSON has the captions, splits and images of the lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files
from mac_ray.data.readers.karpathy import captioned
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.tokens import captions_of

TOKENS = "Flickr8k.token.txt"
KAGGLE = "captions.txt"
KARPATHY = "dataset_flickr8k.json"
LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
PUBLISHED = Published({"train": 6_000, "val": 1_000, "test": 1_000}, "Hodosh et al., JAIR 2013")


def read(annotations: Path, images: Path) -> Iterator[Row]:
    """Rows in the order of the lists or of the JSON. Raises ManifestError for files of another form."""
    lists_are_there = any((annotations / name).is_file() for name in LISTS.values())
    if (annotations / KARPATHY).is_file() and not lists_are_there:
        rows = _of_karpathy(annotations, images)
    else:
        rows = _of_lists(annotations, images)
    return PUBLISHED.compared("flickr8k", rows)


def _of_karpathy(annotations: Path, images: Path) -> Iterator[Row]:
    for entry in captioned(annotations, KARPATHY, "flickr8k"):
        yield Row(entry.image, images / entry.image, "image", entry.split, entry.captions)


def _of_lists(annotations: Path, images: Path) -> Iterator[Row]:
    source = annotations / TOKENS
    if not source.is_file() and (annotations / KAGGLE).is_file():
        source = annotations / KAGGLE
        captions: dict[str, list[str]] = {}
        for _, row in files.table(source, ("image", "caption")):
            captions.setdefault(row["image"].strip(), []).append(row["caption"])
    else:
        captions = captions_of(source)
    listed: dict[str, str] = {}
    for split, name in LISTS.items():
        expected = f"the image names of the {split} split, which {KARPATHY} has too"
        for image in files.lines(annotations / name, expected):
            if image not in captions:
                raise ManifestError(f"{annotations / name} lists {image!r}, which has no caption in {source}")
            if image in listed:
                raise ManifestError(
                    f"{annotations / name} lists {image!r}, already listed under {listed[image]}"
                )
            listed[image] = split
            yield Row(image, images / image, "image", split, tuple(captions[image]))
    unlisted = [image for image in captions if image not in listed]
    without_split = [image for image in unlisted if image.endswith(".jpg")]
    left_out("flickr8k", "images are in no split list and left out", without_split)
    left_out("flickr8k", "captioned names are no images and left out", set(unlisted) - set(without_split))
