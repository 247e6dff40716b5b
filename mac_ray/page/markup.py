"""Pieces of HTML: sortable tables, charts with their legends, lists."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mac_ray.page.palette import IN_PAGE, SHAPES
from mac_ray.page.vega import Chart, Series
from mac_ray.quantity import in_short, in_words


@dataclass(frozen=True)
class Cell:
    content: str  # HTML
    value: float | str | None = None  # what it is sorted by; None: it has none
    style: str = ""  # CSS class


NOTHING = Cell('<span class="dim">–</span>')


@dataclass(frozen=True)
class Heading:
    text: str
    numeric: bool = True
    meaning: str = ""  # shown on hover


def text(words: str) -> str:
    return html.escape(words)


def breakable(words: str) -> str:
    """With places where a narrow column may break a name that has no spaces, and none within a number."""
    return re.sub(r"([=_/,]|\.(?!\d))", r"\1<wbr>", text(words))


def sortable(caption: str, headings: Sequence[Heading], lines: Sequence[Sequence[Cell]]) -> str:
    """The first cell of a line names it."""
    head = "".join(_heading(heading) for heading in headings)
    body = "\n".join(_line(number, headings, cells) for number, cells in enumerate(lines))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
    )


def _heading(heading: Heading) -> str:
    numeric = " data-numeric" if heading.numeric else ' class="words"'
    meaning = f' title="{text(heading.meaning)}"' if heading.meaning else ""
    return f'<th scope="col" aria-sort="none"{numeric}{meaning}><button>{text(heading.text)}</button></th>'


def _line(number: int, headings: Sequence[Heading], cells: Sequence[Cell]) -> str:
    parts = []
    for column, (heading, cell) in enumerate(zip(headings, cells, strict=True)):
        tag = 'th scope="row"' if column == 0 else "td"
        value = "" if cell.value is None else text(str(cell.value))
        styles = " ".join(filter(None, ["" if heading.numeric else "words", cell.style]))
        style = f' class="{styles}"' if styles else ""
        parts.append(f'<{tag} data-value="{value}"{style}>{cell.content}</{tag.split()[0]}>')
    return f'<tr data-planned="{number}">{"".join(parts)}</tr>'


def number(value: float | None, form: str, *, suffix: str = "", style: str = "") -> Cell:
    return NOTHING if value is None else Cell(minus(format(value, form)) + suffix, value, style)


def large(value: float | None) -> Cell:
    """With a letter for thousands, millions and so on."""
    return NOTHING if value is None else Cell(in_short(value), value)


def duration(seconds: float | None) -> Cell:
    if seconds is None:
        return NOTHING
    return Cell(in_words(seconds), seconds)


def minus(formatted: str) -> str:
    return formatted.replace("-", "−")


def figure(chart: Chart) -> str:
    style = ' class="wide"' if chart.wide else ""
    return (
        f"<figure{style}><figcaption><strong>{text(chart.title)}</strong>{text(chart.caption)}</figcaption>\n"
        f'<div class="chart" id="{chart.name}" role="img" aria-label="{text(chart.title)}" '
        f'style="height:{chart.height}px"></div>\n{_legend(chart.series)}</figure>\n'
    )


def _legend(series: Series) -> str:
    entries = "".join(
        f'<li><svg viewBox="-1 -1 2 2" aria-hidden="true"><path d="{SHAPES[number % len(SHAPES)]}" '
        f'style="fill:{IN_PAGE.series[number % len(SHAPES)]}"/></svg>{text(label)}</li>'
        for label, number in series.items()
    )
    return f'<ul class="legend">{entries}</ul>\n' if series else ""


def facts(values: Mapping[str, str]) -> str:
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in values.items())
    return f"<dl>{listed}</dl>\n"


def listed(sentences: Sequence[str], style: str = "") -> str:
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{style}">{items}</ul>\n' if sentences else ""
