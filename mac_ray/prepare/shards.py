"""The plan of a conversion, and one shard of it: samples in, a tar and its index out.

Which samples make which shard is decided by the manifest and the options before anything is converted, so any number of
workers on any machines, killed at any moment, make the same files. A shard is finished when its index is there: that is
written last, after every sample was read back from where the tar lies and decoded.

A tar `train-00000.tar` has, sample after sample, `<key>.000.jpg …` (or `<key>.jpg`, `<key>.mp4`), `<key>.json`,
`<key>.txt`, where the key is the sample's number in its split. The index beside it, `train-00000.parquet`, has a row
per sample as img2dataset's has, those that could not be decoded too, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from mac_ray.data import tar
from mac_ray.data.decode import DecodeError, UnreadableError
from mac_ray.data.manifest import Manifest, ManifestError, Row, Sample
from mac_ray.data.patience import patiently
from mac_ray.data.pool import midpoints
from mac_ray.data.source import Source, base_of, local_copy
from mac_ray.prepare.destination import Destination
from mac_ray.prepare.transcode import Options, parts, transcode

DESCRIPTION = "convert.json"
MANIFEST = "manifest.parquet"
FORMAT_VERSION = 1
PROBED_SAMPLES = 16  # converted to know how many make a shard
SUCCESS, UNDECODABLE = "success", "undecodable"
SHARD_KEY = b"mac_ray.shard"
INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),  # of a success: what its file promises and does not give
        ("source", pa.string()),  # for people, where a sample that could not be decoded lies
        ("kind", pa.string()),
        ("offset", pa.int64()),  # bytes of the tar that are the sample's media, as a manifest has them
        ("length", pa.int64()),
        ("captions", pa.list_(pa.string())),
        ("num_frames", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
KEEP_ALL = Options(form="jpeg", frames=None, rate=None, short_side=None, quality=0, decoder="pyav")


@dataclass(frozen=True)
class Shard:
    """Samples first … last - 1 of a split."""

    name: str
    split: str
    first: int
    last: int

    @property
    def tar(self) -> str:
        return f"{self.name}.tar"

    @property
    def index(self) -> str:
        return f"{self.name}.parquet"


@dataclass(frozen=True)
class Job:
    """All that a worker has to know."""

    manifest: str  # path or URL
    fingerprint: str  # of it: shards of another one would not fit those that are there
    root: str  # of the media
    cache: Path  # of rows of the manifest, on each node
    destination: Destination
    options: Options
    samples_per_shard: int


def samples_per_shard(manifest: Manifest, destination: Destination, options: Options, shard_mb: float) -> int:
    """Of the conversion that `destination` holds or, from now on, is to hold.

    Raises ManifestError if it holds another one or other files, or nothing of the manifest decodes; OSError.
    """
    asked = {
        "format": FORMAT_VERSION,
        "manifest": manifest.fingerprint,
        "shard_mb": shard_mb,
        **asdict(options),
    }
    present = destination.sizes()
    if DESCRIPTION in present:
        held = json.loads(destination.read(DESCRIPTION))
        different = [name for name, value in asked.items() if held.get(name) != value]
        if different:
            was, now = (
                ", ".join(f"{name} {values.get(name)}" for name in different) for values in (held, asked)
            )
            raise ManifestError(
                f"{destination.root} holds a conversion with {was}, and asked for is {now}; "
                "give another folder, or the same options to finish it"
            )
        return int(held["samples_per_shard"])
    others = [name for name in present if name.endswith((".tar", ".parquet"))]
    if others:
        raise ManifestError(
            f"{destination.root} holds {others[0]}, which is of no conversion; give an empty folder"
        )
    number = max(1, round(shard_mb * 1e6 / _mean_bytes(manifest, options)))
    described = json.dumps(asked | {"samples_per_shard": number}, indent=2)
    destination.write(DESCRIPTION, f"{described}\n".encode())
    return number


def shards_of(manifest: Manifest, samples_per_shard: int) -> list[Shard]:
    """All of them by name, so that indexing the folder gives the same set; in a split in the order of the manifest."""
    shards = [
        Shard(
            f"{quote(split, safe='')}-{number:05}",
            split,
            number * samples_per_shard,
            min(size, (number + 1) * samples_per_shard),
        )
        for split, size in manifest.split_sizes().items()
        for number in range(math.ceil(size / samples_per_shard))
    ]
    return sorted(shards, key=lambda shard: shard.tar)


def finished(shards: Sequence[Shard], destination: Destination) -> list[Shard]:
    """Those that need no more work."""
    present = destination.sizes()
    return [shard for shard in shards if shard.index in present and shard.tar in present]


def convert(job: Job, shard: Shard) -> None:
    """Write a shard, read it back, and say that it is finished.

    Raises OSError (StorageError where media cannot be read for minutes), and ManifestError where what was written does
    not read back, or none of its media and no others can be read: then they are not seen from here, which says nothing
    about them.
    """
    manifest, samples = _opened(job.manifest, job.root, job.cache, shard.split)
    if manifest.fingerprint != job.fingerprint:
        raise ManifestError(
            f"{job.manifest} on {os.uname().nodename} is not the manifest that the conversion began with; put that "
            "back where all nodes see it, and the same command goes on"
        )
    rows: list[dict[str, Any]] = []
    with job.destination.writing(shard.tar) as path:
        unreadable: list[str] = []
        with path.open("wb") as file:
            for number in range(shard.first, shard.last):
                rows.append(_converted(samples[number], f"{number:09}", job, manifest, file, unreadable))
            file.write(tar.END)
        if len(unreadable) == len(rows) and not _any_seen(manifest):
            raise ManifestError(
                f"no sample of shard {shard.name} can be read on {os.uname().nodename}, nor others of the set, the "
                f"first because: {unreadable[0]}; mount the media there, and the same command goes on"
            )
        with path.open("rb") as file:
            described = {
                "split": shard.split,
                "num_bytes": path.stat().st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
    for row in rows:
        if row["status"] == SUCCESS:
            _verify(row, shard, job.destination)
    table = pa.Table.from_pylist(rows, schema=INDEX)
    with job.destination.writing(shard.index) as path:
        pq.write_table(table.replace_schema_metadata({SHARD_KEY: json.dumps(described)}), path)


def _any_seen(manifest: Manifest) -> bool:
    """Whether one of some samples from all over the set is there."""
    some = midpoints(len(manifest), min(PROBED_SAMPLES, len(manifest)))
    return any(manifest[int(number)].source.size() is not None for number in some)


def _converted(
    sample: Sample, key: str, job: Job, manifest: Manifest, file: BinaryIO, unreadable: list[str]
) -> dict[str, Any]:
    """The row of the index, after writing the members of a sample. Media that cannot be read are told `unreadable`."""
    source = {
        "manifest": manifest.fingerprint,
        "path": _below(manifest.root, sample.source.place),
        "offset": sample.source.offset,
        "length": sample.source.length,
        "start": sample.start,
        "end": sample.end,
    }
    row: dict[str, Any] = {
        "key": key,
        "id": sample.id,
        "source": source["path"],
        "captions": list(sample.captions),
    }
    try:
        made = patiently(partial(transcode, sample, job.options))
    except DecodeError as error:
        if isinstance(error, UnreadableError):
            unreadable.append(str(error))
        return row | {"status": UNDECODABLE, "error_message": error.reason}
    media = [tar.append(file, f"{key}.{ending}", content) for ending, content in made.members]
    told: dict[str, Any] = {
        "id": sample.id,
        "split": sample.split,
        "captions": list(sample.captions),
        "source": source,
    }
    told |= {"num_frames": made.num_frames, "width": made.width, "height": made.height}
    tar.append(file, f"{key}.json", json.dumps(told).encode())
    tar.append(file, f"{key}.txt", sample.captions[0].encode())
    whole = made.kind == "frames"  # with their headers, so that they are a tar of their own
    return row | {
        "status": SUCCESS,
        "error_message": made.shortened,
        "kind": made.kind,
        "offset": media[0].start if whole else media[0].offset,
        "length": media[-1].end - media[0].start if whole else media[0].length,
        "num_frames": made.num_frames,
        "width": made.width,
        "height": made.height,
    }


def _verify(row: dict[str, Any], shard: Shard, destination: Destination) -> None:
    """Read a sample back as training will, and decode all of it. Raises ManifestError if it is not what was written."""
    source = Source(destination.place(shard.tar), row["offset"], row["length"])
    written = Sample(0, row["id"], source, row["kind"], shard.split, None, None, tuple(row["captions"]))
    expected = {(row["height"], row["width"])}
    try:
        found = patiently(lambda: [part.frames.shape for part in parts(written, KEEP_ALL)])
    except DecodeError as error:
        raise ManifestError(
            f"{error}; it was written a moment ago, so check the disk or the network"
        ) from error
    if sum(shape[0] for shape in found) != row["num_frames"] or {shape[1:3] for shape in found} != expected:
        raise ManifestError(
            f"sample {row['id']!r} reads back from {source} as {found}, and {row['num_frames']} frames were written"
        )


def read_index(shard: Shard, destination: Destination) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What an index says of its shard, and its rows. Raises OSError."""
    table = pq.read_table(pa.BufferReader(destination.read(shard.index)))
    return json.loads(table.schema.metadata[SHARD_KEY]), table.to_pylist()


def rows_of(shard: Shard, index: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """The samples of a shard as the new manifest has them."""
    for row in index:
        if row["status"] == SUCCESS:
            captions = tuple(row["captions"])
            part = {"offset": row["offset"], "length": row["length"]}
            yield Row(row["id"], shard.tar, row["kind"], shard.split, captions, **part)


def _mean_bytes(manifest: Manifest, options: Options) -> float:
    """What a sample takes in a shard, by some of them. Raises ManifestError if none decodes."""
    sizes, reason = [], ""
    for index in midpoints(len(manifest), min(PROBED_SAMPLES, len(manifest))):
        sample = manifest[int(index)]
        try:
            made = patiently(partial(transcode, sample, options))
        except DecodeError as error:
            reason = str(error)
            continue
        texts = 4 * tar.BLOCK  # the .json and the .txt
        sizes.append(sum(tar.BLOCK + tar.padded(len(content)) for _, content in made.members) + texts)
    if not sizes:
        raise ManifestError(
            f"none of {PROBED_SAMPLES} samples from all over {manifest.path} decodes, the last because: {reason}; "
            "`python -m mac_ray.prepare check` says what is there"
        )
    return sum(sizes) / len(sizes)


def _below(root: str, place: str) -> str:
    """A path as it is written in the manifest, so that shards do not change when the media move."""
    return base_of(place).removeprefix(f"{base_of(root).rstrip('/')}/")


@lru_cache(maxsize=2)
def _opened(place: str, root: str, cache: Path, split: str) -> tuple[Manifest, Manifest]:
    """All samples and those of a split, once per worker and not once per shard."""
    manifest = opened(place, root, cache)
    return manifest, manifest.split(split)


def opened(place: str, root: str | Path | None, cache: Path) -> Manifest:
    """The manifest at a path or URL, fetched to this machine if need be."""
    return Manifest.open(local_copy(place, cache / "fetched"), root, cache)
