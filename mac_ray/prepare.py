"""Turn annotation files and media into a checked manifest.

    python -m mac_ray.prepare manifest folder DIR --out mine.parquet
    python -m mac_ray.prepare manifest flickr8k --annotations DIR --images DIR --out flickr8k.parquet
    python -m mac_ray.prepare manifest msrvtt --annotations DIR --videos DIR --variant 9k --out msrvtt.parquet
    python -m mac_ray.prepare check msrvtt.parquet --workers 8 --json report.json

`manifest` only looks whether the files are there, and writes in any case: annotations may arrive before the
media. `check` decodes the first, middle and last frame of every sample and stores the durations.

Exit code 0: all is well; 1: something is missing, changed or does not decode; 2: the input cannot be used.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console
from rich.progress import track

from mac_ray.data.decode import DECODERS, DecodeError, Probe, probe
from mac_ray.data.manifest import Manifest, ManifestError, Row, write, write_durations
from mac_ray.data.readers import READERS
from mac_ray.data.readers.msrvtt import VARIANTS

LISTED = 20  # paths of a kind on the screen; the JSON report has them all
SAMPLES_PER_TASK = 32


@dataclass
class Report:
    """What was found about the media of a manifest; keys are positions in it."""

    manifest: Manifest
    missing: list[int] = field(default_factory=list)
    changed: dict[int, str] = field(default_factory=dict)  # size differs from when the manifest was written
    undecodable: dict[int, str] = field(default_factory=dict)
    durations: dict[int, float] = field(default_factory=dict)  # seconds, of the whole file

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.changed or self.undecodable)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # how many samples a reader leaves out is logged by the reader
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = vars(_parser().parse_args(arguments))
    try:
        if options.pop("command") == "check":
            return _check(**options)
        return _manifest(**options)
    except (ManifestError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _manifest(reader: str, out: Path, name: str | None, drop_missing: bool, **files: Any) -> int:
    root = next(files[key] for key in ("folder", "images", "videos") if key in files)
    rows: Iterable[Row] = READERS[reader](**files)
    dropped: list[Path] = []
    if drop_missing:
        rows = _present(rows, root, dropped)
    manifest = write(out, rows, name or reader, root)
    if dropped:
        _list_some("missing, left out", (str(path) for path in dropped), len(dropped))
    report = examine(manifest)
    _show(report)
    print(f"written: {manifest.path}")
    return 0 if report.is_clean else 1


def _check(manifest: Path, root: Path | None, workers: int, decoder: str, report_path: Path | None) -> int:
    report = examine(Manifest.open(manifest, root))
    decode_all(report, workers, decoder)
    _show(report)
    if report_path is not None:
        report_path.write_text(json.dumps(_summary(report), indent=2) + "\n")
    try:
        write_durations(
            report.manifest.path, [report.durations.get(index) for index in range(len(report.manifest))]
        )
    except PermissionError:
        print(f"durations are not stored, because {manifest} cannot be written")
    return 0 if report.is_clean else 1


def examine(manifest: Manifest) -> Report:
    """The cheap part of a check: which files are there, and are they as large as they were?"""
    report = Report(manifest)
    sizes = manifest.table["num_bytes"].to_numpy()
    for sample in manifest:
        if not sample.path.is_file():
            report.missing.append(sample.index)
            continue
        size, written = sample.path.stat().st_size, sizes[sample.index]
        if written < 0:
            report.changed[sample.index] = "was missing when the manifest was written"
        elif size != written:
            report.changed[sample.index] = f"has {size} bytes; the manifest was written with {written}"
    return report


def decode_all(report: Report, workers: int, decoder: str) -> None:
    """Decode three frames of every sample that is there, in processes, and add the outcome to the report.

    Raises ManifestError if a decoder takes its whole process down.
    """
    manifest = report.manifest
    missing = set(report.missing)
    present = [index for index in range(len(manifest)) if index not in missing]
    tasks = [present[first : first + SAMPLES_PER_TASK] for first in range(0, len(present), SAMPLES_PER_TASK)]
    probes = partial(_probes, manifest.path, manifest.root, decoder)
    # spawned, because decord hangs in children that are forked after a reader was opened
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        progress = track(
            zip(tasks, pool.map(probes, tasks), strict=True),
            description=f"decoding {len(present)} samples",
            total=len(tasks),
            console=Console(stderr=True),
        )
        try:
            for indices, results in progress:
                for index, result in zip(indices, results, strict=True):
                    if isinstance(result, Probe):
                        report.durations[index] = result.duration_s
                    else:
                        report.undecodable[index] = result
        except BrokenProcessPool as error:
            raise ManifestError(
                f"{manifest.path}: a file took its decoding process down with decoder {decoder!r}; "
                "check again with another --decoder, or leave it out"
            ) from error


def _probes(path: Path, root: Path, decoder: str, indices: Sequence[int]) -> list[Probe | str]:
    """In a worker: what each sample decodes to, or why it does not."""
    manifest = _opened(path, root)
    results: list[Probe | str] = []
    for sample in (manifest[index] for index in indices):
        try:
            results.append(probe(sample.path, sample.kind, decoder, sample.start, sample.end))
        except DecodeError as error:
            results.append(error.reason)
    return results


_opened = cache(Manifest.open)  # once per worker, not once per task


def _present(rows: Iterable[Row], root: Path, dropped: list[Path]) -> Iterator[Row]:
    for row in rows:
        if (root / row.path).is_file():
            yield row
        else:
            dropped.append(root / row.path)


# ---------------------------------------------------------------- what is shown


def _summary(report: Report) -> dict[str, Any]:
    manifest = report.manifest
    splits = {}
    for name, size in manifest.split_sizes().items():
        counts = pc.list_value_length(manifest.split(name).table["captions"])
        splits[name] = {
            "samples": size,
            "captions": {
                "min": pc.min(counts).as_py(),
                "mean": pc.mean(counts).as_py(),
                "max": pc.max(counts).as_py(),
            },
        }
    paths = manifest.table["path"]

    def located(reasons: dict[int, str]) -> list[dict[str, str]]:
        return [
            {"path": str(manifest.root / paths[index].as_py()), "reason": reason}
            for index, reason in sorted(reasons.items())
        ]

    return {
        "manifest": str(manifest.path),
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "splits": splits,
        "hours": sum(report.durations.values()) / 3600,
        "missing": [str(manifest.root / paths[index].as_py()) for index in report.missing],
        "changed": located(report.changed),
        "undecodable": located(report.undecodable),
    }


def _show(report: Report) -> None:
    summary = _summary(report)
    print(f"{summary['name']}: {len(report.manifest)} samples, fingerprint {summary['fingerprint']}")
    for split, facts in summary["splits"].items():
        captions = facts["captions"]
        print(
            f"  {split}: {facts['samples']} samples with {captions['min']} to {captions['max']} captions, "
            f"{captions['mean']:.1f} in the mean"
        )
    if report.durations:
        print(f"  decoded: {len(report.durations)} samples, {summary['hours']:.2f} hours of files")
    _list_some("missing", summary["missing"], len(report.missing))
    for problem in ("changed", "undecodable"):
        entries = summary[problem]
        _list_some(problem, (f"{entry['path']}: {entry['reason']}" for entry in entries), len(entries))


def _list_some(title: str, entries: Iterable[str], count: int) -> None:
    if not count:
        return
    print(f"{title}: {count}")
    for _, entry in zip(range(LISTED), entries, strict=False):
        print(f"  {entry}")
    if count > LISTED:
        print(f"  and {count - LISTED} more")


# ---------------------------------------------------------------- the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.prepare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    manifest = commands.add_parser("manifest", help="write a manifest from annotation files")
    readers = manifest.add_subparsers(dest="reader", required=True)
    folder = readers.add_parser("folder", help="a folder with captions.csv or captions.jsonl")
    folder.add_argument("folder", type=_folder)
    folder.add_argument("--val", type=float, default=0.05, help="share, where no splits are given")
    folder.add_argument("--test", type=float, default=0.05, help="share, where no splits are given")
    flickr8k = readers.add_parser("flickr8k")
    flickr8k.add_argument("--annotations", type=_folder, required=True)
    flickr8k.add_argument("--images", type=_folder, required=True)
    msrvtt = readers.add_parser("msrvtt")
    msrvtt.add_argument("--annotations", type=_folder, required=True)
    msrvtt.add_argument("--videos", type=_folder, required=True)
    msrvtt.add_argument("--variant", choices=VARIANTS, required=True)
    for reader in (folder, flickr8k, msrvtt):
        reader.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
        reader.add_argument("--name", help="of the set; default: of the reader")
        reader.add_argument("--drop-missing", action="store_true", help="leave out samples without media")

    check = commands.add_parser("check", help="decode frames of every sample of a manifest")
    check.add_argument("manifest", type=Path)
    check.add_argument("--root", type=_folder, help="folder of the media, if it moved")
    check.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, help="decoding processes")
    check.add_argument("--decoder", choices=DECODERS, default="pyav")
    check.add_argument("--json", type=Path, dest="report_path", help="write the whole report here")
    return parser


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
