"""Annotation files as text: tables, JSON, lists of names, and the hash that splits what has no split.

Tables and JSON lines go by row by row, so that their length does not matter; what is longer than any real
annotation (a line, a row, a header, a file that is read whole) is refused before it is in memory.

Copies of the official files circulate with byte-order marks and CRLF line ends, so both are taken off here.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers.recognise import resemblance

LONGEST_LINE = 2**20  # characters; of a row too, whose quoted fields may hold line ends
MOST_COLUMNS = 1000
# bytes of a file that is read whole; the largest official one, COCO's, has 150 MB
LARGEST_WHOLE = 512 * 2**20


def text(path: Path, expected: str) -> str:
    """The content of a UTF-8 file, line ends as they are; `expected` says what the file should hold."""
    _refuse_missing(path, expected)
    size = path.stat().st_size
    if size > LARGEST_WHOLE:
        raise ManifestError(
            f"{path} has {size:,} bytes, and a file of its kind may have {LARGEST_WHOLE:,}"
            f"{_expectation(path, expected)}"
        )
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(path, content.count(b"\n", 0, error.start) + 1, expected) from error


def numbered(path: Path, expected: str, newline: str = "\n") -> Iterator[tuple[int, str]]:
    """(line number, line with its end) of a UTF-8 file of any length; at "" a lone CR ends a line too."""
    _refuse_missing(path, expected)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise _too_long(path, number, expected)
            try:
                line.encode()  # bytes that were no UTF-8 are lone surrogates by now
            except UnicodeEncodeError as error:
                raise _not_text(path, number, expected) from error
            yield number, line


def lines(path: Path, expected: str) -> list[str]:
    """The lines that are not blank, stripped."""
    stripped = (line.strip() for line in text(path, expected).split("\n"))
    return [line for line in stripped if line]


def rows(path: Path, expected: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row of a table with quotes; the number is that of the row's last line."""
    length = 0

    def fed() -> Iterator[str]:
        nonlocal length
        for number, line in numbered(path, expected, newline=""):
            length += len(line)
            if length > LONGEST_LINE:  # a quote that is never closed would swallow the rest of the file
                raise _too_long(path, number, expected)
            yield line

    reader = csv.reader(fed(), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            length = 0
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise ManifestError(
            f"{path}, line {reader.line_num}: {error}; look for a quote that is not closed"
            f"{_expectation(path, expected)}"
        ) from error


def table(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row by column name) of a table with a header that has at least these columns."""
    expected = f"a table with the columns {', '.join(columns)}"
    read = rows(path, expected, delimiter)
    _, header = next(read, (0, []))
    found = [name.strip() for name in header]
    if len(found) > MOST_COLUMNS:
        raise ManifestError(
            f"{path} has {len(found):,} columns, and a table may have {MOST_COLUMNS:,}"
            f"{_expectation(path, expected)}"
        )
    missing = [name for name in columns if name not in found]
    if missing:
        raise ManifestError(
            f"{path} lacks the column {', '.join(missing)}; its columns are {', '.join(found)[:400]}"
            f"{resemblance(path)}"
        )
    for number, fields in read:
        if len(fields) != len(found):
            raise ManifestError(
                f"{path}, line {number}: the row has not the {len(found)} fields of the header; "
                'put captions with commas in "quotes"'
            )
        yield number, dict(zip(found, fields, strict=True))


def parsed(path: Path, expected: str) -> Any:
    """The content of a JSON file."""
    return _loaded(text(path, expected), str(path), path, expected)


def objects(path: Path, expected: str) -> Iterator[tuple[int, Any]]:
    """(line number, content) of a file with a JSON document per line; blank lines are passed over."""
    for number, line in numbered(path, expected):
        if line.strip():
            yield number, _loaded(line, f"{path}, line {number}", path, expected)


def hashed(key: str) -> float:
    """A number in [0, 1) drawn by the key alone: the same on every machine and in every version."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def _loaded(content: str, place: str, path: Path, expected: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # of brackets without end
        raise ManifestError(f"{place} is not JSON ({error}){_expectation(path, expected)}") from error


def _refuse_missing(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ManifestError(f"there is no file {path}; it should hold {expected}{resemblance(path.parent)}")


def _not_text(path: Path, number: int, expected: str) -> ManifestError:
    return ManifestError(f"{path}, line {number} is not UTF-8 text{_expectation(path, expected)}")


def _too_long(path: Path, number: int, expected: str) -> ManifestError:
    return ManifestError(
        f"{path}, line {number}: a row may have {LONGEST_LINE:,} characters and this one is longer; "
        f"look for a quote that is not closed{_expectation(path, expected)}"
    )


def _expectation(path: Path, expected: str) -> str:
    """The end of a sentence on what is wrong with a file."""
    return f"; it should hold {expected}{resemblance(path)}"
