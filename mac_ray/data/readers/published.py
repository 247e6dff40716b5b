"""Sizes of splits as published, and the lines that say how what was read differs from them.

Videos vanish and lists circulate in several states, so a difference is told with the ids it is about and never stops
a reader.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mac_ray.data.manifest import Row

log = logging.getLogger(__name__)

NAMED = 20  # ids on one line


@dataclass(frozen=True)
class Published:
    sizes: Mapping[str, int]  # samples by split
    source: str
    captions: Mapping[str, int] = field(default_factory=dict)  # by split, where that is known too

    def compared(self, name: str, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows; after the last one it is said how many there were of each split against the published."""
        samples, captions = Counter[str](), Counter[str]()
        for row in rows:
            samples[row.split] += 1
            captions[row.split] += len(row.captions)
            yield row
        same = _compare(name, "samples", samples, self.sizes, self.source)
        if _compare(name, "captions", captions, self.captions, self.source) and same:
            sizes = ", ".join(f"{size:,} {split}" for split, size in self.sizes.items())
            log.info("%s: as large as published: %s (%s)", name, sizes, self.source)


def _compare(name: str, what: str, found: Counter[str], published: Mapping[str, int], source: str) -> bool:
    """Say what differs; whether nothing does."""
    different = [split for split in published if found[split] != published[split]]
    for split in different:
        log.warning(
            "%s: %s has %s %s; published are %s (%s)",
            *(name, split, f"{found[split]:,}", what, f"{published[split]:,}", source),
        )
    return not different


def left_out(name: str, reason: str, ids: Iterable[str]) -> None:
    """Say which ids of the annotation files are no samples, and why; nothing is said when there are none."""
    every = list(ids)
    if every:
        more = f" and {len(every) - NAMED:,} more" if len(every) > NAMED else ""
        log.warning("%s: %s %s: %s%s", name, f"{len(every):,}", reason, ", ".join(every[:NAMED]), more)
