"""Pieces of HTML that only sweeps have: intervals and pictures of runs."""

from __future__ import annotations

from collections.abc import Sequence

from mac_ray.ablation.report.pictures import Picture
from mac_ray.ablation.table import Interval
from mac_ray.page.markup import NOTHING, Cell, minus, text


def interval(found: Interval | None, *, signed: bool = False, style: str = "") -> Cell:
    if found is None:
        return NOTHING
    form = "+.1f" if signed else ".1f"
    low, mean, high = (minus(format(value, form)) for value in (found.low, found.mean, found.high))
    return Cell(f'{mean}<span class="range">[{low}, {high}]</span>', found.mean, style)


def gallery(pictures: Sequence[Picture]) -> str:
    shown = "\n".join(
        f"<figure><figcaption><strong>{text(picture.title)}</strong></figcaption>"
        f'<div tabindex="0" role="region" aria-label="{text(picture.title)}"><img src="{picture.source}" alt="" '
        f'width="{picture.size[0]}" height="{picture.size[1]}"></div></figure>'
        for picture in pictures
    )
    return f'<div class="pictures">\n{shown}\n</div>\n'
