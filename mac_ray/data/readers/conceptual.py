"""What CC3M and CC12M have in common: pairs of a caption and a URL, and images named by the URL's crc32.

The published files have no header; lists of what was downloaded have one. A crc32 has 32 bits, so about 1,300 pairs
of CC3M's URLs and 18,000 of CC12M's share theirs: one file for two images, and nothing on the disk tells which of the
two it is. Both are left out.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mac_ray.data.readers import files
from mac_ray.data.readers.gathered import gathered
from mac_ray.data.readers.published import left_out
from mac_ray.data.readers.recognise import foreign

log = logging.getLogger(__name__)

URL_COLUMNS = ("url", "thumbnailUrl", "image_url")
URL = re.compile(r"https?://")
EXPECTED = "rows of a caption, a tab and a URL (or the other way round), or a table with such columns"


class Pair(NamedTuple):
    caption: str
    url: str

    @property
    def file(self) -> str:
        return str(zlib.crc32(self.url.encode()))


def captions_by_file(name: str, path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(file name of the image, captions) by URL; `name` is that of the set, for what is said of the rest."""
    in_doubt: list[str] = []
    silent: list[str] = []
    num_joined = 0
    for same_file in gathered(partial(pairs, path), lambda pair: pair.file, path):
        urls = {pair.url: None for pair in same_file}
        if len(urls) > 1:
            in_doubt.extend(urls)
            continue
        captions = tuple(pair.caption for pair in same_file if pair.caption.strip())
        if not captions:
            silent.extend(urls)
            continue
        num_joined += len(captions) - 1
        yield same_file[0].file, captions
    if num_joined:
        log.info("%s: %s rows of %s are further captions of an image", name, f"{num_joined:,}", path.name)
    left_out(name, f"URLs of {path.name} share their crc32 with another one and are left out", in_doubt)
    left_out(name, f"URLs of {path.name} have no caption and are left out", silent)


def pairs(path: Path) -> Iterator[Pair]:
    """The rows of a file, with or without a header, separated by tabs or commas."""
    _, first = next(files.numbered(path, EXPECTED), (1, ""))
    header = [name.strip('" ') for name in re.split(r"[\t,]", first.strip())]
    url = next((name for name in URL_COLUMNS if name in header), None)
    if url and "caption" in header:
        # a header may have been put on top of the published file, in which quotes are letters
        if "\t" in first and url != "thumbnailUrl":
            yield from _as_written(path, header.index("caption"), header.index(url), len(header))
            return
        for _, row in files.table(path, ("caption", url), "\t" if "\t" in first else ","):
            yield Pair(row["caption"], row[url])
        return
    url_first = URL.match(first.partition("\t")[2]) is None and URL.match(first) is not None
    for number, line in files.numbered(path, EXPECTED):
        fields = line.rstrip("\r\n").split("\t")
        if fields == [""]:
            continue
        if len(fields) != 2 or not (number > 1 or URL.match(fields[0 if url_first else 1])):
            raise foreign(path, f"has the line {number} {line[:80]!r}", EXPECTED)
        yield Pair(*(reversed(fields) if url_first else fields))


def _as_written(path: Path, caption: int, url: int, columns: int) -> Iterator[Pair]:
    """Of lines between tabs, below a header of so many columns."""
    for number, line in files.numbered(path, EXPECTED):
        fields = line.rstrip("\r\n").split("\t")
        if number == 1 or fields == [""]:
            continue
        if len(fields) != columns:
            raise foreign(path, f"has the line {number} {line[:80]!r}", EXPECTED)
        yield Pair(fields[caption], fields[url])
