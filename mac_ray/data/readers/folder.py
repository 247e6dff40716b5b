"""Anyone's data: a folder of videos or images with captions.csv or captions.jsonl beside them.

captions.csv has a row per caption: `path,caption` and, if wanted, `split`, `id`, `start`, `end` (seconds).
captions.jsonl has an object per line with the same names, where `caption` or `captions` may be a list. Rows
of one path and window (or of one id) are one sample.

Splits are given to all rows or to none. Without them the path decides by its hash, not the id: windows of one video
never lie in different splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from mac_ray.data.kinds import ENDINGS, kind_of
from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.readers import files
from mac_ray.data.readers.splits import SPLITS, Share, drawn, require_shares


@dataclass
class _Gathered:
    """A sample whose captions are still being collected."""

    path: str
    split: str
    start: float | None
    end: float | None
    captions: list[str] = field(default_factory=list)


def read(folder: Path, val: Share = 0.05, test: Share = 0.05) -> Iterator[Row]:
    """Rows of a captioned folder. `val` and `test` are the shares of samples where no splits are given.

    Raises ManifestError naming file and line for what is missing or contradicts itself.
    """
    require_shares(val, test)
    samples: dict[str, _Gathered] = {}
    first: tuple[str, bool] | None = None
    for place, entry in _entries(folder):
        path = _relative(folder, str(entry["path"]))
        has_split = "split" in entry
        first = first or (place, has_split)
        if has_split != first[1]:
            has, lacks = (place, first[0]) if has_split else (first[0], place)
            raise ManifestError(
                f"{has} has a split, and {lacks.rpartition(', ')[2]} has none; give one to every line, or to none"
            )
        given = _text(entry["split"]) if has_split else drawn(path, val, test)
        if (split := SPLITS.get(given)) is None:
            raise ManifestError(
                f"{place}: split is {given!r}, which nothing trains on or scores; write train, val or test"
            )
        start, end = (_seconds(entry.get(name), f"{place}: {name}") for name in ("start", "end"))
        window = (
            ""
            if start is None and end is None
            else f"@{_written(start or 0.0)}-{'' if end is None else _written(end)}"
        )
        sample = _Gathered(path, split, start, end)
        key = _text(entry["id"]) if "id" in entry else path + window
        known = samples.setdefault(key, sample)
        if (known.path, known.split, known.start, known.end) != (path, split, start, end):
            raise ManifestError(f"{place}: sample {key!r} had another path, split or window further up")
        known.captions.extend(_captions(entry, place))
    for key, sample in samples.items():
        kind = _kind(sample.path, folder)
        yield Row(
            key, Path(sample.path), kind, sample.split, tuple(sample.captions), sample.start, sample.end
        )


def _written(seconds: float) -> str:
    """As short as it tells them apart."""
    return short if float(short := f"{seconds:g}") == seconds else repr(seconds)


def _entries(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(file and line, entry) of whichever of the two files there is."""
    table, lines = folder / "captions.csv", folder / "captions.jsonl"
    if table.is_file() == lines.is_file():
        found = "both" if table.is_file() else "neither"
        raise ManifestError(
            f"{folder} holds {found} of captions.csv and captions.jsonl; it needs one of them"
        )
    if table.is_file():
        for number, row in files.table(table, ("path", "caption")):
            yield f"{table}, line {number}", row
        return
    for number, entry in files.objects(lines, "one JSON object per line"):
        place = f"{lines}, line {number}"
        if not isinstance(entry, dict) or "path" not in entry or not {"caption", "captions"} & entry.keys():
            found = ", ".join(entry) if isinstance(entry, dict) else f"a {type(entry).__name__}"
            raise ManifestError(f"{place}: an object with path and caption is expected; found {found}")
        yield place, entry


def _text(value: Any) -> str:
    """Of an id or a split, which may be a number, 0 too; empty for none."""
    return "" if value is None else str(value).strip()


def _captions(entry: Mapping[str, Any], place: str) -> list[str]:
    value = entry["captions" if "captions" in entry else "caption"]
    captions = value if isinstance(value, list) else [value]
    if not all(isinstance(caption, str) for caption in captions):
        raise ManifestError(f"{place}: captions must be text; found {value!r}")
    return captions


def _seconds(value: Any, place: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{place} is {value!r}; it must be a number of seconds") from error


def _relative(folder: Path, path: str) -> str:
    """The path below the folder, so that splits and ids are the same wherever the folder lies."""
    absolute = PurePath(folder.absolute())
    joined = absolute / path.strip()
    return (joined.relative_to(absolute) if joined.is_relative_to(absolute) else joined).as_posix()


def _kind(path: str, folder: Path) -> str:
    kind = kind_of(path)
    if kind is None:
        raise ManifestError(
            f"{folder}: {path} is neither a video nor an image by its ending; known are {ENDINGS}"
        )
    return kind
