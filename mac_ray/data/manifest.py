"""The manifest: a Parquet table of samples, and the only form in which data reaches the loader.

A manifest is known by the fingerprint of what it says, and the folder of the media is no part of that: a set
keeps its fingerprint, and with it the identity of the runs trained on it, when it moves to another machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mac_ray.data.columns import Columns, Rows, ensure_copy
from mac_ray.data.source import SizeOf, Source, absolute_place, is_url, joined, size_of
from mac_ray.data.unique import Repeats

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
KINDS = (
    "video",
    "image",
    "frames",
)  # frames: members of a tar, one picture each, that are a clip in their order
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),  # relative to the root when inside it; may be a URL
        (
            "offset",
            pa.int64(),
        ),  # bytes; null: the file is the sample, else `length` bytes of it from here are
        ("length", pa.int64()),
        ("kind", pa.string()),
        ("split", pa.string()),
        ("start", pa.float64()),  # seconds; null: from the first frame
        ("end", pa.float64()),  # seconds; null: to the last frame
        ("captions", pa.list_(pa.string())),
        ("num_bytes", pa.int64()),  # of the sample's media; -1 when they were missing
        ("duration", pa.float64()),  # seconds; null until `prepare check` has decoded the file
    ]
)
ADDED = {2: ("offset", "length")}  # columns that came with a format, and are null in files of older ones
OF_A_SAMPLE = ("id", "path", "offset", "length", "kind", "split", "start", "end", "captions")
METADATA_KEY = b"mac_ray.manifest"
ROWS_PER_GROUP = 65_536
WRITE_ONE = "write one with `python -m mac_ray.prepare manifest`"


class ManifestError(ValueError):
    """A manifest, or annotation files for one, that cannot be used: place, value, remedy in one sentence."""


@dataclass(frozen=True)
class Row:
    """What a reader says about one sample. A relative path is taken from the root of the manifest."""

    id: str
    path: Path | str  # a str may be a URL
    kind: str
    split: str
    captions: tuple[str, ...]
    start: float | None = None  # seconds
    end: float | None = None
    offset: int | None = None  # bytes of the file that are the sample; None: all
    length: int | None = None


@dataclass(frozen=True)
class Sample:
    """One video or image with its captions. `index` is its position in the manifest it was taken from."""

    index: int
    id: str
    source: Source
    kind: str
    split: str
    start: float | None  # seconds; None: the whole file
    end: float | None
    captions: tuple[str, ...]


class Manifest:
    """Samples in file order; a Sample exists only once it is asked for.

    Pickled, a manifest is the place of its rows and none of them.
    """

    def __init__(
        self, columns: Columns, split: str | None, path: Path, name: str, root: str, fingerprint: str
    ) -> None:
        self._columns = columns
        self._split = split  # None: all of them
        self.path = path
        self.name = name
        self.root = root  # an absolute path or a URL
        self.fingerprint = fingerprint

    @classmethod
    def open(
        cls, path: str | Path, root: str | Path | None = None, cache: str | Path | None = None
    ) -> Manifest:
        """Open a manifest; `root` says where its media lie if they moved since it was written.

        With a `cache` folder, samples are looked up in a copy that is made there the first time; without one, the
        first that is asked for by its index brings all of them into memory. What goes through them in order
        (`batches`, `captions`, iterating) does so a part at a time in any case.

        Raises ManifestError if the file is missing, is no manifest, lacks columns, or has a newer format, or if
        the copy cannot be written.
        """
        path = Path(path).expanduser().absolute()
        description = _description(path)
        copy = None
        if cache is not None:
            try:
                copy = ensure_copy(path, SCHEMA, description["fingerprint"], Path(cache).expanduser())
            except OSError as error:
                raise ManifestError(
                    f"the unpacked copy of manifest {path} cannot be written to {cache} ({error.strerror or error}); "
                    "set storage.cache to a folder that can be written and has room"
                ) from error
        return cls(
            columns=Columns(path, SCHEMA, copy),
            split=None,
            path=path,
            name=description["name"],
            root=absolute_place(str(description["root"] if root is None else root)),
            fingerprint=description["fingerprint"],
        )

    @property
    def _rows(self) -> Rows:
        """Where the samples are in the file."""
        return range(len(self._columns)) if self._split is None else self._columns.splits[self._split]

    @property
    def table(self) -> pa.Table:
        """All columns, in memory."""
        whole, rows = self._columns.table, self._rows
        if isinstance(rows, range):
            return whole.slice(rows.start, len(rows))
        return whole.filter(pc.equal(whole["split"], self._split))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        rows = self._rows
        if not 0 <= index < len(rows):
            raise IndexError(f"sample {index} of manifest {self.path}, which has {len(self)}")
        return self._sample(index, *self._columns.row(int(rows[index]), OF_A_SAMPLE))

    def __iter__(self) -> Iterator[Sample]:
        indices = count()
        for batch in self.batches(*OF_A_SAMPLE):
            for values in zip(*(batch[name].to_pylist() for name in OF_A_SAMPLE), strict=True):
                yield self._sample(next(indices), *values)

    def _sample(
        self,
        index: int,
        id: str,
        path: str,
        offset: int | None,
        length: int | None,
        kind: str,
        split: str,
        start: float | None,
        end: float | None,
        captions: list[str],
    ) -> Sample:
        source = Source(joined(self.root, path), offset, length)
        return Sample(index, id, source, kind, split, start, end, tuple(captions))

    def batches(self, *names: str) -> Iterator[pa.RecordBatch]:
        """Some columns of the samples in their order, some thousands of samples at a time."""
        for batch in self._columns.batches(list(dict.fromkeys([*names, "split"]))):
            own = batch if self._split is None else batch.filter(pc.equal(batch["split"], self._split))
            if len(own):
                yield own.select(list(names))

    def captions(self) -> Iterator[list[str]]:
        """Those of each sample in order."""
        for batch in self.batches("captions"):
            yield from batch["captions"].to_pylist()

    def split(self, name: str) -> Manifest:
        """The samples of one split, in file order; the fingerprint stays that of the whole manifest.

        Raises ValueError listing the splits that exist.
        """
        if name not in self._columns.splits:
            existing = ", ".join(self._columns.splits)
            raise ValueError(f"manifest {self.path} has no split {name!r}; it has {existing}")
        return Manifest(self._columns, name, self.path, self.name, self.root, self.fingerprint)

    def split_sizes(self) -> dict[str, int]:
        """Number of samples per split, in order of first appearance."""
        return {name: len(rows) for name, rows in self._columns.splits.items()}

    def ids(self) -> pa.Array:
        """The ids in order, as one Arrow array of strings."""
        return pa.concat_arrays([batch["id"] for batch in self.batches("id")])


def write(path: str | Path, samples: Iterable[Row], name: str, root: str | Path) -> Manifest:
    """Write a manifest atomically and open it.

    Captions are stripped and their inner whitespace, newlines included, becomes one blank; captions that are
    empty then are dropped and their number is logged. Media files are only looked up for their size.

    Raises ManifestError for a repeated id within a split, a sample without captions, an unknown kind, an
    empty window of time, text that is not Unicode, or no samples at all; the file at `path` stays as it was.
    """
    path = Path(path).expanduser().absolute()
    root = absolute_place(str(root))
    digest = hashlib.sha256()
    num_dropped, num_rows = 0, 0
    ids = Repeats()
    size = lru_cache(size_of)  # of a shard asked for once, not once for each of its samples
    with _replaced(path) as temporary:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            batch: list[dict[str, Any]] = []
            for row in samples:
                content = _content(row, name, root, size)
                ids.add((row.split, row.id))
                num_rows += 1
                num_dropped += len(row.captions) - len(content["captions"])
                digest.update(json.dumps(_identifying(content)).encode() + b"\n")
                batch.append(content)
                if len(batch) == ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
                    batch = []
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


def write_durations(path: Path, seconds: Sequence[float | None]) -> None:
    """Store one measured duration per row (None: not known) in the manifest at `path`.

    The fingerprint stays: what was measured changes nothing of what the set is.
    """
    durations = pa.array(seconds, type=pa.float64())
    stored = pq.read_metadata(path).metadata[METADATA_KEY]
    first, place = 0, SCHEMA.get_field_index("duration")
    with _replaced(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for batch in Columns(path, SCHEMA, None).batches(SCHEMA.names, ROWS_PER_GROUP):
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


def _content(row: Row, name: str, root: str, size_of_file: SizeOf) -> dict[str, Any]:
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
    where = _from_root(str(row.path), root)
    size = Source(joined(root, where), row.offset, row.length).size(size_of_file)
    return {
        "id": row.id,
        "path": where,
        "offset": row.offset,
        "length": row.length,
        "kind": row.kind,
        "split": row.split,
        "start": start,
        "end": end,
        "captions": captions,
        "num_bytes": -1 if size is None else size,
    }


def _from_root(path: str, root: str) -> str:
    """A path as the manifest has it: relative where it is below the root."""
    if is_url(path) or is_url(root):
        return path.removeprefix(f"{root.partition('?')[0].rstrip('/')}/")
    given = Path(path).expanduser()
    return (given.relative_to(root) if given.is_relative_to(root) else given).as_posix()


def _description(path: Path) -> dict[str, Any]:
    """Name, root and fingerprint from the file's metadata, once it is clear that this is a manifest."""
    if not path.is_file():
        raise ManifestError(f"there is no manifest at {path}; {WRITE_ONE}")
    try:
        metadata = pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise ManifestError(f"{path} is not a Parquet file; {WRITE_ONE}") from error
    stored = (metadata.metadata or {}).get(METADATA_KEY)
    if stored is None:
        raise ManifestError(f"{path} is a Parquet file but no manifest of mac_ray; {WRITE_ONE}")
    description: dict[str, Any] = json.loads(stored)
    if description["version"] > FORMAT_VERSION:
        raise ManifestError(
            f"{path} has manifest format {description['version']}, newer than {FORMAT_VERSION}; "
            "update mac_ray or write the manifest again"
        )
    later = {name for version, names in ADDED.items() if version > description["version"] for name in names}
    present = metadata.schema.to_arrow_schema().names
    missing = [name for name in SCHEMA.names if name not in later and name not in present]
    if missing:
        raise ManifestError(f"manifest {path} lacks the columns {', '.join(missing)}; {WRITE_ONE}")
    return description


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place if the block ends well, and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
