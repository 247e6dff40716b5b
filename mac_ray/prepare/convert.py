"""`prepare convert`: any manifest to shards that train fast from disk or an object store, as a Ray Data job.

    python -m mac_ray.prepare convert set.parquet --out shards --frames 8 --short-side 256
    python -m mac_ray.prepare convert set.parquet --out "s3://bucket/shards?endpoint_override=host:9000&scheme=http"

The same command goes on after it was stopped or killed, and does nothing when all is done. On a cluster the manifest,
its media and a folder given as --out have to be seen by all nodes. What cannot be decoded is left out, named, and
exits with 1.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from mac_ray.config import Storage
from mac_ray.data.manifest import Manifest, ManifestError, Row
from mac_ray.data.manifest_writer import write
from mac_ray.errors import StorageError
from mac_ray.prepare.arguments import decoder, existing_folder, place, positive
from mac_ray.prepare.destination import Destination
from mac_ray.prepare.shards import (
    MANIFEST,
    SUCCESS,
    Job,
    Shard,
    convert,
    finished,
    opened,
    read_index,
    rows_of,
    samples_per_shard,
    shards_of,
)
from mac_ray.prepare.terminal import list_some
from mac_ray.prepare.transcode import Options

FRAMES = 8  # of a clip, where neither frames nor a rate are asked for
QUALITY = 90
SHARD_MB = 64.0
INDICES_AT_ONCE = 32


def add_parser(commands: Any) -> None:
    shards = commands.add_parser("convert", help="write the samples of a manifest to tar shards")
    shards.add_argument("manifest", type=place, help="file or URL")
    shards.add_argument("--out", required=True, help="folder or URL of the shards and their manifest.parquet")
    shards.add_argument("--root", type=existing_folder, help="folder of the media, if it moved")
    how_many = shards.add_mutually_exclusive_group()
    how_many.add_argument(
        "--frames", type=positive, help=f"evenly spaced, of each sample; default: {FRAMES}, of --clips all"
    )
    how_many.add_argument("--rate", type=_above_zero, help="frames per second instead")
    shards.add_argument("--short-side", type=positive, help="pixels; nothing is made larger than it is")
    shards.add_argument("--quality", type=_percent, help=f"of JPEG, 1 to 100; default: {QUALITY}")
    shards.add_argument(
        "--clips",
        action="store_const",
        const="h264",
        default="jpeg",
        dest="form",
        help="H.264 instead of JPEG",
    )
    shards.add_argument("--shard-size", type=_above_zero, default=SHARD_MB, metavar="MB", dest="shard_mb")
    shards.add_argument(
        "--workers", type=positive, help="shards at once; default: one per CPU of the cluster"
    )
    shards.add_argument(
        "--cache",
        type=Path,
        default=Path(Storage().cache),
        help="folder on each node for a copy of the manifest in which rows are found at once; default: %(default)s",
    )
    shards.add_argument("--decoder", type=decoder, default="pyav", help="pyav, decord or torchcodec")
    shards.set_defaults(run=run)


@dataclass
class _Done:
    """What is told at the end."""

    num_samples: int = 0
    num_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    shortened: list[str] = field(default_factory=list)


def run(
    manifest: str,
    out: str,
    root: Path | None,
    frames: int | None,
    rate: float | None,
    short_side: int | None,
    quality: int | None,
    form: Any,
    shard_mb: float,
    workers: int | None,
    cache: Path,
    decoder: str,
) -> int:
    if form == "h264" and quality is not None:
        raise ManifestError(f"--quality {quality} is of JPEG, and --clips writes none; leave one of them out")
    if frames is None and rate is None and form == "jpeg":
        frames = FRAMES
    options = Options(form, frames, rate, short_side, quality or QUALITY, decoder)
    cache = cache.expanduser()
    source = opened(manifest, root, cache)
    destination = Destination.of(out)
    job = Job(
        manifest,
        source.fingerprint,
        source.root,
        cache,
        destination,
        options,
        samples_per_shard(source, destination, options, shard_mb),
    )
    shards = shards_of(source, job.samples_per_shard)
    ready = finished(shards, destination)
    left = sorted(set(shards) - set(ready), key=lambda shard: shard.tar)
    if left:
        # of an earlier conversion, whose samples may have lain elsewhere in shards that are made anew
        destination.remove(MANIFEST)
        destination.remove_unfinished()
        _convert_all(job, left, ready, workers)
    else:
        print(f"all {len(shards)} shards are there already")
    return _finish(source, destination, shards)


def _convert_all(job: Job, left: Sequence[Shard], ready: Sequence[Shard], workers: int | None) -> None:
    """Raises ManifestError for what stops it: a full disk, a store that cannot be reached, a worker that dies."""
    import ray  # only here, so that the other commands need no Ray
    import ray.data

    from mac_ray.ray_start import start_ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not ray.is_initialized():
        start_ray(log_to_driver=False, logging_level="warning")
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = ray.data.from_items([asdict(shard) for shard in left], override_num_blocks=len(left))
    results = shards.map(partial(_task, job), num_cpus=1, compute=ray.data.TaskPoolStrategy(workers))
    total = sum(shard.last - shard.first for shard in (*left, *ready))
    before = sum(shard.last - shard.first for shard in ready)
    started, done = time.monotonic(), 0
    try:
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task(f"converting {total} samples", total=total, completed=before)
            for result in results.iter_rows():
                if result["error"]:
                    raise ManifestError(result["error"])
                done += result["num_samples"]
                progress.update(bar, completed=before + done)
    except ray.exceptions.RayError as error:
        last = str(error).strip().rpartition("\n")[2]
        raise ManifestError(
            f"a worker of the conversion died ({last}); the same command goes on where it stopped, and "
            "`python -m mac_ray.prepare check` finds files that take a decoder down"
        ) from error
    seconds = time.monotonic() - started
    print(f"converted: {done} samples in {seconds:.1f} s, {done / seconds:.1f} samples/s")


def _task(job: Job, values: dict[str, Any]) -> dict[str, Any]:
    """In a worker. What is wrong is returned, so that Ray does not try it again."""
    shard = Shard(**values)
    error = ""
    try:
        convert(job, shard)
    except (ManifestError, StorageError) as problem:
        error = str(problem)
    except OSError as problem:
        error = (
            f"shard {shard.tar} cannot be written to {job.destination.root} ({problem.strerror or problem}); "
            "the same command goes on where it stopped"
        )
    return {"num_samples": shard.last - shard.first, "error": error}


def _finish(source: Manifest, destination: Destination, shards: Sequence[Shard]) -> int:
    """Write the manifest of the shards, if it is not there, and tell what there is."""
    done = _Done()
    rows = _rows(destination, shards, done)
    if MANIFEST not in destination.sizes():
        with destination.writing(MANIFEST) as path:
            fingerprint = write(path, rows, source.name, destination.root).fingerprint
        destination.remove_unfinished()
        print(f"fingerprint: {fingerprint}")
    else:
        for _ in rows:
            pass
    print(
        f"{done.num_samples} samples in {len(shards)} shards, {done.num_bytes / 1e6:.1f} MB, "
        f"{done.num_bytes / max(1, done.num_samples) / 1e3:.1f} kB a sample"
    )
    list_some(Console(), "cut short, used as far as they go", done.shortened, len(done.shortened))
    list_some(Console(), "undecodable, left out", done.failures, len(done.failures))
    if done.failures:
        print("to try these again, delete the .parquet of their shards and give the same command")
    print(f"manifest: {destination.place(MANIFEST)}")
    return 1 if done.failures else 0


def _rows(destination: Destination, shards: Sequence[Shard], done: _Done) -> Iterator[Row]:
    """The rows of the new manifest by the indices of the shards."""
    read = partial(read_index, destination=destination)
    with ThreadPoolExecutor(INDICES_AT_ONCE) as threads:
        for first in range(0, len(shards), INDICES_AT_ONCE):
            some = shards[first : first + INDICES_AT_ONCE]
            for shard, (described, index) in zip(some, threads.map(read, some), strict=True):
                done.num_bytes += described["num_bytes"]
                for row in index:
                    told = f"{row['id']} of {shard.name} ({row['source']}): {row['error_message']}"
                    if row["status"] != SUCCESS:
                        done.failures.append(told)
                        continue
                    done.num_samples += 1
                    if row["error_message"]:
                        done.shortened.append(told)
                yield from rows_of(shard, index)


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def _percent(text: str) -> int:
    if positive(text) > 100:
        raise argparse.ArgumentTypeError(f"{text} is above 100")
    return int(text)
