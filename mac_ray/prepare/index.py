"""`prepare index`: a manifest of shards that exist, as img2dataset and video2dataset leave them, in place.

Only headers and captions are read. What is left out is named, and exits with 1.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyarrow import fs
from rich.console import Console
from rich.progress import track

from mac_ray.cores import usable_cores
from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import tars
from mac_ray.data.readers.media import walked
from mac_ray.data.source import absolute_place, base_of, file_system, is_url, joined
from mac_ray.prepare.arguments import local_file_to_write, positive
from mac_ray.prepare.terminal import list_some

SHARDS_PER_WORKER = 4  # walked at once and not yet written: that bounds the memory


def add_parser(commands: Any) -> None:
    index = commands.add_parser("index", help="write a manifest of tar shards, which stay as they are")
    index.add_argument("places", nargs="+", metavar="TAR_OR_FOLDER", help="of shards; may be a URL")
    index.add_argument("--out", type=local_file_to_write, required=True, help="the Parquet file to write")
    index.add_argument("--name", help="of the set; default: of the folder")
    index.add_argument("--split", help="of all samples; default: train, or what `prepare convert` wrote")
    index.add_argument("--id-field", help="entry of the .json that is the id; default: the key")
    index.add_argument("--caption-field", default="caption", help="entry of the .json; without it, the .txt")
    index.add_argument("--workers", type=positive, default=usable_cores(), help="processes")
    index.set_defaults(run=run)


@dataclass
class _Found:
    """What is told at the end."""

    left_out: list[str] = field(default_factory=list)
    cut_short: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)


def run(places: Sequence[str], out: Path, name: str | None, workers: int, **options: Any) -> int:
    shards = [shard for place in places for shard in shards_in(absolute_place(place))]
    root = _common_folder(shards)
    found = _Found()
    base = base_of(root)
    rows = _rows(shards, base, workers, options, found)
    manifest = write(out, rows, name or base.rpartition("/")[2] or "shards", root)
    print(
        f"{manifest.name}: {len(manifest)} samples in {len(shards)} shards, fingerprint {manifest.fingerprint}"
    )
    for split, size in manifest.split_sizes().items():
        print(f"  {split}: {size} samples")
    for status, number in sorted(found.failed.items()):
        print(f"in no shard, because {status}: {number}")
    list_some(Console(), "left out", found.left_out, len(found.left_out))
    list_some(Console(), "cut short", found.cut_short, len(found.cut_short))
    print(f"written: {manifest.path}")
    return 1 if found.left_out or found.cut_short else 0


def shards_in(place: str) -> list[str]:
    """The tar itself, or the tars below a folder, by name. Raises ManifestError where there are none."""
    if is_url(place):
        system, path = file_system(place)
        if system.get_file_info(path).type == fs.FileType.File:
            return [place]
        listed = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        names = [info.path[len(path) :].lstrip("/") for info in listed if info.type == fs.FileType.File]
    elif Path(place).is_file():
        return [place]
    else:
        names = [
            os.path.relpath(Path(folder, name), place) for folder, found in walked(place) for name in found
        ]
    shards = sorted(name for name in names if name.endswith(".tar"))
    if not shards:
        packed = next((name for name in names if ".tar." in name or name.endswith(".tgz")), None)
        raise ManifestError(
            f"there is no .tar at {place}"
            + (f", only compressed ones such as {packed}; unpack them to plain .tar files" if packed else "")
        )
    return [joined(place, shard) for shard in shards]


def _common_folder(shards: Sequence[str]) -> str:
    """The folder below which all shards are, with the options of the URL."""
    bases = [base_of(shard) for shard in shards]
    options = [shard.removeprefix(base) for shard, base in zip(shards, bases, strict=True)]
    roots = {is_url(base) and base.split("/")[2] for base in bases}
    if len(roots) > 1 or len(set(options)) > 1:
        raise ManifestError("the shards lie in several places; write a manifest for each and train on both")
    folder = os.path.commonpath([base.rpartition("/")[0] for base in bases])
    if is_url(bases[0]):  # which commonpath takes for a path with a doubled slash
        folder = folder.replace(":/", "://", 1)
    return folder + options[0]


def _rows(
    shards: Sequence[str], base: str, workers: int, options: dict[str, Any], found: _Found
) -> Iterator[Row]:
    progress = track(
        _walked(shards, workers, options),
        description=f"walking {len(shards)} shards",
        total=len(shards),
        console=Console(stderr=True),
    )
    for place, shard in zip(shards, progress, strict=True):
        below = base_of(place).removeprefix(base).lstrip("/")
        yield from (replace(row, path=below) for row in shard.rows)
        found.left_out += shard.left_out
        found.failed.update(shard.failed)
        if shard.cut_short:
            found.cut_short.append(shard.cut_short)


def _walked(shards: Sequence[str], workers: int, options: dict[str, Any]) -> Iterable[tars.Shard]:
    """What is in each shard, in order."""
    walk = partial(tars.read, **options)
    at_once = SHARDS_PER_WORKER * workers
    # spawned, because what opens a URL does not survive a fork
    with ProcessPoolExecutor(
        min(workers, len(shards)), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for first in range(0, len(shards), at_once):
            yield from pool.map(walk, shards[first : first + at_once])
