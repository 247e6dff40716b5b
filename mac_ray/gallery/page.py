"""The results as one HTML file: thumbnails are inside it, so it can be sent to anyone.

A thumbnail links to the file at the window's start, which browsers play from there.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from mac_ray.data.decode import DecodeError
from mac_ray.gallery.media import Unreadable, readable
from mac_ray.gallery.ranking import Hit
from mac_ray.gallery.windows import Window, shown, thumbnail

LONGEST_SIDE = 480  # pixels: sharp on a phone, about 20 kB each
JPEG_QUALITY = 80

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d9dce1, #363b44); --card: light-dark(#fff, #1d2026);
  --page: light-dark(#f4f5f7, #121418); --text: light-dark(#15181d, #e9ebee); --dim: light-dark(#5a626e, #9aa3b0) }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 1rem/1.45 system-ui, sans-serif }
header { display: flex; gap: 1rem; align-items: center; margin-bottom: 1.25rem }
header img { max-height: 6rem; max-width: 40%; border-radius: .5rem }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere }
p { margin: .25rem 0 }
.dim, .rank { color: var(--dim) }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; margin: 0; padding: 0;
  list-style: none }
li { border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; background: var(--card) }
li a { display: block; color: inherit; text-decoration: none }
li a:hover .path, li a:focus-visible .path { text-decoration: underline }
.picture { position: relative; aspect-ratio: 16 / 9; background: light-dark(#e6e8ec, #0a0b0d) }
.picture > * { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain }
.picture > span { padding: .8rem; overflow: hidden }
.words { padding: .6rem .8rem .7rem }
.path { overflow-wrap: anywhere; font-weight: 600 }
.rank { margin-right: .5rem; font-weight: 400 }
.facts { display: flex; justify-content: space-between; color: var(--dim); font-variant-numeric: tabular-nums }
details { margin-top: 1.5rem }
details ul { margin: .5rem 0 0; padding: 0; display: grid; gap: .4rem }
details li { padding: .4rem .8rem; overflow-wrap: anywhere; list-style: none }
"""


def page(
    title: str,
    picture: str,
    summary: str,
    folder: Path,
    hits: Sequence[Hit],
    unreadable: Sequence[Unreadable],
) -> str:
    """The whole page; `picture` is a data URI of the query, or empty for words."""
    head = f'<img src="{picture}" alt="">' if picture else ""
    cards = "\n".join(_card(folder, hit) for hit in hits)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n"
        f'<header>{head}<div><h1>{_text(title)}</h1>\n<p class="dim">{_text(summary)}</p></div></header>\n'
        f"<ol>\n{cards}\n</ol>\n{_listed(unreadable)}</html>\n"
    )


def picture_of(path: Path, kind: str, window: Window | None = None) -> str:
    """The middle frame of a window, or of the whole file, as a data URI. Raises DecodeError."""
    file = io.BytesIO()
    Image.fromarray(thumbnail(path, kind, window, LONGEST_SIDE)).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _card(folder: Path, hit: Hit) -> str:
    path = folder / hit.path
    try:
        inside = f'<img src="{picture_of(path, hit.kind, hit.window)}" alt="" loading="lazy">'
    except DecodeError as error:  # it was there when it was embedded
        inside = f'<span class="dim">{_text(error.reason)}</span>'
    # from its bytes, which need not be text
    address = "file://" + quote(os.fsencode(path.absolute()))
    if hit.window.end:
        address += f"#t={hit.window.start:g},{hit.window.end:g}"
    return (
        f'<li><a href="{html.escape(address)}"><div class="picture">{inside}</div><div class="words">'
        f'<div class="path"><span class="rank">{hit.rank}</span>{_text(hit.path)}</div>'
        f'<div class="facts"><span>{shown(hit.window)}</span><span>{hit.score:.3f}</span></div></div></a></li>'
    )


def _listed(unreadable: Sequence[Unreadable]) -> str:
    if not unreadable:
        return ""
    lines = "\n".join(f"<li>{_text(entry.path)}: {_text(entry.reason)}</li>" for entry in unreadable)
    count = len(unreadable)
    files = f"{count} file{'s' if count > 1 else ''}"
    return f'<details><summary class="dim">{files} not readable, or not whole</summary><ul>\n{lines}\n</ul></details>\n'


def _text(words: str) -> str:
    return html.escape(readable(words))
