"""The token files of Flickr8k and Flickr30k: a line per caption, of the form name.jpg#0<TAB>caption."""

from __future__ import annotations

from pathlib import Path

from mac_ray.data.readers import files
from mac_ray.data.readers.recognise import foreign

EXPECTED = "lines of the form name.jpg#0<TAB>caption"


def captions_of(path: Path) -> dict[str, list[str]]:
    """Captions by image name, in file order."""
    captions: dict[str, list[str]] = {}
    for _, line in files.numbered(path, EXPECTED):
        if not line.strip():
            continue
        key, tab, caption = line.strip().partition("\t")
        image, sharp, number = key.rpartition("#")
        if not (tab and sharp and number.isdigit()):
            raise foreign(path, f"has the line {line.strip()[:80]!r}", EXPECTED)
        captions.setdefault(image, []).append(caption)
    return captions
