"""A Parquet table with its media, or a folder of such, as Hugging Face `datasets` and many exports have them.

A row has a video or an image, as {bytes, path}, bytes or a path, and a caption or a list of them. Embedded media are
written out once, named by their content: rows that repeat one are captions of one sample, and reading the table
again writes nothing. Splits come from a column `split`, else from the names of files or their folders
(train-00000-of-00005.parquet, validation/0000.parquet), and from a hash where nothing of the table names any.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mac_ray import files
from mac_ray.data.kinds import kind_of
from mac_ray.data.manifest import ManifestError, Row, is_manifest
from mac_ray.data.readers.gathered import gathered
from mac_ray.data.readers.published import left_out
from mac_ray.data.readers.splits import SPLITS, Share, drawn, require_shares
from mac_ray.data.source import is_url

MEDIA_COLUMNS = ("video", "image", "path", "video_path", "image_path", "file_name", "filename")
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentence", "sentences")
ROWS_AT_ONCE = 16  # as each may hold a video


class _Entry(NamedTuple):
    id: str
    path: str
    kind: str
    split: str
    captions: list[str]


@dataclass(frozen=True)
class _Columns:
    media: str
    caption: str
    split: str | None
    kind: str | None  # by the name or the declared type of the media column; None: the ending has to tell


def read(
    table: Annotated[Path, "a Parquet file, or a folder with such"],
    media: Annotated[Path | None, "folder of the media; default: that of the table"] = None,
    media_column: Annotated[str | None, "default: the first of " + ", ".join(MEDIA_COLUMNS)] = None,
    caption_column: Annotated[str | None, "default: the first of " + ", ".join(CAPTION_COLUMNS)] = None,
    val: Share = 0.05,
    test: Share = 0.05,
) -> Iterator[Row]:
    """Rows in the order of the files' names; embedded media are written while the table is read.

    Raises ManifestError naming file and row for what is missing or of another type.
    """
    require_shares(val, test)
    beside = table if table.is_dir() else table.parent
    root = media or beside
    # --out may well be the same folder
    paths = (
        sorted(path for path in table.rglob("*.parquet") if not is_manifest(path))
        if table.is_dir()
        else [table]
    )
    if not paths:
        raise ManifestError(f"there is no .parquet file in {table} but manifests")
    with tempfile.TemporaryDirectory() as temporary:
        # what `gathered` reads twice, without the media
        spool = Path(temporary, "entries.jsonl")
        sources: dict[str, dict[Path, None]] = {}  # files by the splits that they have
        with spool.open("w") as lines:
            for path in paths:
                columns = _columns(path, media_column, caption_column)
                for entry in _entries(path, columns, media or beside / "media", root):
                    sources.setdefault(entry.split, {})[path] = None
                    lines.write(json.dumps(entry) + "\n")
        _require_clear(sources, table)

        def spooled() -> Iterator[_Entry]:
            for entry in _spooled(spool):
                yield entry if entry.split else entry._replace(split=drawn(entry.id, val, test))

        for entries in gathered(spooled, "{0.split}/{0.id}".format, table):
            first = entries[0]
            captions = tuple(caption for entry in entries for caption in entry.captions)
            place = first.path if is_url(first.path) else root / first.path
            yield Row(first.id, place, first.kind, first.split, captions)


def _columns(path: Path, media: str | None, caption: str | None) -> _Columns:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(f"{path} is not a Parquet file ({error})") from error

    def chosen(what: str, given: str | None, usual: tuple[str, ...]) -> str:
        name = given or next((name for name in usual if name in schema.names), None)
        if name not in schema.names:
            raise ManifestError(
                f"{path} has no column {given or ', '.join(usual)}; its columns are "
                f"{', '.join(schema.names)[:400]}; name one by --{what}-column"
            )
        return str(name)

    media = chosen("media", media, MEDIA_COLUMNS)
    declared = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = declared.get("info", {}).get("features", {}).get(media, {})
    of_type = feature.get("_type", media) if isinstance(feature, dict) else media
    return _Columns(
        media=media,
        caption=chosen("caption", caption, CAPTION_COLUMNS),
        split="split" if "split" in schema.names else None,
        kind=next((kind for kind in ("video", "image") if kind in of_type.lower()), None),
    )


def _entries(path: Path, columns: _Columns, written: Path, root: Path) -> Iterator[_Entry]:
    """The rows of one file; `split` is empty where nothing tells it."""
    of_file = _split_of(path)
    empty: list[str] = []
    for number, row in enumerate(_rows(path, columns), 1):
        place = f"{path}, row {number}"
        content, name = _media(row[columns.media], place)
        captions = _captions(row[columns.caption], place)
        if not (content or name) or not any(text.strip() for text in captions):
            empty.append(str(number))
            continue
        kind = kind_of(name) or columns.kind
        if kind is None:
            raise ManifestError(f"{place}: {name!r} is neither a video nor an image by its ending")
        split = str((columns.split and row[columns.split]) or of_file)
        split = SPLITS.get(split.lower(), split)
        if content:
            file = _written(content, written)
            yield _Entry(file.name, file.relative_to(root).as_posix(), kind, split, captions)
        else:
            yield _Entry(name, name, kind, split, captions)
    left_out("table", f"rows of {path.name} have no media or no caption and are left out", empty)


def _rows(path: Path, columns: _Columns) -> Iterator[dict[str, Any]]:
    wanted = [name for name in (columns.media, columns.caption, columns.split) if name]
    try:
        # as pages come, though a page may hold all of a group of rows: `datasets` writes 10 videos or 100 images
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as a Parquet table ({error})") from error


def _media(value: Any, place: str) -> tuple[bytes | None, str]:
    """The bytes, where they are embedded, and the path or an empty string."""
    if isinstance(value, dict) and {"bytes", "path"} <= value.keys():
        return value["bytes"], value["path"] or ""
    if isinstance(value, bytes):
        return value, ""
    if value is None or isinstance(value, str):
        return None, value or ""
    raise ManifestError(
        f"{place}: the media are of the type {type(value).__name__}; expected are {{bytes, path}}, bytes or a path"
    )


def _captions(value: Any, place: str) -> list[str]:
    captions = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(caption, str) for caption in captions):
        raise ManifestError(f"{place}: captions must be text or a list of it; found {str(value)[:80]}")
    return captions


def _written(content: bytes, folder: Path) -> Path:
    """The file with this content, in one of 256 folders, so that none has too many."""
    digest = hashlib.sha256(content).hexdigest()[:32]
    path = folder / digest[:2] / digest
    if not (path.is_file() and path.stat().st_size == len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content)
    return path


def _split_of(path: Path) -> str:
    """The split that a file is named for, or its folder; empty where neither is."""
    start = re.split(r"[^a-z]", path.stem.lower())[0]
    # what Hugging Face converts only in part stands in partial-train
    return SPLITS.get(start) or SPLITS.get(path.parent.name.lower().removeprefix("partial-"), "")


def _require_clear(sources: Mapping[str, Iterable[Path]], table: Path) -> None:
    """Raises ManifestError where some rows have a split and others have none, which a hash would spread over test
    too, and where files of one split lie in several folders, as those of several configurations of one repository do.
    """
    named = {split: list(paths) for split, paths in sources.items() if split}
    if "" in sources and named:
        file = next(iter(sources[""]))
        raise ManifestError(
            f"neither the name nor a column of {file} says which split its rows are of, while others in {table} are of "
            f"{', '.join(sorted(named))}; name it for one (train-…parquet), or take it out"
        )
    for split, paths in named.items():
        if len(folders := {path.parent for path in paths if _split_of(path)}) > 1:
            raise ManifestError(
                f"split {split} of {table} lies in {len(folders)} folders, as of several configurations of one set: "
                f"{', '.join(sorted(folder.name for folder in folders))[:400]}; give one of them"
            )


def _spooled(spool: Path) -> Iterator[_Entry]:
    with spool.open() as lines:
        for line in lines:
            yield _Entry(*json.loads(line))
