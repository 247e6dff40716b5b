"""A set of pictures with given captions, where these and not what is seen are what a test is about."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mac_ray.data import manifest_writer
from mac_ray.data.manifest import Row


def write_pictures(folder: Path, captions: Mapping[str, Sequence[tuple[str, ...]]]) -> Path:
    """A manifest of pictures of one colour each, by split one for each group of captions."""
    folder.mkdir()
    rows = []
    for split, groups in captions.items():
        generator = np.random.default_rng([len(groups), len(split)])
        for number, group in enumerate(groups):
            name = f"{split}{number}.png"
            colour = generator.integers(0, 256, 3, np.uint8)
            Image.fromarray(np.broadcast_to(colour, (32, 32, 3))).save(folder / name)
            rows.append(Row(f"{split}{number}", Path(name), "image", split, group))
    return manifest_writer.write(folder / f"{folder.name}.parquet", rows, folder.name, folder).path
