"""The charts of a report: which there are, and what each shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mac_ray.ablation.plan import short_names
from mac_ray.ablation.report.chosen_rows import (
    best_lines,
    best_rows,
    costs_differ,
    numeric_factors,
    pareto_front,
    priced,
    series_of,
)
from mac_ray.ablation.report.curves import CurvePoint
from mac_ray.ablation.table import Table, TableRow
from mac_ray.ablation.verdict import axis_name, is_shown, metric_name, shown_p
from mac_ray.page.palette import MOST_SERIES, Palette
from mac_ray.page.vega import (
    DECADES,
    LARGE,
    LONGEST_LABEL,
    PLAIN,
    Chart,
    Spec,
    colour_of,
    in_tooltip,
    lines,
    numbered,
    quantity,
    shape_of,
    tooltip,
)

MOST_DOTS = 40  # rows in the overview
UNITS = {"samples": "samples", "flops": "FLOPs of training", "seconds": "seconds of training"}
CALLED = {"samples": "samples", "flops": "FLOPs", "seconds": "time"}
FORMS = {"samples": LARGE, "flops": LARGE, "seconds": PLAIN}
FAR_APART = 30.0  # the largest value of a factor to the smallest, from where on its axis is logarithmic


def charts(table: Table, points: Sequence[CurvePoint], palette: Palette) -> list[Chart]:
    """Every chart that the numbers allow."""
    drawn = [overview(table, palette)] if table.finished else []
    if any(row.comparison for row in table.rows):
        drawn.append(differences(table, palette))
    for factor, series in numeric_factors(table).items():
        drawn.append(against_factor(table, factor, series, palette))
    if points:
        drawn += [while_training(table, points, spent, palette) for spent in UNITS]
    drawn += [
        against_cost(table, cost, palette) for cost in ("flops", "seconds") if costs_differ(table, cost)
    ]
    if table.agreement is not None:
        drawn.append(against_published(table, palette))
    return drawn


def overview(table: Table, palette: Palette) -> Chart:
    """Each row's mean and interval."""
    metric = metric_name(table.metric)
    rows = best_rows(table, MOST_DOTS)
    data = [_dot(table, row) for row in rows]
    layers = _dots_with_intervals(axis_name(table.metric), tooltip(metric), {"value": palette.accent})
    of_baseline = baseline_rule(table, "x", palette)
    left_out = len(table.finished) - len(rows)
    return Chart(
        "rows",
        _capital(f"{metric} of each row"),
        "Means over seeds with 95% intervals over seeds and test samples"
        + ("; dashed, the baseline." if of_baseline else ".")
        + (" Rows are told apart by their differences, not by intervals that meet." if of_baseline else "")
        + (f" The {left_out} worst rows are left out." if left_out else ""),
        {"data": {"values": _named(data)}, "layer": of_baseline + layers},
        height=max(120, 26 * len(rows) + 50),
        wide=True,
    )


def differences(table: Table, palette: Palette) -> Chart:
    """What each row has more than the baseline, or less."""
    metric = metric_name(table.metric)
    rows = [(row, row.comparison) for row in best_rows(table, MOST_DOTS) if row.comparison]
    data: list[Spec] = [
        {
            "row": row.label,
            "mean": pair.difference.mean,
            "low": pair.difference.low,
            "high": pair.difference.high,
            "p": shown_p(pair.adjusted),
            "apart": is_shown(pair),
        }
        for row, pair in rows
    ]
    colour = {"condition": {"test": "datum.apart", "value": palette.accent}, "value": palette.dim}
    told: Spec = {"field": "p", "title": "p, Holm"}
    title = f"{axis_name(table.metric)}, difference from the baseline"
    zero: Spec = {
        "data": {"values": [{"mean": 0}]},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": palette.dim},
        "encoding": {"x": quantity("mean", title)},
    }
    some = any(is_shown(pair) for _, pair in rows)
    left_out = len(table.finished) - 1 - len(rows)
    return Chart(
        "differences",
        _capital(f"{metric} against the baseline {table.baseline!r}"),
        "Means over pairs of runs of one seed, each with the 95% interval of that comparison by itself; "
        + ("in colour, told apart" if some else "none is told apart")
        + " by p after Holm's correction for all."
        + (f" {left_out} rows are left out." if left_out > 0 else ""),
        {
            "data": {"values": _named(data)},
            "layer": [zero, *_dots_with_intervals(title, [*tooltip(metric), told], colour)],
        },
        height=max(120, 26 * len(rows) + 50),
        wide=True,
    )


def _named(data: Sequence[Spec]) -> list[Spec]:
    """With names of rows that fit beside a chart."""
    names = _shortened([dot["row"] for dot in data])
    return [dot | {"name": name} for dot, name in zip(data, names, strict=True)]


def _dots_with_intervals(title: str, told: Sequence[Spec], colour: Spec) -> list[Spec]:
    """A line for each name."""
    axis = {"field": "name", "type": "nominal", "sort": None, "title": None}
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"y": axis, "x": quantity("low", title), "x2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"y": axis, "x": quantity("mean", title), "color": colour, "tooltip": list(told)},
        },
    ]


def baseline_rule(table: Table, along: str, palette: Palette) -> list[Spec]:
    """A dashed line at the baseline's mean; `along`: the axis that has the metric. Empty until it has finished."""
    found = [_dot(table, row) for row in table.finished if row.label == table.baseline]
    rule = {"type": "rule", "strokeDash": [4, 4], "color": palette.dim}
    encoding = {along: quantity("mean", axis_name(table.metric))}
    return [{"data": {"values": found}, "mark": rule, "encoding": encoding}] if found else []


def against_factor(
    table: Table, factor: str, rows_of: Mapping[str, Sequence[TableRow]], palette: Palette
) -> Chart:
    name = metric_name(table.metric)
    title = short_names(path for row in table.rows for path in row.values)[factor]
    drawn = best_lines(table, rows_of)
    left_out = len(rows_of) - len(drawn)
    values = [row.values[factor] for rows in drawn.values() for row in rows]
    is_log = min(values) > 0 and max(values) / min(values) > FAR_APART
    data = [
        _dot(table, row) | {"value": row.values[factor], "series": label}
        for label, rows in drawn.items()
        for row in rows
    ]
    series = numbered(drawn)
    form = DECADES if is_log else PLAIN
    spec = lines(data, "value", factor, axis_name(table.metric), series, palette, form, is_log)
    # such as of hiding nothing, which has no ratio
    apart = all(row.label != table.baseline for rows in drawn.values() for row in rows)
    of_baseline = baseline_rule(table, "y", palette) if apart else []
    return Chart(
        f"against_{factor.replace('.', '_')}",
        _capital(f"{name} against {title}"),
        "Means over seeds; the band is the 95% interval over seeds and test samples"
        + (f"; dashed, the baseline {table.baseline!r}." if of_baseline else ".")
        + (f" The {left_out} worst of {len(rows_of)} lines are left out." if left_out else ""),
        spec | {"layer": of_baseline + spec["layer"]},
        height=300,
        series=series if len(drawn) > 1 else {},
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
    series = series_of(table, dict.fromkeys(point.row for point in points))
    left_out = len(table.finished) - len(series)
    uneven = spent == "seconds" and table.paces_differ
    return Chart(
        f"training_{spent}",
        f"Validation {name} against {CALLED[spent]}",
        "Means over seeds; the band is from their lowest to their highest."
        + (f" {left_out} of {len(table.finished)} rows left out." if left_out else "")
        + (" The machines were not equally fast for all: do not compare seconds." if uneven else ""),
        lines(
            data,
            "value",
            unit,
            f"validation {axis_name(table.metric)}",
            series,
            palette,
            form=FORMS[spent],
            limits=("lowest seed", "highest seed"),
        ),
        height=280,
        series=series,
    )


def against_cost(table: Table, cost: str, palette: Palette) -> Chart:
    """Rows by score and cost; a line joins those that none beats in both. Of more than there are colours, it alone has
    one, and only what is on it, and the baseline, a name.
    """
    name, title = metric_name(table.metric), axis_name(table.metric)
    rows = priced(table, cost)
    scale, unit = _unit(cost, max(row.costs[cost] for row in rows))
    front = {row.label for row in pareto_front(table, cost)}
    data = [
        _dot(table, row)
        | {
            "value": row.costs[cost] / scale,
            "series": row.label,
            "front": row.label in front,
            "named": row.label in front or row.label == table.baseline,
        }
        for row in rows
    ]
    many = len(rows) > MOST_SERIES
    series = {} if many else series_of(table, (row.label for row in rows))
    x, y = quantity("value", unit, FORMS[cost], padding=12), quantity("mean", title)
    alone: Spec = {"condition": {"test": "datum.front", "value": palette.accent}, "value": palette.dim}
    told = [*tooltip(name), {"field": "value", "title": unit, "format": in_tooltip(FORMS[cost])}]
    joined: Spec = {
        "transform": [{"filter": "datum.front"}],
        "mark": {"type": "line", "interpolate": "linear", "color": palette.dim, "strokeDash": [4, 4]},
        "encoding": {"x": x, "y": y, "order": {"field": "value"}},
    }
    dots = _points_with_intervals(x, title, alone if many else colour_of(series, palette), told)
    names: Spec = {
        "transform": [{"filter": "datum.named"}],
        "mark": {"type": "text", "dx": 8, "dy": 12, "align": "left", "color": palette.ink, "fontSize": 11},
        "encoding": {"x": x, "y": y, "text": {"field": "row"}},
    }
    if not many:
        dots[-1]["encoding"]["shape"] = shape_of(series)
    if len(front) > 1:
        best = "the dashed line joins the rows that no other beats in both score and cost"
    else:
        best = (
            f"no row that can be compared beats {next(iter(front))!r} in score or in cost"
            if front
            else "none is compared"
        )
    if len({frozenset(row.by_seed) for row in rows}) > 1:
        best += ", by the seeds that rows share with the baseline"
    return Chart(
        f"pareto_{cost}",
        _capital(f"{name} against {CALLED[cost]} of training"),
        f"Means with 95% intervals over seeds and test samples; {best}.",
        {"data": {"values": data}, "layer": [joined, *dots, *([names] if many else [])]},
        height=300,
        series=series,
    )


def against_published(table: Table, palette: Palette) -> Chart:
    name = metric_name(table.metric)
    known = [row for row in table.finished if table.metric in row.published]
    rows = known[:MOST_SERIES]
    series = series_of(table, (row.label for row in rows))
    data = [_dot(table, row) | {"value": row.published[table.metric], "series": row.label} for row in rows]
    x = quantity("value", f"published {axis_name(table.metric)}", padding=12)
    told = [*tooltip(name), {"field": "value", "title": "published", "format": ".1f"}]
    layers = _points_with_intervals(x, axis_name(table.metric), colour_of(series, palette), told)
    layers[-1]["encoding"]["shape"] = shape_of(series)
    return Chart(
        "published",
        "Ours against published",
        f"{table.source}: the order is compared, not the values, which hang on data and scale. Ours with 95% intervals "
        "over seeds and test samples."
        + (f" The first {len(rows)} of {len(known)} rows." if len(rows) < len(known) else ""),
        {"data": {"values": data}, "layer": layers},
        height=300,
        series=series,
    )


def _points_with_intervals(x: Spec, title: str, colour: Spec, told: Sequence[Spec]) -> list[Spec]:
    """Upright ones; `title` is of the axis of the score."""
    low, mean = quantity("low", title), quantity("mean", title)
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {"x": x, "y": low, "y2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": x, "y": mean, "color": colour, "tooltip": list(told)},
        },
    ]


def _shortened(labels: Sequence[str]) -> list[str]:
    """Labels that fit beside a chart on a phone: without their middles, and numbered where that makes them equal."""
    short = [label if len(label) <= LONGEST_LABEL else _without_middle(label) for label in labels]
    return [f"{number + 1}: {name}" if short.count(name) > 1 else name for number, name in enumerate(short)]


def _without_middle(label: str) -> str:
    """At blanks, where there are some."""
    end = LONGEST_LABEL // 2
    first, last = label[: LONGEST_LABEL - end - 1], label[-end:]
    first = first.rpartition(" ")[0] or first
    last = last.partition(" ")[2] or last
    return f"{first} … {last}"


def _dot(table: Table, row: TableRow) -> Spec:
    value = row.metrics[table.metric]
    return {"row": row.label, "mean": value.mean, "low": value.low, "high": value.high}


def _unit(cost: str, largest: float) -> tuple[float, str]:
    """What to divide by, and the title of the axis."""
    if cost == "seconds" and largest > 7200:
        return 3600.0, "hours of training"
    if cost == "seconds" and largest > 600:
        return 60.0, "minutes of training"
    return 1.0, UNITS[cost]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
