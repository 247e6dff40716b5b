"""Media files by their names, wherever below a folder the archives of a dataset were unpacked to.

A name is looked up whole: ids of several datasets have dots in them, which `Path.stem` takes for endings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mac_ray.data.kinds import VIDEOS

# those that datasets are spread with come first
VIDEO_ENDINGS = tuple(dict.fromkeys((".mp4", ".avi", ".mkv", ".webm", ".mov", *VIDEOS)))


class MediaFolder:
    """The files below a folder, listed once; links to folders are followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_name: dict[str, Path] = {}
        # of equal names the nearest to the folder counts
        for place, names in sorted(walked(folder), key=lambda found: found[0].count(os.sep)):
            for name in names:
                self._by_name.setdefault(_with_small_ending(name), Path(place, name))

    def find(self, stems: Iterable[str], endings: Iterable[str] = VIDEO_ENDINGS, usual: str = "") -> Path:
        """The first file there is: each stem with the first ending, then with the second and so on.

        Without any it is the path that the first would have in the folder `usual`, for `prepare` to name as missing.
        """
        names = [f"{stem}{ending}" for ending in endings for stem in stems]
        known = map(_with_small_ending, names)
        there = (self._by_name[name] for name in known if name in self._by_name)
        return next(there, self.folder / usual / names[0])


def _with_small_ending(name: str) -> str:
    """CLIP.MP4 is CLIP.mp4."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{dot}{ending.lower()}" if dot else name


def walked(folder: Path | str) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files), in the order of names; none is entered twice, so links may form a ring."""
    entered: set[str] = set()
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            below.clear()
            continue
        entered.add(real)
        below.sort()
        yield place, names
