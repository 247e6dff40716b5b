"""`prepare check`: the first, middle and last frame of every sample, decoded; durations are stored."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from mac_ray.data.decode import DECODERS, DecodeError, Probe, probe
from mac_ray.data.manifest import Manifest, ManifestError, write_durations
from mac_ray.prepare.arguments import existing_folder, positive
from mac_ray.prepare.report import Report, show, summary_of

SAMPLES_PER_TASK = 32


def add_parser(commands: Any) -> None:
    check = commands.add_parser("check", help="decode frames of every sample of a manifest")
    check.add_argument("manifest", type=Path)
    check.add_argument("--root", type=existing_folder, help="folder of the media, if it moved")
    check.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="decoding processes")
    check.add_argument("--decoder", choices=DECODERS, default="pyav")
    check.add_argument("--json", type=Path, dest="report_path", help="write the whole report here")
    check.set_defaults(run=run)


def run(manifest: Path, root: Path | None, workers: int, decoder: str, report_path: Path | None) -> int:
    report = examine(Manifest.open(manifest, root))
    decode_all(report, workers, decoder)
    show(report)
    if report_path is not None:
        report_path.write_text(json.dumps(summary_of(report), indent=2) + "\n")
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
        size, written = sample.source.size(), sizes[sample.index]
        if size is None:
            report.missing.append(sample.index)
        elif written < 0:
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


def _probes(path: Path, root: str, decoder: str, indices: Sequence[int]) -> list[Probe | str]:
    """In a worker: what each sample decodes to, or why it does not."""
    manifest = _opened(path, root)
    results: list[Probe | str] = []
    for sample in (manifest[index] for index in indices):
        try:
            results.append(probe(sample.source, sample.kind, decoder, sample.start, sample.end))
        except DecodeError as error:
            results.append(error.reason)
    return results


_opened = cache(Manifest.open)  # once per worker, not once per task
