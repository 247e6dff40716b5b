"""What is drawn, from tables made by hand; how it looks is tested in a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import vl_convert

from mac_ray.ablation.report.charts import charts
from mac_ray.ablation.report.chosen_rows import numeric_factors, pareto_front, series_of, shown_rows
from mac_ray.ablation.report.curves import CurvePoint
from mac_ray.ablation.statistics import Agreement
from mac_ray.ablation.table import Comparison, Interval, Table, TableRow
from mac_ray.page.palette import LIGHT, MOST_SERIES
from mac_ray.page.vega import as_file


def row(label: str, mean: float, flops: float, **values: Any) -> TableRow:
    found = {"t2v/R1": Interval(mean, mean - 1, mean + 1)}
    return TableRow(label, values, 1, {0: mean}, found, None, costs={"flops": flops, "seconds": flops})


def table(*rows: TableRow, maximize: bool = True) -> Table:
    """The first is the baseline, with which the others are compared."""
    base, *others = rows
    compared = (replace(one, comparison=minus(one, base)) for one in others)
    return Table("t2v/R1", maximize, base.label, (base, *compared), "set", 10, {}, "", None, ())


def minus(one: TableRow, base: TableRow) -> Comparison | None:
    if not one.metrics or not base.metrics:
        return None
    gap = one.metrics["t2v/R1"].mean - base.metrics["t2v/R1"].mean
    return Comparison(Interval(gap, gap - 1, gap + 1), 0.5, 0.5, 1)


def test_front_is_what_no_row_beats_in_score_and_cost() -> None:
    rows = [
        row("a", 40, 3),
        row("b", 42, 2),
        row("c", 30, 1),
        row("d", 29, 1),
        row("e", 50, 9),
        row("f", 42, 5),
    ]
    beaten = {
        one.label
        for one in rows
        for other in rows
        if other is not one
        and other.metrics["t2v/R1"].mean >= one.metrics["t2v/R1"].mean
        and other.costs["flops"] <= one.costs["flops"]
    }
    assert {found.label for found in pareto_front(table(*rows), "flops")} == {
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
    } - beaten
    cheapest_is_best = pareto_front(table(*rows, maximize=False), "flops")
    assert [found.label for found in cheapest_is_best] == ["d"]


def test_front_goes_by_the_seeds_that_rows_share_with_the_baseline() -> None:
    """Of which the baseline's second was worse than its first, and the other row has yet to train it."""
    base = replace(row("none", 61.2, 1), by_seed={0: 64.5, 1: 58.0})
    tube = replace(row("tube", 62.8, 2), comparison=Comparison(Interval(-1.7, -4, 1), 0.3, 0.3, 1))
    found = replace(table(base), rows=(base, tube))
    assert [each.label for each in pareto_front(found, "flops")] == ["none"]
    (chart,) = (chart for chart in charts(found, [], LIGHT) if chart.name == "pareto_flops")
    assert "no row that can be compared beats 'none' in score or in cost" in chart.caption


def test_lines_join_rows_that_differ_in_one_number_alone() -> None:
    grid = [row(f"{v} {t}", 40, 1, video=v, text=t) for v in (0.0, 0.3, 0.6) for t in (0.0, 0.15, 0.3)]
    apart = [row(f"kind {n}", 40, 1, width=n, kind="x" if n < 3 else "y", masked=bool(n)) for n in range(5)]
    found = numeric_factors(table(*grid, *apart))
    assert {path: {name: len(rows) for name, rows in lines.items()} for path, lines in found.items()} == {
        "video": {"text=0": 3, "text=0.15": 3, "text=0.3": 3},
        "text": {"video=0": 3, "video=0.3": 3, "video=0.6": 3},
    }
    plain = numeric_factors(table(*(row(str(n), 40, 1, width=n) for n in range(4))))
    assert {path: list(lines) for path, lines in plain.items()} == {"width": ["nothing else"]}
    assert numeric_factors(table(*grid[:2])) == {}


def test_many_rows_are_shown_by_the_best_and_the_baseline() -> None:
    rows = [row(str(n), float(n), 1.0) for n in range(30)]
    shown = shown_rows(table(*rows))
    assert shown == ["0", *map(str, range(30 - MOST_SERIES + 1, 30))]


@pytest.mark.parametrize("maximize", [True, False])
def test_many_lines_are_shown_by_the_best_and_that_of_the_baseline(maximize: bool) -> None:
    sign = 1 if maximize else -1
    rows = [
        row(f"{width} {rate}", 40 + sign * (width + rate), 1, width=width, rate=rate)
        for width in range(12)
        for rate in (0.1, 0.2, 0.3)
    ]
    (chart,) = (
        chart for chart in charts(table(*rows, maximize=maximize), [], LIGHT) if chart.name == "against_rate"
    )
    assert tuple(chart.series) == (
        "width=0",
        *(f"width={width}" for width in range(12 - MOST_SERIES + 1, 12)),
    )
    assert {dot["series"] for dot in chart.spec["data"]["values"]} == set(chart.series)
    assert chart.caption.endswith("The 4 worst of 12 lines are left out.")


@pytest.mark.parametrize("count", [1, 2, 60])
def test_every_chart_can_be_drawn_without_a_warning(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [row(f"row <{n}>", 40 + n % 7, 1.0 + n, ratio=float(n)) for n in range(count)]
    for chart in charts(table(*rows), [], LIGHT):
        svg = vl_convert.vegalite_to_svg(as_file(chart, LIGHT))
        assert svg.startswith("<svg")
        assert "e+" not in svg
        assert "row &lt;0&gt;" in svg or (not chart.series and chart.name not in ("rows", "pareto_flops"))
        json.dumps(chart.spec, allow_nan=False)
    assert "WARN" not in capfd.readouterr().err


def test_row_looks_the_same_in_every_chart_of_a_page() -> None:
    rows = [row(str(n), 40 + n, 1.0 + n) for n in range(7)]
    published = [replace(each, published={"t2v/R1": 30.0 + number}) for number, each in enumerate(rows)]
    found = replace(
        table(*published), agreement=Agreement(7, 21, 21, 1.0, 0.001, 0.001), source="Paper, Table 1"
    )
    spent = {"samples": 10.0, "flops": 10.0, "seconds": 10.0}
    points = [CurvePoint(each.label, 1, spent, 30.0, 29.0, 31.0) for each in rows[3:]]
    looks: dict[str, set[int]] = {}
    for chart in charts(found, points, LIGHT):
        for label, number in chart.series.items():
            looks.setdefault(label, set()).add(number)
    assert {label: len(numbers) for label, numbers in looks.items()} == {each.label: 1 for each in rows}
    assert len({*map(tuple, looks.values())}) == len(rows)


def test_rows_that_few_charts_show_take_what_is_left() -> None:
    many = table(*(row(str(n), float(n), 1.0) for n in range(30)))
    known = series_of(many, shown_rows(many))
    some = series_of(many, ["0", "29", "3", "5"])
    assert (some["0"], some["29"]) == (known["0"], known["29"])
    assert len(set(some.values())) == 4


def test_of_many_rows_the_front_and_the_baseline_are_named_also_on_paper() -> None:
    found = table(*(row(f"row {n}", 40 + n % 7, 1.0 + n) for n in range(20)))
    (chart,) = (chart for chart in charts(found, [], LIGHT) if chart.name == "pareto_flops")
    svg = vl_convert.vegalite_to_svg(as_file(chart, LIGHT))
    named = {label for label in (f"row {n}" for n in range(20)) if f">{label}<" in svg}
    assert named == {each.label for each in pareto_front(found, "flops")} | {"row 0"}
    assert "no other beats" in svg.replace("</tspan>", " ")


def test_differences_are_coloured_where_they_are_told_apart() -> None:
    worse = Comparison(Interval(-9.0, -11.0, -7.0), 0.001, 0.002, 3)
    found = table(row("none", 50, 1), row("a", 49, 1), row("b", 41, 1))
    *others, last = found.rows
    found = replace(found, rows=(*others, replace(last, comparison=worse)))
    (chart,) = (chart for chart in charts(found, [], LIGHT) if chart.name == "differences")
    dots = {dot["row"]: dot for dot in chart.spec["data"]["values"]}
    assert {label: (dot["mean"], dot["apart"]) for label, dot in dots.items()} == {
        "a": (-1.0, False),
        "b": (-9.0, True),
    }
    assert "in colour, told apart" in chart.caption
    assert vl_convert.vegalite_to_svg(as_file(chart, LIGHT)).count(LIGHT.accent) >= 2


def test_seconds_of_machines_that_were_not_equally_fast_are_not_weighed() -> None:
    rows = [row(str(number), 40 + number, 1.0 + number) for number in range(3)]
    spent = {"samples": 10.0, "flops": 10.0, "seconds": 10.0}
    points = [CurvePoint("0", 1, spent, 30.0, 29.0, 31.0)]
    for uneven in (False, True):
        drawn = {
            chart.name: chart for chart in charts(replace(table(*rows), paces_differ=uneven), points, LIGHT)
        }
        assert ("pareto_seconds" in drawn) != uneven
        assert ("do not compare seconds" in drawn["training_seconds"].caption) == uneven
        assert "pareto_flops" in drawn


def test_rows_that_were_made_to_cost_the_same_are_not_weighed_against_cost() -> None:
    def drawn(*flops: float) -> set[str]:
        rows = [row(str(number), 40 + number, each) for number, each in enumerate(flops)]
        return {chart.name for chart in charts(table(*rows), [], LIGHT)}

    assert "pareto_flops" not in drawn(24.288e12, 24.295e12, 24.305e12)
    assert "pareto_flops" in drawn(24e12, 12e12)


def test_factor_over_decades_has_a_logarithmic_axis_and_each_factor_a_chart_of_its_own() -> None:
    rates, depths = (1e-5, 1e-4, 1e-3), {"video.depth": (1, 2, 4), "text.depth": (1, 2, 4)}
    by_rate = [row(f"rate {rate}", 40, 1, rate=rate) for rate in rates]
    (chart,) = (chart for chart in charts(table(*by_rate), [], LIGHT) if chart.name == "against_rate")
    scale = chart.spec["layer"][0]["encoding"]["x"]["scale"]
    assert scale["type"] == "log"
    crossed = [
        row(f"{video} {text}", 40, 1, **{"video.depth": video, "text.depth": text})
        for video in depths["video.depth"]
        for text in depths["text.depth"]
    ]
    names = [chart.name for chart in charts(table(*crossed), [], LIGHT)]
    assert {"against_video_depth", "against_text_depth"} <= set(names)
    assert len(names) == len(set(names))


def test_baseline_without_the_factor_is_a_dashed_line_beside_its_curve() -> None:
    """As of hiding nothing, which has no ratio; one that is on the curve needs none."""
    rows = [row("none", 50, 1), *(row(f"ratio {ratio}", 40, 1, ratio=ratio) for ratio in (0.3, 0.6, 0.9))]
    dashed = []
    for given in (rows, rows[1:]):
        (chart,) = (chart for chart in charts(table(*given), [], LIGHT) if chart.name == "against_ratio")
        assert ("dashed, the baseline 'none'" in chart.caption) == (given is rows)
        assert vl_convert.vegalite_to_svg(as_file(chart, LIGHT)).startswith("<svg")
        dashed.append([layer for layer in chart.spec["layer"] if layer["mark"].get("strokeDash")])
    (rule,), none = dashed
    assert [dot["mean"] for dot in rule["data"]["values"]] == [50]
    assert set(rule["encoding"]) == {"y"}
    assert none == []


def test_baseline_without_a_result_is_no_dashed_line() -> None:
    found = replace(table(row("a", 40, 1), row("b", 41, 2)), baseline="c")
    (overview,) = (chart for chart in charts(found, [], LIGHT) if chart.name == "rows")
    assert "dashed" not in overview.caption


def test_long_labels_of_the_overview_stay_apart() -> None:
    rows = [row(f"a rather long beginning {n} and a rather long end", 40, 1) for n in range(3)]
    (overview,) = (chart for chart in charts(table(*rows), [], LIGHT) if chart.name == "rows")
    names = [dot["name"] for dot in overview.spec["data"]["values"]]
    assert len(set(names)) == 3
    assert max(map(len, names)) < 32
