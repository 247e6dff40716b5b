"""The page of a sweep of rows: its sections, from the answer to what it was made with."""

from __future__ import annotations

from collections.abc import Sequence

from mac_ray.ablation.notes import unequal
from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.plan import written
from mac_ray.ablation.record import Context
from mac_ray.ablation.report.charts import charts
from mac_ray.ablation.report.curves import CurvePoint
from mac_ray.ablation.report.document import made, pictured, report_page
from mac_ray.ablation.report.markup import folder_of, interval, linked, opening
from mac_ray.ablation.sweep import Sweep
from mac_ray.ablation.table import Table, TableRow
from mac_ray.ablation.verdict import is_better, is_shown, metric_name, shown_p, verdict
from mac_ray.page.document import charts_section, section
from mac_ray.page.markup import (
    NOTHING,
    Cell,
    Heading,
    breakable,
    duration,
    large,
    listed,
    number,
    sortable,
    text,
)
from mac_ray.page.palette import IN_PAGE
from mac_ray.passwords import without_passwords
from mac_ray.retrieval.metrics import DIRECTIONS, MEASURES, shown_chance

# of the status of a run, where it is not only still to come
STYLE_OF = {"FINISHED": "", "FAILED": "failed", "KILLED": "failed"}


def page(
    table: Table, sweep: Sweep, outcomes: Sequence[Outcome], points: Sequence[CurvePoint], context: Context
) -> str:
    drawn = charts(table, points, IN_PAGE)
    best = [table.best.label] if table.best else []
    sections = [
        section("Results", _results(table, sweep) + listed(table.notes, "notes")),
        charts_section(drawn),
        section("All metrics", _all_metrics(table)) if table.finished else "",
        section("Costs", _costs(table)) if table.finished else "",
        *pictured(outcomes, [row.label for row in table.finished], [*best, table.baseline]),
        section("Runs", _runs(table, outcomes, context)),
        made(sweep, outcomes, context, _rows(table)),
    ]
    return report_page(sweep, verdict(table), sections, drawn)


# ---------------------------------------------------------------- tables


def _results(table: Table, sweep: Sweep) -> str:
    name = metric_name(table.metric)
    has_published = any(table.metric in row.published for row in table.rows)
    headings = [
        Heading("row", numeric=False),
        Heading("seeds", meaning="finished"),
        Heading(f"{name} [95%]", meaning="mean over seeds; the interval is over seeds and test samples"),
        Heading("difference [95%]", meaning="to the baseline, over the seeds that both have"),
        Heading("p", meaning="of a paired test against the baseline"),
        Heading("p, Holm", meaning="corrected for all rows being compared"),
        Heading("FLOPs, relative", meaning="of training, to the baseline"),
        Heading("time, relative", meaning="of training, to the baseline"),
    ]
    headings += [Heading("published", meaning=table.source)] * has_published
    lines = [_result(table, row, has_published) for row in table.rows]
    said = f"{table.scored}, {table.num_samples} test samples · " if table.scored else ""
    off = unequal(sweep, table.rows, table.baseline)
    if not off:
        said += f"compared at equal {sweep.budget.equal}"
    elif sweep.budget.is_as_configured:
        said += "each as long as its config says"
    else:
        said += f"meant to be compared at equal {sweep.budget.equal}"
    if table.source:
        said += f" · published: {table.source}, whose order is compared, not its values, which hang on data and scale"
    return f'<p class="dim">{text(said)}</p>\n{sortable("Results", headings, lines)}' + (
        '<p class="dim">Of each row against the baseline: the difference with its interval, and p, how often so large '
        "a difference would come of chance alone, both of that comparison by itself; rows are told apart by p after "
        "Holm’s correction for having looked at all of them.</p>\n"
        if any(row.comparison for row in table.rows)
        else ""
    )


def _result(table: Table, row: TableRow, has_published: bool) -> list[Cell]:
    value, pair = row.metrics.get(table.metric), row.comparison
    style = ""
    if pair and is_shown(pair):
        style = "better" if is_better(table, pair) else "worse"
    cells = [
        _label(table, row),
        number(len(row.by_seed), "d", suffix=f"/{row.planned}", style="failed" if row.has_failed else ""),
        interval(value) if value else Cell(text(row.unfinished), None, "failed" if row.has_failed else "dim"),
        interval(pair.difference, signed=True, style=style) if pair else NOTHING,
        Cell(text(shown_p(pair.p_value)), pair.p_value) if pair else NOTHING,
        Cell(text(shown_p(pair.adjusted)), pair.adjusted, style) if pair else NOTHING,
        number(row.cost_ratios.get("flops"), ".2f", suffix="×"),
        number(row.cost_ratios.get("seconds"), ".2f", suffix="×"),
    ]
    return cells + [number(row.published.get(table.metric), ".1f")] * has_published


def _label(table: Table, row: TableRow) -> Cell:
    tags = ["baseline"] * (row.label == table.baseline) + ["best"] * (row == table.best)
    return Cell(breakable(row.label) + "".join(f' <span class="tag">{tag}</span>' for tag in tags), row.label)


def _all_metrics(table: Table) -> str:
    parts = []
    for direction, words in zip(DIRECTIONS, ("Text to video", "Video to text"), strict=True):
        names = [f"{direction}/{measure}" for measure in MEASURES]
        names += ["Rsum"] * (direction == DIRECTIONS[-1])
        headings = [Heading("row", numeric=False)]
        headings += [
            Heading(metric_name(name).removeprefix(f"{words.lower().replace(' ', '-')} ")) for name in names
        ]
        lines = [
            [_label(table, row), *(interval(row.metrics[name]) for name in names)] for row in table.finished
        ]
        level = ", ".join(
            f"{heading.text} {shown_chance(table.chance[name])}"
            for heading, name in zip(headings[1:], names, strict=True)
            if name in table.chance
        )
        chance = f'<p class="dim">chance: {level}</p>\n' if level else ""
        parts.append(f"<h3>{words}</h3>\n{chance}{sortable(words, headings, lines)}")
    units = (
        "R@k in percent of the queries; MdR and MnR, the median and mean rank, are better the lower they are."
    )
    return f'<p class="dim">{units}</p>\n' + "".join(parts)


def _costs(table: Table) -> str:
    headings = [
        Heading("row", numeric=False),
        Heading("samples"),
        Heading("visible tokens", meaning="patches that entered the video tower"),
        Heading("FLOPs", meaning="forward and backward, products of attention included"),
        Heading("FLOPs, relative"),
        Heading("time", meaning="of training steps"),
        Heading("time, relative"),
    ]
    lines = [
        [
            _label(table, row),
            large(row.costs.get("samples")),
            large(row.costs.get("visible_tokens")),
            large(row.costs.get("flops")),
            number(row.cost_ratios.get("flops"), ".2f", suffix="×"),
            duration(row.costs.get("seconds")),
            number(row.cost_ratios.get("seconds"), ".2f", suffix="×"),
        ]
        for row in table.finished
    ]
    return '<p class="dim">A run, as the mean over seeds; relative to the baseline.</p>\n' + sortable(
        "Costs", headings, lines
    )


def _runs(table: Table, outcomes: Sequence[Outcome], context: Context) -> str:
    headings = [
        Heading("run", numeric=False),
        Heading("seed"),
        Heading("status", numeric=False),
        Heading(metric_name(table.metric)),
        Heading("time"),
        Heading("folder", numeric=False),
        Heading("reason", numeric=False),
    ]
    lines = []
    for outcome in outcomes:
        status = outcome.status.lower() if outcome.status else "not started"
        value = table.row(outcome.row).by_seed.get(outcome.seed)
        lines.append(
            [
                Cell(linked(breakable(outcome.row), outcome.folder, context), outcome.row),
                Cell(str(outcome.seed), outcome.seed),
                Cell(status, status, STYLE_OF.get(outcome.status or "", "dim")),
                number(value, ".1f"),
                duration(outcome.costs.get("seconds")),
                Cell(folder_of(outcome), outcome.folder.name),
                Cell(text(outcome.reason), outcome.reason, "text"),
            ]
        )
    return opening(context) + sortable("Runs", headings, lines)


# ---------------------------------------------------------------- the rest


def _rows(table: Table) -> dict[str, str]:
    """What each sets of the config."""
    return {
        row.label: without_passwords(
            ", ".join(f"{path}={written(value)}" for path, value in row.values.items())
        )
        or "the base config"
        for row in table.rows
    }
