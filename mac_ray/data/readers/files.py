"""Annotation files as text: tables, JSON, lists of names, and the hash that splits what has no split.

Copies of the official files circulate with byte-order marks and CRLF line ends, so both are taken off here.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers.recognise import resemblance


def text(path: Path, expected: str) -> str:
    """The content of a UTF-8 file, line ends as they are; `expected` says what the file should hold."""
    if not path.is_file():
        raise ManifestError(f"there is no file {path}; it should hold {expected}{resemblance(path.parent)}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text ({error.reason}); it should hold {expected}{resemblance(path)}"
        ) from error


def lines(path: Path, expected: str) -> list[str]:
    """The lines that are not blank, stripped."""
    stripped = (line.strip() for line in text(path, expected).split("\n"))
    return [line for line in stripped if line]


def table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row by column name) of a comma-separated file that has at least these columns."""
    expected = f"a table with the columns {', '.join(columns)}"
    reader = csv.DictReader(io.StringIO(text(path, expected), newline=""), skipinitialspace=True)
    found = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = found
    missing = [name for name in columns if name not in found]
    if missing:
        raise ManifestError(
            f"{path} lacks the column {', '.join(missing)}; its columns are {', '.join(found)}{resemblance(path)}"
        )
    for row in reader:
        # DictReader files surplus fields under None and fills lacking ones with it
        if None in row or None in row.values():
            raise ManifestError(
                f"{path}, line {reader.line_num}: the row has not the {len(found)} fields of the header; "
                'put captions with commas in "quotes"'
            )
        yield reader.line_num, row


def parsed(path: Path, expected: str) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(text(path, expected))
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"{path} is not JSON ({error}); it should hold {expected}{resemblance(path)}"
        ) from error


def hashed(key: str) -> float:
    """A number in [0, 1) drawn by the key alone: the same on every machine and in every version."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
