"""The charts of a report: which there are, and what each shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mac_ray.ablation.notes import uncompared
from mac_ray.ablation.plan import short_names
from mac_ray.ablation.report.curves import CurvePoint
from mac_ray.ablation.table import Table, TableRow
from mac_ray.ablation.verdict import metric_name
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
    quantity,
    shape_of,
    tooltip,
)

MOST_DOTS = 40  # rows in the overview
FEWEST_VALUES = 3  # of a factor that has a curve
UNITS = {"samples": "samples", "flops": "FLOPs of training", "seconds": "seconds of training"}
CALLED = {"samples": "samples", "flops": "FLOPs", "seconds": "time"}
FORMS = {"samples": LARGE, "flops": LARGE, "seconds": PLAIN}
SAME_COST = 1.05  # of the dearest row to the cheapest: what differs less was meant to be equal
FAR_APART = 30.0  # the largest value of a factor to the smallest, from where on its axis is logarithmic


def charts(table: Table, points: Sequence[CurvePoint], palette: Palette) -> list[Chart]:
    """Every chart that the numbers allow."""
    drawn = [overview(table, palette)] if table.finished else []
    for factor, series in numeric_factors(table).items():
        drawn.append(against_factor(table, factor, series, palette))
    if points:
        drawn += [while_training(table, points, spent, palette) for spent in UNITS]
    drawn += [against_cost(table, cost, palette) for cost in ("flops", "seconds") if _differs(table, cost)]
    if table.agreement is not None:
        drawn.append(against_published(table, palette))
    return drawn


def shown_rows(table: Table) -> list[str]:
    """The rows that charts of many lines show."""
    return [row.label for row in _best(table, MOST_SERIES)]


# ---------------------------------------------------------------- the charts


def overview(table: Table, palette: Palette) -> Chart:
    """Each row's mean and interval."""
    metric = metric_name(table.metric)
    rows = _best(table, MOST_DOTS)
    names = _shortened([row.label for row in rows])
    data = [_dot(table, row) | {"name": name} for row, name in zip(rows, names, strict=True)]
    axis = {"field": "name", "type": "nominal", "sort": None, "title": None}
    x = quantity("mean", metric)
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "color": palette.accent},
            "encoding": {"y": axis, "x": quantity("low", metric), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": palette.accent},
            "encoding": {"y": axis, "x": x, "tooltip": tooltip(metric)},
        },
    ]
    of_baseline = baseline_rule(table, "x", palette)
    left_out = len(table.finished) - len(rows)
    return Chart(
        "rows",
        _capital(f"{metric} of each row"),
        "Means over seeds with 95% intervals over seeds and test samples"
        + ("; dashed, the baseline." if of_baseline else ".")
        + (f" The {left_out} worst rows are left out." if left_out else ""),
        {"data": {"values": data}, "layer": of_baseline + layers},
        height=max(120, 26 * len(rows) + 50),
        wide=True,
    )


def baseline_rule(table: Table, along: str, palette: Palette) -> list[Spec]:
    """A dashed line at the baseline's mean; `along`: the axis that has the metric. Empty until it has finished."""
    found = [_dot(table, row) for row in table.finished if row.label == table.baseline]
    rule = {"type": "rule", "strokeDash": [4, 4], "color": palette.dim}
    encoding = {along: quantity("mean", metric_name(table.metric))}
    return [{"data": {"values": found}, "mark": rule, "encoding": encoding}] if found else []


def against_factor(
    table: Table, factor: str, series: Mapping[str, Sequence[TableRow]], palette: Palette
) -> Chart:
    name = metric_name(table.metric)
    title = short_names(path for row in table.rows for path in row.values)[factor]
    drawn = _best_lines(table, series)
    left_out = len(series) - len(drawn)
    values = [row.values[factor] for rows in drawn.values() for row in rows]
    is_log = min(values) > 0 and max(values) / min(values) > FAR_APART
    data = [
        _dot(table, row) | {"value": row.values[factor], "series": label}
        for label, rows in drawn.items()
        for row in rows
    ]
    spec = lines(data, "value", factor, name, tuple(drawn), palette, DECADES if is_log else PLAIN, is_log)
    # such as of hiding nothing, which has no ratio
    apart = all(row.label != table.baseline for rows in drawn.values() for row in rows)
    of_baseline = baseline_rule(table, "y", palette) if apart else []
    return Chart(
        f"against_{factor.replace('.', '_')}",
        _capital(f"{name} against {title}"),
        "Means over seeds; the band is the 95% interval over seeds and test samples"
        + (f"; dashed, the baseline {table.baseline!r}." if of_baseline else ".")
        + (f" The {left_out} worst of {len(series)} lines are left out." if left_out else ""),
        spec | {"layer": of_baseline + spec["layer"]},
        height=300,
        series=tuple(drawn) if len(drawn) > 1 else (),
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
        f"Validation {name} against {CALLED[spent]}",
        "Means over seeds; the band is their range."
        + (f" {left_out} of {len(table.finished)} rows left out." if left_out else ""),
        lines(data, "value", unit, name, series, palette, form=FORMS[spent]),
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
    x = quantity("value", unit, FORMS[cost], padding=12)
    colour = {"value": palette.accent} if many else colour_of(series, palette)
    marks: Spec = {"type": "point", "filled": True, "size": 90, "opacity": 1}
    encoding: Spec = {
        "x": x,
        "y": quantity("mean", name),
        "color": colour,
        "tooltip": [*tooltip(name), {"field": "value", "title": unit, "format": in_tooltip(FORMS[cost])}],
    }
    if not many:
        encoding["shape"] = shape_of(series)
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.front"}],
            "mark": {"type": "line", "interpolate": "linear", "color": palette.dim, "strokeDash": [4, 4]},
            "encoding": {"x": x, "y": quantity("mean", name), "order": {"field": "value"}},
        },
        {"mark": marks, "encoding": encoding},
    ]
    if not many:
        interval: Spec = {
            "x": x,
            "y": quantity("low", name),
            "y2": {"field": "high"},
            "color": colour,
        }
        layers.insert(1, {"mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6}, "encoding": interval})
    return Chart(
        f"pareto_{cost}",
        _capital(f"{name} against {CALLED[cost]} of training"),
        f"Means{'' if many else ' with 95% intervals'}; the dashed line joins the rows that no other beats in both "
        "score and cost.",
        {"data": {"values": data}, "layer": layers},
        height=300,
        series=series,
    )


def against_published(table: Table, palette: Palette) -> Chart:
    name = metric_name(table.metric)
    known = [row for row in table.finished if table.metric in row.published]
    rows = known[:MOST_SERIES]
    series = tuple(row.label for row in rows)
    data = [_dot(table, row) | {"value": row.published[table.metric], "series": row.label} for row in rows]
    x = quantity("value", f"published {name}", padding=12)
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
            "encoding": {
                "x": x,
                "y": quantity("low", name),
                "y2": {"field": "high"},
                "color": colour_of(series, palette),
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": x,
                "y": quantity("mean", name),
                "color": colour_of(series, palette),
                "shape": shape_of(series),
                "tooltip": [*tooltip(name), {"field": "value", "title": "published", "format": ".1f"}],
            },
        },
    ]
    return Chart(
        "published",
        "Ours against published",
        f"{table.source}: the order is compared, not the values, which hang on data and scale."
        + (f" The first {len(rows)} of {len(known)} rows." if len(rows) < len(known) else ""),
        {"data": {"values": data}, "layer": layers},
        height=300,
        series=series,
    )


# ---------------------------------------------------------------- what is drawn


def numeric_factors(table: Table) -> dict[str, dict[str, list[TableRow]]]:
    """By dotted path, finished rows that differ in this number alone, by what else they set.

    Only what makes a line, which has at least FEWEST_VALUES points.
    """
    found: dict[str, dict[str, list[TableRow]]] = {}
    short = short_names(path for row in table.rows for path in row.values)
    for path in dict.fromkeys(path for row in table.finished for path in row.values):
        series: dict[str, list[TableRow]] = {}
        for row in table.finished:
            if _is_number(row, path):
                others = (f"{short[other]}={value}" for other, value in row.values.items() if other != path)
                series.setdefault(", ".join(others), []).append(row)
        lasting = {label: rows for label, rows in series.items() if len(rows) >= FEWEST_VALUES}
        if lasting:
            found[path] = lasting
    return found


def pareto_front(table: Table, cost: str) -> list[TableRow]:
    """Rows than which no other is at least as good and as cheap, and better or cheaper; cheapest first. Those that
    cannot be compared with the baseline, as on an easier gallery, neither beat others nor are on it.
    """
    sign = 1 if table.maximize else -1
    left_out = {label for labels in uncompared(table.rows, table.baseline) for label in labels}
    front: list[TableRow] = []
    for row in sorted(
        (row for row in _priced(table, cost) if row.label not in left_out),
        key=lambda row: (row.costs[cost], -sign * row.metrics[table.metric].mean),
    ):
        mean = sign * row.metrics[table.metric].mean
        if not front or mean > sign * front[-1].metrics[table.metric].mean:
            front.append(row)
    return front


def _best(table: Table, count: int) -> list[TableRow]:
    """So many finished rows, the baseline among them, in the order of the table."""
    sign = -1 if table.maximize else 1
    ranked = sorted(
        table.finished,
        key=lambda row: (row.label != table.baseline, sign * row.metrics[table.metric].mean),
    )
    kept = {row.label for row in ranked[:count]}
    return [row for row in table.finished if row.label in kept]


def _best_lines(table: Table, series: Mapping[str, Sequence[TableRow]]) -> dict[str, Sequence[TableRow]]:
    """As many as there are shapes, by the best row of each, the baseline's among them, in the order of the table."""
    sign = -1 if table.maximize else 1

    def standing(label: str) -> tuple[bool, float]:
        rows = series[label]
        best = min(sign * row.metrics[table.metric].mean for row in rows)
        return all(row.label != table.baseline for row in rows), best

    kept = sorted(series, key=standing)[:MOST_SERIES]
    return {label: rows for label, rows in series.items() if label in kept}


def _differs(table: Table, cost: str) -> bool:
    """Whether rows cost so differently that it is worth to weigh what they score against it."""
    costs = [row.costs[cost] for row in _priced(table, cost)]
    return len(costs) > 1 and max(costs) > SAME_COST * min(costs)


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


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
