"""CC3M: Train_GCC-training.tsv and Validation_GCC-1.1.0-Validation.tsv, or lists of what was downloaded.

Lists have a header, caption and thumbnailUrl. Images are training/CRC32 and validation/CRC32, without ending,
as Frozen in Time and the usual download scripts have them. There is no test split.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers.conceptual import captions_by_file, image_folder
from mac_ray.data.readers.published import Published
from mac_ray.data.readers.recognise import resemblance

log = logging.getLogger(__name__)

PUBLISHED = Published({"train": 3_318_333, "val": 15_840}, "rows of the published files")
FOLDERS = {"train": "training", "val": "validation"}


def read(annotations: Path, images: Path) -> Iterator[Row]:
    """Rows of train, then val, of whichever file is there. Raises ManifestError for files of another form."""
    yield from PUBLISHED.compared("cc3m", _rows(annotations, images))


def _rows(annotations: Path, images: Path) -> Iterator[Row]:
    for split, path in _tables(annotations).items():
        folder = image_folder(images, FOLDERS[split])
        for file, captions in captions_by_file("cc3m", path):
            yield Row(file, folder / file, "image", split, captions)


def _tables(annotations: Path) -> dict[str, Path]:
    """The file of each split that has one, known by "train" or "val" in its name."""
    candidates = sorted(path for path in annotations.iterdir() if path.suffix in (".tsv", ".csv"))
    tables: dict[str, Path] = {}
    for split in FOLDERS:
        there = [path for path in candidates if split in path.name.lower()]
        if len(there) > 1:
            raise ManifestError(
                f"{annotations} has {len(there)} files for the {split} split, {there[0].name} and "
                f"{there[1].name}; leave one of them there"
            )
        if there:
            tables[split] = there[0]
        else:
            log.warning(
                "cc3m: no .tsv or .csv in %s has %r in its name, so no such split", annotations, split
            )
    if not tables:
        raise ManifestError(
            f"there is neither Train_GCC-training.tsv nor Validation_GCC-1.1.0-Validation.tsv in {annotations}; "
            f"they are CC3M's official files{resemblance(annotations)}"
        )
    return tables
