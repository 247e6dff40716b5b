"""Which dataset an annotation file is of, for the sentence that refuses it where another one is expected.

It is told by the start of the file, as the names of files are the first thing that people change.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mac_ray.data.manifest import ManifestError

HEAD = 1 << 16  # bytes
FILES_LOOKED_AT = 50  # of a folder

_YOUTUBE = r"[\w-]{11}"
_LSMDC = r"\d{4}_\S*_\d\d\.\d\d\.\d\d\.\d{3}-\d\d\.\d\d\.\d\d\.\d{3}"
_FLICKR8K = r"\d+_[0-9a-f]{10}\.jpg"
# by dataset, the most particular first; each pattern is looked for in the first bytes, with ^ and $ at line ends
_SIGNS = {
    "WebVid": (r"\A(?=.*\bvideoid\b).*\b(page_dir|contentUrl)\b",),
    "DiDeMo": (r'"(dl_link|download_link|num_segments)"', r"\A\d+@N\d\d_\d+_\w+\.\w*$"),
    "ActivityNet Captions": (rf'\A\s*[{{\[]\s*"v_{_YOUTUBE}"', r'"timestamps": *\[\['),
    "MSR-VTT": (
        r'"video\d{1,4}(\.\w+)?"',
        r"\A\w*,?\w*,?video_id\b.*\s+(ret\d+,msr\d+,)?video\d",
        r"\Avideo\d+$",
    ),
    "MSVD": (
        rf'"{_YOUTUBE}_\d+_\d+(\.avi)?"',
        rf"\A(#.*\n\s*)*{_YOUTUBE}_\d+_\d+(\s|$)",
        r"\AVideoID,Start,End\b",
        rf"\A\x80[\s\S]*{_YOUTUBE}_\d+_\d+",
    ),
    "LSMDC": (rf"^{_LSMDC}(\t|$)",),
    "COCO": (r'"(cocoid|coco_url)"', r"\bCOCO_(train|val)2014_\d"),
    "Flickr8k": (rf"^{_FLICKR8K}(\.\d)?(#\d\t|,|$)", rf'"{_FLICKR8K}"'),
    "Flickr30k": (r"^\d+\.jpg(#\d\t|,|$)", r'"(flickr30k-images/)?\d+\.jpg"'),
    "CC3M or CC12M": (r"\A[^\t\n]+\thttps?://\S+$", r"\Ahttps?://\S+\t", r"\A.*\bthumbnailUrl\b"),
}
_COMPILED = {name: [re.compile(sign, re.MULTILINE) for sign in signs] for name, signs in _SIGNS.items()}


def dataset_of(path: Path) -> str | None:
    """The name of the dataset that an annotation file seems to be of; None when it is like none of those known."""
    with path.open("rb") as file:
        # as latin-1, in which any bytes are text, a pickle's too
        head = file.read(HEAD).removeprefix(codecs.BOM_UTF8).decode("latin-1").replace("\r\n", "\n")
    return next((name for name, signs in _COMPILED.items() if any(sign.search(head) for sign in signs)), None)


def resemblance(place: Path) -> str:
    """The end of a sentence about a file, or a folder of files, that is not as expected; may be empty."""
    if place.is_file():
        name = dataset_of(place)
        return f"; it looks like a file of {name}" if name else ""
    files = sorted(path for path in place.glob("*") if path.is_file())[:FILES_LOOKED_AT]
    names = sorted({name for path in files if (name := dataset_of(path))})
    return f"; the folder has files of {' and of '.join(names)}" if names else ""


def foreign(path: Path, found: str, expected: str) -> ManifestError:
    """The error for a file that `found` was found in, such as "has the keys a, b", where another form is expected."""
    return ManifestError(f"{path} {found}; expected is {expected}{resemblance(path)}")
