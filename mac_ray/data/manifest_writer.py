"""Manifests written: rows in, one Parquet file out, whole or not at all.

The fingerprint is taken of the rows as they are written, so a set of any size is never in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mac_ray.data.columns import Columns
from mac_ray.data.manifest import FORMAT_VERSION, KINDS, METADATA_KEY, SCHEMA, Manifest, ManifestError, Row
from mac_ray.data.patience import asked_patiently
from mac_ray.data.source import Source, absolute_place, is_url, joined, size_of
from mac_ray.data.unique import Repeats
from mac_ray.files import replaced

log = logging.getLogger(__name__)

ROWS_PER_GROUP = 65_536
LOOK_UPS_AT_ONCE = 16  # they wait for a file system or a server
ROWS_PER_LOOK_UP = 64


def write(
    path: str | Path,
    samples: Iterable[Row],
    name: str,
    root: str | Path,
    missing: list[Source] | None = None,
) -> Manifest:
    """Write a manifest atomically and open it.

    Captions are stripped and their inner whitespace, newlines included, becomes one blank; captions that are
    empty then are dropped and their number is logged. Media files are only looked up for their size; with `missing`,
    samples without them are left out and named there.

    Raises ManifestError for a repeated id within a split, a sample without captions, an unknown kind, an
    empty window of time, text that is not Unicode, or no samples at all; the file at `path` stays as it was.
    """
    path = Path(path).expanduser().absolute()
    root = absolute_place(str(root))
    digest = hashlib.sha256()
    num_dropped, num_rows = 0, 0
    ids = Repeats()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            batch: list[dict[str, Any]] = []
            for row, source, size in _looked_up(samples, root):
                if size is None and missing is not None:
                    missing.append(source)
                    continue
                content = _content(row, name, root, size)
                ids.add((row.split, row.id))
                num_rows += 1
                num_dropped += len(row.captions) - len(content["captions"])
                digest.update(json.dumps(_identifying(content)).encode() + b"\n")
                batch.append(content)
                if len(batch) == ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
                    batch = []
            if missing and not num_rows:
                raise ManifestError(
                    f"none of the {len(missing)} samples has its media, for instance {missing[0]}; check where they are"
                )
            if not num_rows:
                raise ManifestError(
                    f"{name}: there are no samples to write to {path}; check the annotation files"
                )
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
            description = {
                "version": FORMAT_VERSION,
                "name": name,
                "root": root,
                "fingerprint": digest.hexdigest(),
            }
            writer.add_key_value_metadata({METADATA_KEY: json.dumps(description).encode()})
        if repeated := ids.first(partial(_splits_and_ids, temporary)):
            split, id = repeated
            raise ManifestError(f"{name}: id {id!r} occurs twice in split {split!r}; make ids unique")
    if num_dropped:
        log.warning("%s: %d empty captions dropped", name, num_dropped)
    return Manifest.open(path)


def write_durations(manifest: Manifest, seconds: Sequence[float | None]) -> None:
    """Store one measured duration per row (None: not known) in the file of a manifest.

    The fingerprint stays: what was measured changes nothing of what the set is. Raises ManifestError where the file was
    written anew with other rows since it was opened, and OSError.
    """
    durations = pa.array(seconds, type=pa.float64())
    path, columns = manifest.path, Columns(manifest.path, SCHEMA, None)
    stored = pq.read_metadata(path).metadata[METADATA_KEY]
    if json.loads(stored)["fingerprint"] != manifest.fingerprint:
        raise ManifestError(
            f"{path} was written anew while its durations were measured, which are not stored; give the same command"
        )
    first, place = 0, SCHEMA.get_field_index("duration")
    with replaced(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for batch in columns.batches(SCHEMA.names, ROWS_PER_GROUP):
            own = durations.slice(first, len(batch))
            writer.write_batch(batch.set_column(place, SCHEMA.field("duration"), own))
            first += len(batch)
        writer.add_key_value_metadata({METADATA_KEY: stored})


def _splits_and_ids(path: Path) -> Iterator[tuple[str, str]]:
    for batch in Columns(path, SCHEMA, None).batches(["split", "id"]):
        yield from zip(batch["split"].to_pylist(), batch["id"].to_pylist(), strict=True)


def _identifying(content: dict[str, Any]) -> list[Any]:
    """What of a row counts for the fingerprint. Sets of whole files keep the one that they had in format 1."""
    part = [content["offset"], content["length"]]
    rest = [value for name, value in content.items() if name not in ("offset", "length")]
    return rest if part == [None, None] else rest + part


def _looked_up(samples: Iterable[Row], root: str) -> Iterator[tuple[Row, Source, int | None]]:
    """Rows in order, each with where its media are and how many bytes; None: they are not there.

    Several at once are asked for, some rows ahead: of files behind URLs each answer takes tens of milliseconds.
    """

    @lru_cache  # of a shard asked for once, not once for each of its samples
    def size(place: str) -> int | None:
        return asked_patiently(Source(place), partial(size_of, place))

    def look_up(rows: list[Row]) -> list[tuple[Row, Source, int | None]]:
        sources = [
            Source(joined(root, from_root(str(row.path), root)), row.offset, row.length) for row in rows
        ]
        return [(row, source, source.size(size)) for row, source in zip(rows, sources, strict=True)]

    left = iter(samples)
    waiting: deque[Future[list[tuple[Row, Source, int | None]]]] = deque()
    with ThreadPoolExecutor(LOOK_UPS_AT_ONCE) as threads:
        while rows := list(islice(left, ROWS_PER_LOOK_UP)):
            waiting.append(threads.submit(look_up, rows))
            if len(waiting) == 2 * LOOK_UPS_AT_ONCE:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _content(row: Row, name: str, root: str, size: int | None) -> dict[str, Any]:
    """The columns of a row, but for what is measured later; raises what `write` promises."""
    place = f"{name}: sample {row.id!r} of split {row.split!r}"
    if not row.id or not row.split:
        raise ManifestError(f"{place}: id and split must not be empty ({row.path})")
    if row.kind not in KINDS:
        raise ManifestError(f"{place} has kind {row.kind!r}; kinds are {' and '.join(KINDS)}")
    start, end = (None if second is None else float(second) for second in (row.start, row.end))
    if row.kind != "video" and (start, end) != (None, None):
        raise ManifestError(
            f"{place} is of kind {row.kind} with a window of {start} to {end} s; leave start and end empty"
        )
    one_alone = (row.offset is None) != (row.length is None)
    if one_alone or (row.offset is not None and row.length is not None and not row.offset >= 0 < row.length):
        raise ManifestError(
            f"{place} is {row.length} bytes from {row.offset}; "
            "give an offset from 0 on and a positive length, or neither"
        )
    if not 0 <= (start or 0.0) < (math.inf if end is None else end):
        raise ManifestError(f"{place} covers {start} to {end} s; it needs 0 <= start < end")
    captions = [caption for caption in (" ".join(text.split()) for text in row.captions) if caption]
    if not captions:
        raise ManifestError(f"{place} has no caption; give it one or leave it out of the annotation files")
    try:
        "".join((row.id, str(row.path), row.split, *captions)).encode()
    except UnicodeEncodeError as error:
        raise ManifestError(f"{place} holds text that is not valid Unicode: {error.object!r}") from error
    return {
        "id": row.id,
        "path": from_root(str(row.path), root),
        "offset": row.offset,
        "length": row.length,
        "kind": row.kind,
        "split": row.split,
        "start": start,
        "end": end,
        "captions": captions,
        "num_bytes": -1 if size is None else size,
    }


def from_root(path: str, root: str) -> str:
    """A path as the manifest has it: relative where it is below the root."""
    if is_url(path) or is_url(root):
        return path.removeprefix(f"{root.partition('?')[0].rstrip('/')}/")
    given = Path(path).expanduser() if path.startswith("~/") else Path(path)  # a name may begin with ~
    return (given.relative_to(root) if given.is_relative_to(root) else given).as_posix()
