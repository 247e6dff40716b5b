"""The charts of a report, as Vega-Lite: for the page, where they answer to the pointer, and as files.

The specification is the same for both but for its colours (see palette) and its legend, which in the page is HTML
so that it wraps on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mac_ray.ablation.plan import short_name
from mac_ray.ablation.report.curves import CurvePoint
from mac_ray.ablation.report.palette import MOST_SERIES, SHAPES, Palette
from mac_ray.ablation.table import Table, TableRow
from mac_ray.ablation.verdict import metric_name

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is fetched from there
LONGEST_LABEL = 26  # letters on an axis
MOST_DOTS = 40  # rows in the overview
FEWEST_VALUES = 3  # of a factor that has a curve
UNITS = {"samples": "samples", "flops": "FLOPs of training", "seconds": "seconds of training"}


@dataclass(frozen=True)
class Chart:
    name: str  # of its file
    title: str
    caption: str
    spec: Spec  # without size, colours of the theme
    height: int  # pixels
    series: tuple[str, ...] = ()  # labels with colours and shapes in their order
    wide: bool = False  # takes the whole width of the page


def charts(table: Table, points: Sequence[CurvePoint], palette: Palette) -> list[Chart]:
    """Every chart that the numbers allow."""
    drawn = [overview(table, palette)] if table.finished else []
    if factor := numeric_factor(table):
        drawn.append(against_factor(table, factor, palette))
    if points:
        drawn += [while_training(table, points, spent, palette) for spent in UNITS]
    drawn += [against_cost(table, cost, palette) for cost in ("flops", "seconds") if _priced(table, cost)]
    if table.agreement is not None:
        drawn.append(against_published(table, palette))
    return drawn


def shown_rows(table: Table) -> list[str]:
    """The rows that charts of many lines show: all, or the best ones and the baseline, in the table's order."""
    sign = -1 if table.maximize else 1
    best = sorted(
        table.finished,
        key=lambda row: (row.label != table.baseline, sign * row.metrics[table.metric].mean),
    )
    kept = {row.label for row in best[:MOST_SERIES]}
    return [row.label for row in table.finished if row.label in kept]


# ---------------------------------------------------------------- the charts


def overview(table: Table, palette: Palette) -> Chart:
    """Each row's mean and interval."""
    metric = metric_name(table.metric)
    sign = -1 if table.maximize else 1
    rows = table.finished
    if len(rows) > MOST_DOTS:
        best = sorted(
            rows, key=lambda row: (row.label != table.baseline, sign * row.metrics[table.metric].mean)
        )
        rows = [row for row in table.finished if row in best[:MOST_DOTS]]
    names = _shortened([row.label for row in rows])
    data = [_dot(table, row) | {"name": name} for row, name in zip(rows, names, strict=True)]
    of_baseline = [dot for dot in data if dot["row"] == table.baseline]
    axis = {"field": "name", "type": "nominal", "sort": None, "title": None}
    x = _quantity("mean", metric)
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "color": palette.accent},
            "encoding": {"y": axis, "x": _quantity("low", metric), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": palette.accent},
            "encoding": {"y": axis, "x": x, "tooltip": _tooltip(metric)},
        },
    ]
    if of_baseline:
        rule = {"type": "rule", "strokeDash": [4, 4], "color": palette.dim}
        layers.insert(
            0,
            {"data": {"values": of_baseline}, "mark": rule, "encoding": {"x": _quantity("mean", metric)}},
        )
    left_out = len(table.finished) - len(rows)
    return Chart(
        "rows",
        _capital(f"{metric} of each row"),
        "Means over seeds with 95% intervals over seeds and test samples; dashed, the baseline."
        + (f" The {left_out} worst rows are left out." if left_out else ""),
        {"data": {"values": data}, "layer": layers},
        height=max(120, 26 * len(rows) + 50),
        wide=True,
    )


def against_factor(table: Table, factor: str, palette: Palette) -> Chart:
    name, title = metric_name(table.metric), short_name(factor)
    others = {
        row.label: ", ".join(
            f"{short_name(path)}={value}" for path, value in row.values.items() if path != factor
        )
        for row in table.finished
    }
    series = tuple(dict.fromkeys(others[row.label] for row in table.finished if _is_number(row, factor)))
    data = [
        _dot(table, row) | {"value": row.values[factor], "series": others[row.label]}
        for row in table.finished
        if _is_number(row, factor)
    ]
    several = len(series) > 1
    return Chart(
        "factor",
        _capital(f"{name} against {title}"),
        "Means over seeds; the band is the 95% interval over seeds and test samples.",
        _lines(data, "value", factor, name, series, palette, form="~g"),
        height=300,
        series=series if several else (),
    )


def while_training(table: Table, points: Sequence[CurvePoint], spent: str, palette: Palette) -> Chart:
    name = metric_name(table.metric)
    scale, unit = _unit(spent, max(point.spent[spent] for point in points))
    data = [
        {
            "row": point.row,
            "series": point.row,
            "value": point.spent[spent] / scale,
            "mean": point.mean,
            "low": point.low,
            "high": point.high,
            "step": point.step,
        }
        for point in points
    ]
    series = tuple(dict.fromkeys(point.row for point in points))
    left_out = len(table.finished) - len(series)
    return Chart(
        f"training_{spent}",
        f"Validation {name} against {UNITS[spent].split()[0]}",
        "Means over seeds; the band is their range."
        + (f" The {left_out} worst rows are left out." if left_out else ""),
        _lines(data, "value", unit, name, series, palette),
        height=280,
        series=series,
    )


def against_cost(table: Table, cost: str, palette: Palette) -> Chart:
    """Rows by score and cost; the line joins those that none beats in both."""
    name = metric_name(table.metric)
    rows = _priced(table, cost)
    scale, unit = _unit(cost, max(row.costs[cost] for row in rows))
    front = {row.label for row in pareto_front(table, cost)}
    data = [
        _dot(table, row)
        | {"value": row.costs[cost] / scale, "series": row.label, "front": row.label in front}
        for row in rows
    ]
    many = len(rows) > MOST_SERIES
    series = () if many else tuple(row.label for row in rows)
    x = _quantity("value", unit, padding=12)
    colour = {"value": palette.accent} if many else _colour(series, palette)
    marks: Spec = {"type": "point", "filled": True, "size": 90, "opacity": 1}
    encoding: Spec = {
        "x": x,
        "y": _quantity("mean", name),
        "color": colour,
        "tooltip": [*_tooltip(name), {"field": "value", "title": unit, "format": ".3~s"}],
    }
    if not many:
        encoding["shape"] = _shape(series)
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.front"}],
            "mark": {"type": "line", "interpolate": "linear", "color": palette.dim, "strokeDash": [4, 4]},
            "encoding": {"x": x, "y": _quantity("mean", name), "order": {"field": "value"}},
        },
        {"mark": marks, "encoding": encoding},
    ]
    if not many:
        interval: Spec = {
            "x": x,
            "y": _quantity("low", name),
            "y2": {"field": "high"},
            "color": colour,
        }
        layers.insert(1, {"mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6}, "encoding": interval})
    return Chart(
        f"pareto_{cost}",
        _capital(f"{name} against {UNITS[cost]}"),
        f"Means{'' if many else ' with 95% intervals'}; the dashed line joins the rows that no other beats in both "
        "score and cost.",
        {"data": {"values": data}, "layer": layers},
        height=300,
        series=series,
    )


def against_published(table: Table, palette: Palette) -> Chart:
    name = metric_name(table.metric)
    rows = [row for row in table.finished if table.metric in row.published][:MOST_SERIES]
    series = tuple(row.label for row in rows)
    data = [_dot(table, row) | {"value": row.published[table.metric], "series": row.label} for row in rows]
    x = _quantity("value", f"published {name}", padding=12)
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {
                "x": x,
                "y": _quantity("low", name),
                "y2": {"field": "high"},
                "color": _colour(series, palette),
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": x,
                "y": _quantity("mean", name),
                "color": _colour(series, palette),
                "shape": _shape(series),
                "tooltip": [*_tooltip(name), {"field": "value", "title": "published", "format": ".1f"}],
            },
        },
    ]
    return Chart(
        "published",
        "Ours against published",
        f"{table.source}: other data, so the order is compared, not the values.",
        {"data": {"values": data}, "layer": layers},
        height=300,
        series=series,
    )


# ---------------------------------------------------------------- what is drawn


def numeric_factor(table: Table) -> str | None:
    """The dotted path with the most different numbers over the finished rows, if there are enough for a curve."""
    values: dict[str, set[float]] = {}
    for row in table.finished:
        for path in row.values:
            if _is_number(row, path):
                values.setdefault(path, set()).add(row.values[path])
    enough = [path for path in values if len(values[path]) >= FEWEST_VALUES]
    return max(enough, key=lambda path: len(values[path]), default=None)


def pareto_front(table: Table, cost: str) -> list[TableRow]:
    """Rows than which no other is at least as good and as cheap, and better or cheaper; cheapest first."""
    sign = 1 if table.maximize else -1
    front: list[TableRow] = []
    for row in sorted(
        _priced(table, cost),
        key=lambda row: (row.costs[cost], -sign * row.metrics[table.metric].mean),
    ):
        mean = sign * row.metrics[table.metric].mean
        if not front or mean > sign * front[-1].metrics[table.metric].mean:
            front.append(row)
    return front


def _priced(table: Table, cost: str) -> list[TableRow]:
    return [row for row in table.finished if cost in row.costs]


def _shortened(labels: Sequence[str]) -> list[str]:
    """Labels that fit beside a chart on a phone: without their middles, and numbered where that makes them equal."""
    end = LONGEST_LABEL // 2
    short = [
        label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - end - 1]}…{label[-end:]}"
        for label in labels
    ]
    return [f"{number + 1}: {name}" if short.count(name) > 1 else name for number, name in enumerate(short)]


def _is_number(row: TableRow, path: str) -> bool:
    value = row.values.get(path)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dot(table: Table, row: TableRow) -> Spec:
    value = row.metrics[table.metric]
    seeds = f"{len(row.by_seed)} of {row.planned}"
    return {"row": row.label, "mean": value.mean, "low": value.low, "high": value.high, "seeds": seeds}


def _unit(cost: str, largest: float) -> tuple[float, str]:
    """What to divide by, and the title of the axis."""
    if cost == "seconds" and largest > 7200:
        return 3600.0, "hours of training"
    if cost == "seconds" and largest > 600:
        return 60.0, "minutes of training"
    return 1.0, UNITS[cost]


# ---------------------------------------------------------------- Vega-Lite


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
    """With a size, a title and, where there are several series, a legend."""
    spec = themed(chart.spec, palette) | {
        "width": 640,
        "height": chart.height,
        "background": palette.paper,
        "padding": 12,
        "title": {"text": chart.title, "color": palette.ink, "anchor": "start", "fontSize": 14},
    }
    if chart.series:
        spec["config"]["legend"] = {
            "orient": "bottom",
            "columns": 3,
            "title": None,
            "labelLimit": 220,
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


def _lines(
    data: Sequence[Mapping[str, Any]],
    x: str,
    title: str,
    name: str,
    series: Sequence[str],
    palette: Palette,
    form: str = "~s",
) -> Spec:
    horizontal = _quantity(x, title, form)
    colour = _colour(series, palette)
    return {
        "data": {"values": list(data)},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.16},
                "encoding": {
                    "x": horizontal,
                    "y": _quantity("low", name),
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": horizontal, "y": _quantity("mean", name), "color": colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {
                    "x": horizontal,
                    "y": _quantity("mean", name),
                    "color": colour,
                    "shape": _shape(series),
                    "tooltip": [
                        *_tooltip(name),
                        {"field": x, "title": title, "format": f".3{form}"},
                    ],
                },
            },
        ],
    }


def _quantity(field: str, title: str, form: str = "~s", padding: int = 0) -> Spec:
    """`padding`: pixels between the outermost points and the ends of the axis."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, "nice": True, "padding": padding},
        "axis": {"format": form},
    }


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _tooltip(name: str) -> list[Spec]:
    return [
        {"field": "row", "title": "row"},
        {"field": "mean", "title": name, "format": ".1f"},
        {"field": "low", "title": "from", "format": ".1f"},
        {"field": "high", "title": "to", "format": ".1f"},
    ]


def _colour(series: Sequence[str], palette: Palette) -> Spec:
    return _series(series, palette.series)


def _shape(series: Sequence[str]) -> Spec:
    return _series(series, SHAPES)


def _series(series: Sequence[str], given: Sequence[str]) -> Spec:
    chosen = [given[number % len(given)] for number in range(len(series))]
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(series), "range": chosen},
        "legend": None,
    }
