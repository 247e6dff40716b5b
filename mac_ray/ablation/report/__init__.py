"""The report of a sweep or a search: tables and charts as files, and one page with everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import vl_convert

from mac_ray import files
from mac_ray.ablation.findings import write_trials
from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.record import Context
from mac_ray.ablation.report.charts import charts
from mac_ray.ablation.report.chosen_rows import shown_rows
from mac_ray.ablation.report.curves import curves
from mac_ray.ablation.report.files import write_tables
from mac_ray.ablation.report.page import page
from mac_ray.ablation.report.search_charts import search_charts
from mac_ray.ablation.report.search_page import SearchReport, search_page, write_chosen
from mac_ray.ablation.sweep import Sweep
from mac_ray.ablation.table import Table
from mac_ray.page.palette import LIGHT
from mac_ray.page.vega import Chart, as_file

PAGE_NAME = "report.html"
PNG_SCALE = 2.0  # pixels of the file per pixel of the chart


def write_report(
    folder: Path, table: Table, sweep: Sweep, outcomes: Sequence[Outcome], context: Context
) -> list[Path]:
    """The files it wrote into an existing folder: the page, tables, and charts as PNG and SVG below plots/."""
    points = curves(outcomes, shown_rows(table), table.metric)
    files.write(folder / PAGE_NAME, page(table, sweep, outcomes, points, context))
    return [
        folder / PAGE_NAME,
        *write_tables(folder, table),
        *_write_charts(folder, charts(table, points, LIGHT)),
    ]


def write_search_report(folder: Path, report: SearchReport) -> list[Path]:
    """As `write_report`: the page, all trials, what was chosen of them, and charts."""
    files.write(folder / PAGE_NAME, search_page(report))
    drawn = search_charts(report.findings, report.importances, report.sweep, LIGHT)
    return [
        folder / PAGE_NAME,
        *write_trials(report.sweep, report.findings, folder),
        *write_chosen(folder, report),
        *_write_charts(folder, drawn),
    ]


def _write_charts(folder: Path, drawn: Sequence[Chart]) -> list[Path]:
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    written: list[Path] = []
    for chart in drawn:
        svg = plots / f"{chart.name}.svg"
        files.write(svg, vl_convert.vegalite_to_svg(as_file(chart, LIGHT)))
        png = svg.with_suffix(".png")
        files.write(png, vl_convert.vegalite_to_png(as_file(chart, LIGHT), scale=PNG_SCALE))
        written += [svg, png]
    return written
