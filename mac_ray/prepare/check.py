"""`prepare check`: is a set ready? Every sample is read, hashed and decoded in part; durations are stored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mac_ray.config import Storage
from mac_ray.data.manifest import Manifest, ManifestError
from mac_ray.data.manifest_writer import write_durations
from mac_ray.data.source import is_url, local_copy
from mac_ray.files import write
from mac_ray.prepare.arguments import (
    decoder,
    existing_folder,
    file_to_write,
    place,
    positive,
    positive_seconds,
    size_of_split,
)
from mac_ray.prepare.expected import expected_of
from mac_ray.prepare.finding import Asked
from mac_ray.prepare.fleet import Look, in_processes, on_ray
from mac_ray.prepare.inventory import Inventory, asked_of, take_inventory
from mac_ray.prepare.page import page
from mac_ray.prepare.report import Effort, build_report
from mac_ray.prepare.results import Results, default_place, place_of_url
from mac_ray.prepare.terminal import show
from mac_ray.prepare.verdict import as_json

SAMPLES_PER_BATCH = 8  # few, because what a killed check has under way is looked at again
FETCHED = Path(Storage().cache).expanduser() / "fetched"  # manifests behind URLs
NOT_ASKED = 0  # in place of a key


def add_parser(commands: Any) -> None:
    check = commands.add_parser(
        "check", help="report whether a set is ready: every sample is read and decoded in part"
    )
    check.add_argument("manifest", type=place, help="file or URL")
    check.add_argument("--root", type=existing_folder, help="folder of the media, if it moved")
    check.add_argument(
        "--expect",
        type=size_of_split,
        nargs="+",
        default=(),
        metavar="SPLIT=SAMPLES",
        help="how many samples there should be; default: as published, or what the manifest has",
    )
    check.add_argument("--json", type=file_to_write, dest="json_path", help="write the whole report here")
    check.add_argument(
        "--html", type=file_to_write, dest="html_path", help="write the report as one page here"
    )
    check.add_argument("--decoder", type=decoder, default="pyav", help="pyav, decord or torchcodec")
    check.add_argument("--timeout", type=positive_seconds, default=60.0, help="seconds for a sample (60)")
    check.add_argument("--workers", type=positive, help="samples looked at at once; default: one per core")
    check.add_argument(
        "--without-ray", action="store_true", help="use processes of this machine, and no cluster"
    )
    check.add_argument(
        "--results",
        type=Path,
        help="where findings are kept, so that a check goes on where one was killed, and looks only at what has\n"
        "changed; default: beside the manifest, or in ~/.cache/mac_ray/checked for a URL and where nothing can be\n"
        "written. Without this file everything is looked at again",
    )
    check.set_defaults(run=run)


def run(
    manifest: str,
    root: Path | None,
    expect: Sequence[tuple[str, int]],
    json_path: Path | None,
    html_path: Path | None,
    decoder: str,
    timeout: float,
    workers: int | None,
    without_ray: bool,
    results: Path | None,
) -> int:
    started = time.monotonic()
    opened = Manifest.open(local_copy(manifest, FETCHED), root)
    fleet = (in_processes if without_ray else on_ray)(workers, decoder, timeout)
    inventory = take_inventory(opened)
    with _kept(results or (place_of_url(manifest) if is_url(manifest) else default_place(opened))) as kept:
        keys = _keys(opened, inventory, decoder)
        known = _is_known(kept.of(keys), timeout)
        todo = _first_of_each(keys) & ~known & (keys != NOT_ASKED)
        seconds_looking = look_at(opened, inventory, todo, kept, fleet)
        findings = kept.of(keys)
    effort = Effort(
        decoder=decoder,
        where="in processes" if without_ray else "on Ray",
        looked_at=int(todo.sum()),
        known=int(known.sum()),
        seconds=time.monotonic() - started,
        seconds_looking=seconds_looking,
    )
    report = build_report(opened, inventory, expected_of(opened, dict(expect)), findings, effort)
    show(report)
    if json_path is not None:
        write(json_path, json.dumps(as_json(report), indent=2) + "\n")
    if html_path is not None:
        write(html_path, page(report))
    if is_url(manifest):
        print("durations are not stored in a manifest behind a URL")
    else:
        _store_durations(opened, findings)
    return 0 if report.is_ready else 1


def look_at(
    manifest: Manifest,
    inventory: Inventory,
    todo: NDArray[np.bool_],
    results: Results,
    fleet: AbstractContextManager[Look],
) -> float:
    """Keep findings of the samples to do, as they come; returns how many seconds that took."""
    count = int(todo.sum())
    if not count:
        return 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar, fleet as look:
        started = time.monotonic()
        task = bar.add_task("looking at samples", total=count)
        for findings in look(_batches(compress(asked_of(manifest, inventory), todo))):
            results.append(findings)
            bar.advance(task, len(findings))
        return time.monotonic() - started


def _keys(manifest: Manifest, inventory: Inventory, decoder: str) -> NDArray[np.int64]:
    asked = asked_of(manifest, inventory)
    keys = (NOT_ASKED if one is None else one.key(decoder) for one in asked)
    return np.fromiter(keys, np.int64, len(manifest))


def _kept(path: Path) -> Results:
    try:
        return Results(path)
    except OSError as error:
        raise ManifestError(
            f"findings cannot be kept in {path} ({error.strerror}); give a place that can be written by --results"
        ) from error


def _store_durations(manifest: Manifest, findings: pa.Table) -> None:
    """Of what is sound, in seconds; the manifest is not touched where it has them already."""
    seconds = pc.if_else(pc.is_null(findings["reason"]), findings["duration"], None)
    if seconds.equals(manifest.table["duration"]):
        return
    try:
        write_durations(manifest, seconds.to_pylist())
    except OSError as error:
        print(f"durations are not stored, because {manifest.path} cannot be written ({error.strerror})")


def _is_known(findings: pa.Table, timeout_s: float) -> NDArray[np.bool_]:
    """What a longer time-out may change, what ended a process, perhaps for want of memory, and what could not be read
    is tried again.
    """
    given_up = pc.fill_null(pc.less(findings["stopped_after_s"], timeout_s), False)
    return np.asarray(pc.and_not(pc.is_valid(findings["key"]), given_up))


def _first_of_each(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _batches(asked: Iterator[Asked | None]) -> Iterator[list[Asked]]:
    batch: list[Asked] = []
    for one in asked:
        assert one is not None  # only what is there is to do
        batch.append(one)
        if len(batch) == SAMPLES_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
