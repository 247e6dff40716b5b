"""The rows of a manifest file: all in order from Parquet, or any one at once from a copy that is made for that.

Parquet gives no single row without unpacking thousands, and unpacked, ten million samples are gigabytes in every
process. So whoever trains has a copy in the cache, made once per node, in which rows lie unpacked, a hundred side by
side. A row is one read of twenty kilobytes; all processes read the one file, which the system keeps in memory as
long as it has room, and the process itself keeps nothing. (Mapping the file instead would be as fast, but every
page that was ever looked at would count as the process's memory.)

Ten million samples over 10,000 tars, on one core: 7 s for the copy, which takes 1.6 GB; from then on 0.05 s to open
the manifest, 15 MB of memory, and 0.03 ms a row.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

COPY_VERSION = 1
TOGETHER = 128  # rows of the copy that are read for one of them
PARTS_KEPT = 64
ROWS_KEPT = 8_192  # as Python objects: about 10 MB
COPIED_AT_ONCE = 65_536  # rows
READ_AT_ONCE = 4_096  # rows; as Python objects they take megabytes
Rows = range | NDArray[np.int32]  # of a split: where they are in the file


class Columns:
    """All rows of a manifest file in its order; pickled, it is the place where they are."""

    def __init__(self, file: Path, schema: pa.Schema, copy: Path | None) -> None:
        """Columns of the schema that the file lacks are null. `copy`: what `ensure_copy` gave, if anything."""
        self.file, self.schema, self.copy = file, schema, copy
        # held open, so that a file that takes the place of this one later changes nothing here
        self._parquet: pq.ParquetFile | None = pq.ParquetFile(file)
        self._num_rows = int(self._parquet.metadata.num_rows)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("file", "schema", "copy", "_num_rows")
        return {name: self.__dict__[name] for name in kept} | {"_parquet": None}

    def __len__(self) -> int:
        return self._num_rows

    @cached_property
    def _part(self) -> Callable[[int], pa.RecordBatch]:
        """Parts of the copy by number. Of a small set all stay in memory."""
        assert self.copy is not None
        return lru_cache(PARTS_KEPT)(pa.ipc.open_file(pa.OSFile(str(self.copy / "rows.arrow"))).get_batch)

    @cached_property
    def table(self) -> pa.Table:
        """Everything, in memory."""
        return pa.Table.from_batches(self.batches(self.schema.names, COPIED_AT_ONCE), self.schema)

    @cached_property
    def splits(self) -> Mapping[str, Rows]:
        """The rows of each split, in order of first appearance."""
        if self.copy is None:
            return _rows_by_split(batch["split"] for batch in self.batches(["split"], COPIED_AT_ONCE))
        stored = json.loads((self.copy / "splits.json").read_text())
        return {
            name: range(*place)
            if isinstance(place, list)
            else np.asarray(np.load(self.copy / place, mmap_mode="r"))
            for name, place in stored.items()
        }

    def row(self, number: int, names: tuple[str, ...]) -> tuple[Any, ...]:
        """Some columns of one row: out of the copy where there is one, else with the whole table in memory."""
        return self._row(number, names)

    @cached_property
    def _row(self) -> Callable[[int, tuple[str, ...]], tuple[Any, ...]]:
        """Rows by number. Of a small set all stay unpacked, because unpacking one takes 15 to 60 µs."""
        return lru_cache(ROWS_KEPT)(self._unpacked)

    def _unpacked(self, number: int, names: tuple[str, ...]) -> tuple[Any, ...]:
        if self.copy is None:
            rows, place = self.table, number
        else:
            part, place = divmod(number, TOGETHER)
            rows = self._part(part)
        return tuple(rows.column(name)[place].as_py() for name in names)

    def batches(self, names: Sequence[str], at_once: int = READ_AT_ONCE) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows in order; no more than so many rows are ever in memory."""
        schema = pa.schema([self.schema.field(name) for name in names])
        parquet = self._parquet or pq.ParquetFile(self.file)
        present = parquet.schema_arrow.names
        for batch in parquet.iter_batches(at_once, columns=[name for name in names if name in present]):
            columns = [
                batch[field.name] if field.name in present else pa.nulls(len(batch), field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def ensure_copy(file: Path, schema: pa.Schema, fingerprint: str, cache: Path) -> Path:
    """The folder of the copy of a manifest file, made if need be; another one once the file has changed.

    Raises OSError when it cannot be written.
    """
    state = file.stat()
    key = json.dumps([COPY_VERSION, TOGETHER, schema.names, fingerprint, state.st_size, state.st_mtime_ns])
    folder = cache / "manifests" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not (folder / "splits.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:  # workers that start together make it once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "splits.json").exists():
                try:
                    _make_copy(Columns(file, schema, None), folder)
                except OSError:
                    for half in folder.glob("rows*"):
                        half.unlink(missing_ok=True)
                    raise
    return folder


def _make_copy(columns: Columns, folder: Path) -> None:
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, columns.schema) as writer:
        for batch in _regrouped(columns.batches(columns.schema.names, COPIED_AT_ONCE), columns.schema):
            writer.write_batch(batch)
    _make_durable(folder / "rows.arrow")
    places: dict[str, list[int] | str] = {}
    for number, (name, rows) in enumerate(columns.splits.items()):
        if isinstance(rows, range):
            places[name] = [rows.start, rows.stop]
        else:
            places[name] = f"rows_of_split_{number}.npy"
            np.save(folder / f"rows_of_split_{number}.npy", rows)
            _make_durable(folder / f"rows_of_split_{number}.npy")
    # last, because its presence says that all of it is there
    (folder / "splits.tmp.json").write_text(json.dumps(places))
    _make_durable(folder / "splits.tmp.json")
    (folder / "splits.tmp.json").replace(folder / "splits.json")


def _make_durable(path: Path) -> None:
    """Or a machine that goes down may leave the last file and lose what it vouches for."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _regrouped(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows, exactly TOGETHER in each batch but the last."""
    rest = schema.empty_table()
    for batch in batches:
        rows = pa.concat_tables([rest, pa.Table.from_batches([batch])]).combine_chunks()
        whole = len(rows) - len(rows) % TOGETHER
        yield from rows.slice(0, whole).to_batches(max_chunksize=TOGETHER)
        rest = rows.slice(whole)
    yield from rest.to_batches()


def _rows_by_split(splits: Iterable[pa.Array]) -> dict[str, Rows]:
    parts: dict[str, list[NDArray[np.int32]]] = {}
    first = 0
    for names in splits:
        for name in names.unique().to_pylist():
            own = np.flatnonzero(pc.equal(names, name).to_numpy(zero_copy_only=False))
            parts.setdefault(name, []).append((own + first).astype(np.int32))
        first += len(names)
    return {name: _as_range(np.concatenate(own)) for name, own in parts.items()}


def _as_range(rows: NDArray[np.int32]) -> Rows:
    """Rows that lie one after the other, as most readers write them, need not be listed."""
    first, last = int(rows[0]), int(rows[-1])
    return range(first, last + 1) if last - first + 1 == len(rows) else rows
