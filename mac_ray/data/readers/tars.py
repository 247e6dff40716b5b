"""Shards as img2dataset, video2dataset and `prepare convert` write them: a tar at a time to manifest rows, in place.

Members of one name up to its first dot, one after another, are a sample: `<key>.mp4` or `<key>.jpg`, `<key>.txt`,
`<key>.json`; numbered pictures, `<key>.000.jpg` and so on, are the frames of one clip. The media are not read. What
could not be downloaded is in no tar, only in the Parquet file beside it, which therefore is counted too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mac_ray.data.kinds import kind_of
from mac_ray.data.manifest import ManifestError, Row
from mac_ray.data.patience import asked_patiently
from mac_ray.data.source import Source, size_of
from mac_ray.data.tar import CutShortError, Member, TarError, members

TEXTS = (".txt", ".json")
NUMBERED = re.compile(r"\d+\.[a-z]+", re.IGNORECASE)  # the ending of a picture that is one frame of several
CONVERTED = {"id", "split", "captions", "source"}  # keys of the .json that `prepare convert` writes


@dataclass
class Shard:
    """What was found in one tar."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # samples, each with the reason
    failed: dict[str, int] = field(default_factory=dict)  # not in the tar, by what the Parquet file calls it
    cut_short: str | None = None


def read(place: str, split: str | None, id_field: str | None, caption_field: str) -> Shard:
    """The samples in the tar at a path or URL.

    `split` None is what the `.json` says where `prepare convert` wrote it, and else train. `id_field` is the entry of
    the `.json` that is the id; None: the key. Raises ManifestError for what is no plain tar, and OSError, of which
    StorageError where storage is away for minutes.
    """
    shard = Shard(failed=_failed(place))
    try:
        for key, group in groupby(members(place, TEXTS, asked_patiently), _key):
            try:
                shard.rows.append(_row(place, key, list(group), split, id_field, caption_field))
            except _LeftOutError as error:
                shard.left_out.append(f"{key} in {place}: {error}")
    except CutShortError as error:
        shard.cut_short = f"{error}; {len(shard.rows)} samples before that are used"
    except TarError as error:
        raise ManifestError(str(error)) from error
    return shard


class _LeftOutError(Exception):
    """Why a sample is none."""


def _key(member: Member) -> str:
    """The name up to the first dot of its last part, as webdataset reads it."""
    folder, slash, name = member.name.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _row(
    place: str, key: str, group: Sequence[Member], split: str | None, id_field: str | None, caption_field: str
) -> Row:
    facts = _facts(group)
    converted = facts.keys() >= CONVERTED
    entry = "id" if converted else id_field
    identity = key if entry is None else facts.get(entry)
    if identity is None or identity == "":
        raise _LeftOutError(f"its .json has no {entry}")
    captions = _captions(group, facts, caption_field)
    if not captions:
        raise _LeftOutError("it has no caption")
    kind, offset, length = _media(group)
    in_file = facts["split"] if converted else "train"
    return Row(str(identity), place, kind, split or in_file, tuple(captions), offset=offset, length=length)


def _media(group: Sequence[Member]) -> tuple[str, int, int]:
    """Kind, offset and length of the one video, the one picture or the run of numbered pictures of a sample."""
    videos, pictures = ([m for m in group if kind_of(m.name) == kind] for kind in ("video", "image"))
    found = videos or pictures
    if not found:
        raise _LeftOutError("it has no video or picture")
    if not videos and all(NUMBERED.fullmatch(_ending(member)) for member in pictures):
        if any(one.end != other.start for one, other in pairwise(pictures)):
            raise _LeftOutError("its pictures do not follow one another")
        if any(one >= other for one, other in pairwise(map(_number, pictures))):
            raise _LeftOutError(
                "its pictures are not in the order of their numbers; write the tar in that order"
            )
        return "frames", pictures[0].start, pictures[-1].end - pictures[0].start
    if len(found) > 1:
        raise _LeftOutError(f"it has {len(found)} {'videos' if videos else 'pictures that are not numbered'}")
    if not found[0].length:
        raise _LeftOutError(f"its {_ending(found[0])} is empty")
    return "video" if videos else "image", found[0].offset, found[0].length


def _number(picture: Member) -> int:
    return int(_ending(picture).partition(".")[0])


def _ending(member: Member) -> str:
    """All of the name that is not the key, without the dot between them."""
    return PurePosixPath(member.name).name.partition(".")[2]


def _facts(group: Sequence[Member]) -> dict[str, Any]:
    """What the .json says; nothing if there is none."""
    content = next((m.content for m in group if m.name.endswith(".json") and m.content is not None), b"{}")
    try:
        facts = json.loads(content)
    except ValueError as error:  # no JSON, or no Unicode
        raise _LeftOutError(f"its .json cannot be read ({error})") from error
    if not isinstance(facts, dict):
        raise _LeftOutError("its .json is no object")
    return facts


def _captions(group: Sequence[Member], facts: dict[str, Any], caption_field: str) -> list[str]:
    """Those of the .json, else that of the .txt; none that are blank."""
    told = facts["captions"] if facts.keys() >= CONVERTED else facts.get(caption_field)
    texts = told if isinstance(told, list) else [told]
    captions = [text for text in texts if isinstance(text, str) and text.strip()]
    if not captions:
        written = (m.content.decode(errors="replace") for m in group if m.name.endswith(".txt") and m.content)
        captions = [text for text in written if text.strip()]
    return captions


def _failed(place: str) -> dict[str, int]:
    """How many rows of the Parquet file beside a tar are of something else than success, by their status."""
    base, question, options = place.partition("?")
    table = f"{base.removesuffix('.tar')}.parquet{question}{options}"
    source = Source(table)
    if asked_patiently(source, partial(size_of, table)) is None:
        return {}
    try:
        file = pq.ParquetFile(pa.BufferReader(asked_patiently(source, source.read)))
        if "status" not in file.schema_arrow.names:
            return {}
        counts = Counter(file.read(["status"])["status"].to_pylist())
    except pa.ArrowException as error:
        raise ManifestError(
            f"{table} beside the shard cannot be read ({error}); write or remove it"
        ) from error
    return {str(status): count for status, count in counts.items() if status != "success"}
