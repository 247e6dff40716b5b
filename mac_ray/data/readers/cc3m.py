"""CC3M: Train_GCC-training.tsv and Validation_GCC-1.1.0-Validation.tsv, or lists of what was downloaded.

Lists have a header, caption and thumbnailUrl. Images are training/CRC32 and validation/CRC32, without ending,
as Frozen in Time and the usual download scripts have them. There is no test split.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers.conceptual import captions_by_file
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
        folder = _folder(images, FOLDERS[split])
        for file, captions in captions_by_file("cc3m", path):
            yield Row(file, folder / file, "image", split, captions)


def _folder(images: Path, name: str) -> Path:
    """The folder of this name, also before there is one, but for images that lie in `images` itself."""
    if (images / name).is_dir():
        return images / name
    with os.scandir(images) as entries:  # of which there may be millions
        return images if any(entry.name.isdecimal() for entry in entries) else images / name


def _tables(annotations: Path) -> dict[str, Path]:
    """The file of each split that has one, known by "train" or "val" in its name."""
    candidates = sorted(path for path in annotations.iterdir() if path.suffix in (".tsv", ".csv"))
    tables: dict[str, list[Path]] = {split: [] for split in FOLDERS}
    for path in candidates:  # "VALIDIMG" is in the names of lists of either split, as of Frozen in Time's
        split = next((split for split in FOLDERS if split in path.name.lower()), None)
        if split is not None:
            tables[split].append(path)
    if not any(tables.values()):
        raise ManifestError(
            f"there is neither Train_GCC-training.tsv nor Validation_GCC-1.1.0-Validation.tsv in {annotations}; "
            f"they are CC3M's official files{resemblance(annotations)}"
        )
    for split, paths in tables.items():
        if len(paths) > 1:
            raise ManifestError(
                f"{annotations} has {len(paths)} files for the {split} split, {paths[0].name} and "
                f"{paths[1].name}; leave one of them there"
            )
        if not paths:
            log.warning("cc3m: no .tsv or .csv in %s has %r in its name: no such split", annotations, split)
    return {split: paths[0] for split, paths in tables.items() if paths}
