"""The manifest: a Parquet table of samples, and the only form in which data reaches the loader.

A manifest is known by the fingerprint of what it says, and the folder of the media is no part of that: a set
keeps its fingerprint, and with it the identity of the runs trained on it, when it moves to another machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mac_ray.data.columns import Columns, Rows, ensure_copy
from mac_ray.data.source import Source, absolute_place, joined

FORMAT_VERSION = 2
KINDS = ("video", "image", "frames")  # frames: a run of pictures in a tar, which are a clip in their order
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),  # relative to the root when inside it; may be a URL
        ("offset", pa.int64()),  # bytes; null: the whole file is the sample, else `length` bytes from here
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
                    "set storage.cache (--cache of `prepare`) to a folder that can be written and has room"
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

        Raises ManifestError listing the splits that exist.
        """
        if name not in self._columns.splits:
            existing = ", ".join(self._columns.splits)
            raise ManifestError(f"manifest {self.path} has no split {name!r}; it has {existing}")
        return Manifest(self._columns, name, self.path, self.name, self.root, self.fingerprint)

    def split_sizes(self) -> dict[str, int]:
        """Number of samples per split, in order of first appearance."""
        return {name: len(rows) for name, rows in self._columns.splits.items()}

    def ids(self) -> pa.Array:
        """The ids in order, as one Arrow array of strings."""
        return pa.concat_arrays([batch["id"] for batch in self.batches("id")])


def is_manifest(path: Path) -> bool:
    """Whether a file is one of ours, and no other Parquet file."""
    try:
        return METADATA_KEY in (pq.read_metadata(path).metadata or {})
    except pa.ArrowInvalid:
        return False


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
