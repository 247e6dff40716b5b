"""What charts are made of in Vega-Lite: marks, axes, series, and the look that all share.

The specification is the same for the page and for files but for its colours (see palette) and its legend, which in
the page is HTML so that it wraps on a phone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mac_ray.page.palette import SHAPES, Palette

Spec = dict[str, Any]
Series = Mapping[str, int]  # labels with the number of their colour and shape
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is fetched from there
LONGEST_LABEL = 26  # letters on an axis
CAPTION_LETTERS = 92  # of a line above the plot of a file
# how d3 writes the numbers of an axis: counts; scores and times; what spans decades ("~g" else has 10 as 1e+1)
LARGE, PLAIN, DECADES = "~s", "~f", "~g"
LIMITS = ("95% from", "to")


@dataclass(frozen=True)
class Chart:
    name: str  # of its file
    title: str
    caption: str
    spec: Spec  # without size, colours of the theme
    height: int  # pixels
    series: Series = field(default_factory=dict)  # what its legend names
    wide: bool = False  # takes the whole width of the page


def themed(spec: Spec, palette: Palette) -> Spec:
    """With the look that all charts share."""
    axis = {
        "domainColor": palette.dim,
        "gridColor": palette.grid,
        "tickColor": palette.dim,
        "labelColor": palette.dim,
        "titleColor": palette.ink,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelLimit": 200,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    }
    return {
        "$schema": SCHEMA,
        "background": None,
        "autosize": {"type": "fit", "contains": "padding", "resize": True},
        "config": {
            "font": "system-ui, 'Liberation Sans', sans-serif",
            "view": {"stroke": None},
            "axis": axis,
            "axisQuantitative": {"tickCount": 6},
        },
        **spec,
    }


def as_file(chart: Chart, palette: Palette) -> Spec:
    """With a size, a title over its caption and, where there are several series, a legend."""
    spec = themed(chart.spec, palette) | {
        "width": 560,
        "height": chart.height,
        "background": palette.paper,
        "padding": 12,
        "autosize": "pad",  # the size is that of the plot, however much the legend needs below
        "title": {
            "text": chart.title,
            "color": palette.ink,
            "anchor": "start",
            "fontSize": 14,
            "subtitle": textwrap.wrap(chart.caption, CAPTION_LETTERS),
            "subtitleColor": palette.dim,
            "subtitleFontSize": 11,
            "subtitlePadding": 5,
            "offset": 12,
        },
    }
    if chart.series:
        columns = 3 if max(map(len, chart.series)) <= LONGEST_LABEL else 1
        spec["config"]["legend"] = {
            "orient": "bottom",
            "columns": columns,
            "title": None,
            "labelLimit": 600 // columns,
            "symbolOpacity": 1,
        }
    return _with_legend(spec) if chart.series else spec


def _with_legend(value: Any) -> Any:
    """Charts of the page have none: theirs is HTML."""
    match value:
        case dict():
            return {
                key: {} if key == "legend" and item is None else _with_legend(item)
                for key, item in value.items()
            }
        case list():
            return [_with_legend(item) for item in value]
    return value


def lines(
    data: Sequence[Mapping[str, Any]],
    x: str,
    title: str,
    name: str,
    series: Series,
    palette: Palette,
    form: str = PLAIN,
    is_log: bool = False,
    limits: tuple[str, str] = LIMITS,
) -> Spec:
    """`title` is of the horizontal axis, `name` of the other; `limits`: what the band's are called."""
    horizontal = quantity(x, title, form)
    if is_log:
        horizontal["scale"] |= {"type": "log"}
    colour = colour_of(series, palette)
    return {
        "data": {"values": list(data)},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.16},
                "encoding": {
                    "x": horizontal,
                    "y": quantity("low", name),
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": horizontal, "y": quantity("mean", name), "color": colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {
                    "x": horizontal,
                    "y": quantity("mean", name),
                    "color": colour,
                    "shape": shape_of(series),
                    "tooltip": [
                        *tooltip(name, limits),
                        {"field": x, "title": title, "format": in_tooltip(form)},
                    ],
                },
            },
        ],
    }


def quantity(field: str, title: str, form: str = PLAIN, padding: int = 0) -> Spec:
    """`padding`: pixels between the outermost points and the ends of the axis.

    `form` is d3's: LARGE writes millions as M, but also what is below 1 in thousandths, 0.4 as 400m.
    """
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, "nice": True, "padding": padding},
        "axis": {"format": form},
    }


def in_tooltip(form: str) -> str:
    """A number alone, of an axis of this form."""
    return ".3~s" if form == LARGE else ".4~r"


def tooltip(name: str, limits: tuple[str, str] = LIMITS) -> list[Spec]:
    low, high = limits
    return [
        {"field": "row", "title": "row"},
        {"field": "mean", "title": name, "format": ".1f"},
        {"field": "low", "title": low, "format": ".1f"},
        {"field": "high", "title": high, "format": ".1f"},
    ]


def numbered(labels: Iterable[str]) -> Series:
    return {label: number for number, label in enumerate(labels)}


def colour_of(series: Series, palette: Palette) -> Spec:
    return _by_number(series, palette.series)


def shape_of(series: Series) -> Spec:
    return _by_number(series, SHAPES)


def _by_number(series: Series, given: Sequence[str]) -> Spec:
    return {
        "field": "series",
        "type": "nominal",
        "scale": {
            "domain": list(series),
            "range": [given[number % len(given)] for number in series.values()],
        },
        "legend": None,
    }
