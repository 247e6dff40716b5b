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
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mac_ray.data.source import Source, absolute_place, is_url, joined

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
    """Samples in file order. Columns stay in Arrow memory; a Sample exists only once it is asked for."""

    def __init__(self, table: pa.Table, path: Path, name: str, root: str, fingerprint: str) -> None:
        self.table = table
        self.path = path
        self.name = name
        self.root = root  # an absolute path or a URL
        self.fingerprint = fingerprint

    @classmethod
    def open(cls, path: str | Path, root: str | Path | None = None) -> Manifest:
        """Read a manifest; `root` says where its media lie if they moved since it was written.

        Raises ManifestError if the file is missing, is no manifest, lacks columns, or has a newer format.
        """
        path = Path(path).expanduser().absolute()
        description = _description(path)
        table = _as_of_now(pq.read_table(path, memory_map=True), description["version"])
        return cls(
            table=table,
            path=path,
            name=description["name"],
            root=absolute_place(str(description["root"] if root is None else root)),
            fingerprint=description["fingerprint"],
        )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of manifest {self.path}, which has {len(self)}")
        value = {name: self.table.column(name)[index].as_py() for name in SCHEMA.names}
        return Sample(
            index=index,
            id=value["id"],
            source=Source(joined(self.root, value["path"]), value["offset"], value["length"]),
            kind=value["kind"],
            split=value["split"],
            start=value["start"],
            end=value["end"],
            captions=tuple(value["captions"]),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def split(self, name: str) -> Manifest:
        """The samples of one split, in file order; the fingerprint stays that of the whole manifest.

        Raises ValueError listing the splits that exist.
        """
        sizes = self.split_sizes()
        if name not in sizes:
            raise ValueError(f"manifest {self.path} has no split {name!r}; it has {', '.join(sizes)}")
        table = self.table.filter(pc.equal(self.table["split"], name)).combine_chunks()
        return Manifest(table, self.path, self.name, self.root, self.fingerprint)

    def split_sizes(self) -> dict[str, int]:
        """Number of samples per split, in order of first appearance."""
        counts = pc.value_counts(self.table["split"])
        return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}

    def ids(self) -> pa.Array:
        """The ids in order, as one Arrow array of strings."""
        return self.table["id"].combine_chunks()


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
    num_dropped = 0
    ids: dict[str, set[str]] = {}
    with _replaced(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for row in samples:
            known = ids.setdefault(row.split, set())
            if row.id in known:
                raise ManifestError(
                    f"{name}: id {row.id!r} occurs twice in split {row.split!r}; make ids unique"
                )
            known.add(row.id)
            content = _content(row, name, root)
            num_dropped += len(row.captions) - len(content["captions"])
            digest.update(json.dumps(_identifying(content)).encode() + b"\n")
            batch.append(content)
            if len(batch) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
                batch = []
        if not ids:
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
    if num_dropped:
        log.warning("%s: %d empty captions dropped", name, num_dropped)
    return Manifest.open(path)


def write_durations(path: Path, seconds: Sequence[float | None]) -> None:
    """Store one measured duration per row (None: not known) in the manifest at `path`.

    The fingerprint stays: what was measured changes nothing of what the set is.
    """
    durations = pa.array(seconds, type=pa.float64())
    table = Manifest.open(path).table.set_column(SCHEMA.get_field_index("duration"), "duration", durations)
    stored = pq.read_metadata(path).metadata[METADATA_KEY]
    with _replaced(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({METADATA_KEY: stored})


def _as_of_now(table: pa.Table, version: int) -> pa.Table:
    """The columns of the newest format, in their order."""
    for later in range(version + 1, FORMAT_VERSION + 1):
        for name in ADDED[later]:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    return table.select(SCHEMA.names).combine_chunks()


def _identifying(content: dict[str, Any]) -> list[Any]:
    """What of a row counts for the fingerprint. Sets of whole files keep the one that they had in format 1."""
    part = [content["offset"], content["length"]]
    rest = [value for name, value in content.items() if name not in ("offset", "length")]
    return rest if part == [None, None] else rest + part


def _content(row: Row, name: str, root: str) -> dict[str, Any]:
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
    size = Source(joined(root, where), row.offset, row.length).size()
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
    whole = Path(root) / Path(path).expanduser()
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


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
