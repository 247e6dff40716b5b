"""`prepare manifest`: a dataset's annotation files to a manifest.

It only looks whether the media are there, and writes in any case: annotations may arrive before the media.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.manifest_writer import from_root, write
from mac_ray.data.readers import READERS
from mac_ray.data.source import Source, joined
from mac_ray.prepare.arguments import add_reader, local_file_to_write, media_root
from mac_ray.prepare.expected import Expected
from mac_ray.prepare.inventory import take_inventory
from mac_ray.prepare.report import build_report
from mac_ray.prepare.terminal import list_some, show

AS_READ = Expected(
    {}, "the annotation files"
)  # a reader says itself how that differs from what was published


def add_parser(commands: Any) -> None:
    manifest = commands.add_parser("manifest", help="write a manifest from annotation files")
    readers = manifest.add_subparsers(dest="reader", required=True)
    for name, read in READERS.items():
        reader = add_reader(readers, name, read)
        reader.add_argument(
            "--out", type=local_file_to_write, required=True, help="the Parquet file to write"
        )
        reader.add_argument("--name", help="of the set; default: of the reader")
        reader.add_argument("--drop-missing", action="store_true", help="leave out samples without media")
    manifest.set_defaults(run=run)


def run(reader: str, out: Path, name: str | None, drop_missing: bool, **files: Any) -> int:
    root = media_root(READERS[reader], files)
    rows: Iterable[Row] = READERS[reader](**files)
    dropped: list[Source] = []
    if drop_missing:
        rows = _present(rows, root, dropped)
    manifest = write(out, rows, name or reader, root)
    if dropped:
        list_some(Console(), "missing, left out", map(str, dropped), len(dropped))
    report = build_report(manifest, take_inventory(manifest), AS_READ)
    show(report)
    print(f"written: {manifest.path}")
    return 0 if report.is_ready else 1


def _present(rows: Iterable[Row], root: Path, dropped: list[Source]) -> Iterator[Row]:
    found = 0
    for row in rows:
        source = Source(joined(str(root), from_root(str(row.path), str(root))), row.offset, row.length)
        if source.size() is None:
            dropped.append(source)
        else:
            found += 1
            yield row
    if dropped and not found:
        raise ManifestError(
            f"none of the {len(dropped)} samples has its media, for instance {dropped[0]}; check where they are"
        )
