"""CC12M: cc12m.tsv, and images named by the crc32 of their URL, without ending, in one folder.

Its rows are a URL, a tab and a caption, the other way round than those of CC3M. It has one split, so a
thousandth of the images, drawn by hash, is held out for validation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import Row
from mac_ray.data.readers import files
from mac_ray.data.readers.conceptual import captions_by_file

VAL_SHARE = 0.001


def read(annotations: Path, images: Path) -> Iterator[Row]:
    """Rows of train and val, mixed. Raises ManifestError for a file of another form."""
    folder = images / "training" if (images / "training").is_dir() else images
    for file, captions in captions_by_file("cc12m", annotations / "cc12m.tsv"):
        split = "val" if files.hashed(file) < VAL_SHARE else "train"
        yield Row(file, folder / file, "image", split, captions)
