"""The rows of a manifest file: a part at a time from Parquet, or any row at once from a copy that is mapped.

Parquet gives no single row without unpacking thousands, and unpacked, ten million samples are gigabytes in every
process. So what trains has a copy in the cache, made once per node, in which rows lie unpacked. All processes map
that one file: its pages are the system's, which shares them and takes them back when memory is short, and nothing
but a few megabytes of a process's own memory depends on how many samples there are. The copy takes 1.5 GB of disk
and 20 s to make for ten million samples of one caption; opened again it is there in a tenth of a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

COPY_VERSION = 1
COPIED_AT_ONCE = 65_536  # rows
READ_AT_ONCE = 4_096  # rows; as Python objects they take megabytes
Rows = range | NDArray[np.int32]  # of a split: where they are in the file


class Columns:
    """All rows of a manifest file in its order; pickled, it is the place where they are."""

    def __init__(self, file: Path, schema: pa.Schema, copy: Path | None) -> None:
        """`copy`: the folder of the mapped copy, which makes rows quick to reach. Columns of the schema that the
        file lacks are null.
        """
        self.file, self.schema, self.copy = file, schema, copy
        # kept open, so that a file that replaces this one later changes nothing here
        self._parquet = None if copy else pq.ParquetFile(file)

    def __reduce__(self) -> tuple[type[Columns], tuple[Path, pa.Schema, Path | None]]:
        return Columns, (self.file, self.schema, self.copy)

    @cached_property
    def table(self) -> pa.Table:
        """Everything: mapped from the copy, or else read into memory."""
        if self.copy:
            return pa.ipc.open_file(pa.memory_map(str(self.copy / "rows.arrow"))).read_all()
        return pa.Table.from_batches(self.batches(self.schema.names, COPIED_AT_ONCE), self.schema)

    @cached_property
    def splits(self) -> Mapping[str, Rows]:
        """The rows of each split, in order of first appearance."""
        if not self.copy:
            return _rows_by_split(batch["split"] for batch in self.batches(["split"], COPIED_AT_ONCE))
        stored = json.loads((self.copy / "splits.json").read_text())
        return {
            name: range(*place)
            if isinstance(place, list)
            else np.asarray(np.load(self.copy / place, mmap_mode="r"))
            for name, place in stored.items()
        }

    def batches(self, names: Sequence[str], at_once: int = READ_AT_ONCE) -> Iterator[pa.RecordBatch]:
        """Some columns, so many rows at a time; from Parquet, no more than these are ever in memory."""
        if self._parquet is None:
            yield from self.table.select(names).to_batches(max_chunksize=at_once)
            return
        schema = pa.schema([self.schema.field(name) for name in names])
        present = self._parquet.schema_arrow.names
        for batch in self._parquet.iter_batches(at_once, columns=[name for name in names if name in present]):
            columns = [
                batch[field.name] if field.name in present else pa.nulls(len(batch), field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def ensure_copy(file: Path, schema: pa.Schema, fingerprint: str, cache: Path) -> Path:
    """The folder of the mapped copy of a manifest file, made if need be; another one once the file has changed.

    Raises OSError when it cannot be written.
    """
    state = file.stat()
    key = json.dumps([COPY_VERSION, schema.names, fingerprint, state.st_size, state.st_mtime_ns])
    folder = cache / "manifests" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not (folder / "splits.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:  # workers that start together make it once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "splits.json").exists():
                _make_copy(Columns(file, schema, None), folder)
    return folder


def _make_copy(columns: Columns, folder: Path) -> None:
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, columns.schema) as writer:
        for batch in columns.batches(columns.schema.names, COPIED_AT_ONCE):
            writer.write_batch(batch)
    places: dict[str, list[int] | str] = {}
    for number, (name, rows) in enumerate(columns.splits.items()):
        if isinstance(rows, range):
            places[name] = [rows.start, rows.stop]
        else:
            places[name] = f"rows_of_split_{number}.npy"
            np.save(folder / f"rows_of_split_{number}.npy", rows)
    # last, because its presence says that all of it is there
    (folder / "splits.tmp.json").write_text(json.dumps(places))
    (folder / "splits.tmp.json").replace(folder / "splits.json")


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
    """Rows that lie one after the other, as readers mostly write them, need not be listed."""
    first, last = int(rows[0]), int(rows[-1])
    return range(first, last + 1) if last - first + 1 == len(rows) else rows
