"""What was found so far, kept in a file that findings are appended to: one JSON object per line.

A check that was killed goes on from there, and a later one looks only at what has changed since. A finding counts
as long as the file's path, size and time of change are what they were, so it also outlives a manifest that is
written again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from mac_ray.data.manifest import Manifest, ManifestError
from mac_ray.prepare.finding import SCHEMA, Finding

LINE_BEGINS = b'{"key": '
CACHE = Path("~/.cache/mac_ray/checked")


def default_place(manifest: Manifest) -> Path:
    """Beside the manifest; where nothing can be written there, in the cache of the user."""
    beside = manifest.path.with_name(f"{manifest.path.name}.checked.jsonl")
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside
    return CACHE.expanduser() / f"{manifest.fingerprint}.jsonl"


def place_of_url(manifest: str) -> Path:
    """In the cache of the user, the same for a manifest that is written again."""
    return CACHE.expanduser() / f"{hashlib.sha256(manifest.encode()).hexdigest()[:16]}.jsonl"


class Results:
    """Open for appending. Raises OSError where that is not possible, ManifestError for a file of another kind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        self._file.seek(0)
        # before anything is changed: any file may be named
        if not LINE_BEGINS.startswith(self._file.read(len(LINE_BEGINS))):
            raise ManifestError(
                f"{path} holds something else than findings of a check; give another --results"
            )
        self._drop_torn_line()

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, findings: Iterable[Finding]) -> None:
        lines = [json.dumps(asdict(finding), ensure_ascii=True) + "\n" for finding in findings]
        self._file.write("".join(lines).encode())
        self._file.flush()  # from here on a kill takes nothing of it away

    def of(self, keys: NDArray[np.int64]) -> pa.Table:
        """A row per key, in their order: the last that was found, or nulls."""
        table = self._read()
        if not len(table):
            return pa.table({field.name: pa.nulls(len(keys), field.type) for field in SCHEMA}, schema=SCHEMA)
        known = table["key"].to_numpy()
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, keys, side="right", sorter=order) - 1
        rows = order[np.maximum(place, 0)]
        return table.take(pa.array(rows, mask=(place < 0) | (known[rows] != keys)))

    def _read(self) -> pa.Table:
        if not self.path.stat().st_size:
            return SCHEMA.empty_table()
        options = pa.json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
        return pa.json.read_json(self.path, parse_options=options).combine_chunks()

    def _drop_torn_line(self) -> None:
        """Of a check that was killed while it wrote."""
        end = self._file.seek(0, 2)
        while end:
            start = max(0, end - (1 << 16))
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            if newline >= 0:
                self._file.truncate(start + newline + 1)
                return
            end = start
        self._file.truncate(0)
