"""COCO captions in Karpathy's splits: dataset_coco.json, or LAVIS's coco_karpathy_{train,val,test}.json.

restval counts as train. Images are found by their names of 2014 or of 2017, in whatever folders they lie.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers.karpathy import captioned
from mac_ray.data.readers.media import MediaFolder
from mac_ray.data.readers.published import Published

log = logging.getLogger(__name__)

PUBLISHED = Published(
    {"train": 113_287, "val": 5_000, "test": 5_000}, "Karpathy and Fei-Fei, CVPR 2015, with restval"
)
NAME = re.compile(r"COCO_((?:train|val)2014)_(\d{12})\.jpg")


def read(annotations: Path, images: Path) -> Iterator[Row]:
    """Rows in the order of the file; the id is COCO's number. Raises ManifestError for files of another form."""
    return PUBLISHED.compared("coco", _rows(annotations, images))


def _rows(annotations: Path, images: Path) -> Iterator[Row]:
    media = MediaFolder(images)
    num_with_more = 0
    for entry in captioned(annotations, "dataset_coco.json", "coco_karpathy"):
        name = NAME.fullmatch(entry.image)
        if name is None:
            raise ManifestError(
                f"{annotations}: an image is called {entry.image!r}; those of COCO are like "
                "COCO_val2014_000000123456.jpg"
            )
        num_with_more += len(entry.captions) > 5
        path = media.find([entry.image.removesuffix(".jpg"), name[2]], [".jpg"], usual=name[1])
        yield Row(str(int(name[2])), path, "image", entry.split, entry.captions)
    log.info("coco: %d images have more than five captions, and keep them", num_with_more)
