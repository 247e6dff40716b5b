"""Flickr30k in Karpathy's splits: dataset_flickr30k.json, or LAVIS's flickr30k_{train,val,test}.json.

results_20130124.token, of which they were made, has 769 images more than are in a split; where it is there too,
those are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import Row
from mac_ray.data.readers.karpathy import captioned
from mac_ray.data.readers.media import MediaFolder
from mac_ray.data.readers.published import Published, left_out
from mac_ray.data.readers.tokens import captions_of

TOKENS = "results_20130124.token"
PUBLISHED = Published(
    {"train": 29_000, "val": 1_014, "test": 1_000}, "Karpathy and Fei-Fei, CVPR 2015, in their files"
)


def read(annotations: Path, images: Path) -> Iterator[Row]:
    """Rows in the order of the file. Raises ManifestError for files of another form."""
    return PUBLISHED.compared("flickr30k", _rows(annotations, images))


def _rows(annotations: Path, images: Path) -> Iterator[Row]:
    media = MediaFolder(images)
    in_a_split: set[str] = set()
    for entry in captioned(annotations, "dataset_flickr30k.json", "flickr30k"):
        in_a_split.add(entry.image)
        path = media.find([entry.image.removesuffix(".jpg")], [".jpg"])
        yield Row(entry.image, path, "image", entry.split, entry.captions)
    if (annotations / TOKENS).is_file():
        others = [image for image in captions_of(annotations / TOKENS) if image not in in_a_split]
        left_out("flickr30k", "captioned images are in no split and left out", others)
