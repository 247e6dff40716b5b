"""`prepare manifest`: a dataset's annotation files to a manifest.

It only looks whether the media are there, and writes in any case: annotations may arrive before the media.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from mac_ray.data.manifest_writer import write
from mac_ray.data.readers import READERS
from mac_ray.data.source import Source
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
    dropped: list[Source] = []
    rows = READERS[reader](**files)
    manifest = write(out, rows, name or reader, root, dropped if drop_missing else None)
    if dropped:
        list_some(Console(), "missing, left out", map(str, dropped), len(dropped))
    report = build_report(manifest, take_inventory(manifest), AS_READ)
    show(report)
    print(f"written: {manifest.path}")
    return 0 if report.is_ready else 1
