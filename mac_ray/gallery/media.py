"""The videos and images below a folder, known by their endings.

Links are followed, each real folder once. What starts with a dot is passed over, as file managers do: macOS
leaves a `._clip.mp4` that is no video beside every clip it copies.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from mac_ray.data.kinds import ENDINGS, kind_of


class SearchError(ValueError):
    """A search that cannot be made: the value and the remedy in one sentence."""


@dataclass(frozen=True)
class Media:
    path: str  # below the folder
    kind: str  # video or image
    size: int  # bytes
    modified: int  # ns since 1970


@dataclass(frozen=True)
class Unreadable:
    """A file that is left out of the gallery, or of which a part is."""

    path: str  # below the folder
    reason: str


def media_below(folder: Path) -> tuple[list[Media], list[Unreadable]]:
    """Every video and image below the folder by path, and what the system refuses to open.

    Raises SearchError when there is no such folder, or nothing of the kind in it.
    """
    if not folder.is_dir():
        raise SearchError(f"there is no folder {folder}; give one that holds videos or images")
    found: list[Media] = []
    refused: list[Unreadable] = []

    def refuse(error: OSError) -> None:
        refused.append(Unreadable(os.path.relpath(error.filename, folder), _reason(error)))

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            kind = None if name.startswith(".") else kind_of(name)
            if kind is None:
                continue
            full = Path(place, name)
            path = str(full.relative_to(folder))
            try:
                status = full.stat()
            except OSError as error:
                refused.append(Unreadable(path, _reason(error)))
                continue
            if not os.access(full, os.R_OK):
                # never remembered with the file's content: a permission is given without a trace in it
                refused.append(Unreadable(path, "permission denied"))
            elif stat.S_ISREG(status.st_mode):
                found.append(Media(path, kind, status.st_size, status.st_mtime_ns))
    if not found:
        among = (
            f"; {len(refused)} cannot be opened, {refused[0].path}: {refused[0].reason}" if refused else ""
        )
        raise SearchError(
            f"there is no video or image to read below {folder}{among}; known endings are {ENDINGS}"
        )
    return sorted(found, key=lambda media: media.path), sorted(refused, key=lambda entry: entry.path)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def readable(path: str) -> str:
    """A path as text for people: what is no text, or would move a terminal's cursor, becomes question marks."""
    text = path.encode(errors="replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
