"""Flickr8k: Flickr8k.token.txt (five captions per image) and the three official split lists.

Of the 8,092 captioned names, 8,000 are in a list. The others are left out: 91 images, and one name ending in
`.jpg.1` for which there never was an image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files

log = logging.getLogger(__name__)

TOKENS = "Flickr8k.token.txt"
LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def read(annotations: Path, images: Path) -> Iterator[Row]:
    """Rows in the order of the lists: train, val, test. Raises ManifestError for files of another form."""
    captions = _captions(annotations / TOKENS)
    listed: dict[str, str] = {}
    for split, name in LISTS.items():
        for image in files.lines(annotations / name, f"the image names of the {split} split"):
            if image not in captions:
                raise ManifestError(
                    f"{annotations / name} lists {image!r}, which has no caption in {annotations / TOKENS}"
                )
            if image in listed:
                raise ManifestError(
                    f"{annotations / name} lists {image!r}, already listed under {listed[image]}"
                )
            listed[image] = split
            yield Row(image, images / image, "image", split, tuple(captions[image]))
    unlisted = [image for image in captions if image not in listed]
    num_images = sum(image.endswith(".jpg") for image in unlisted)
    log.info("flickr8k: %d images are in no split list and left out", num_images)
    log.info("flickr8k: %d captioned names are no images and left out", len(unlisted) - num_images)


def _captions(path: Path) -> dict[str, list[str]]:
    """Captions by image name, in file order."""
    captions: dict[str, list[str]] = {}
    expected = "lines of the form name.jpg#0<TAB>caption"
    for line in files.lines(path, expected):
        key, tab, caption = line.partition("\t")
        image, sharp, number = key.rpartition("#")
        if not (tab and sharp and number.isdigit()):
            raise ManifestError(f"{path} should hold {expected}; found {line[:80]!r}")
        captions.setdefault(image, []).append(caption)
    return captions
