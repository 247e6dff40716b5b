"""A table as files for other programs and for papers: CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mac_ray.ablation.outcome import COSTS
from mac_ray.ablation.report.typeset import write_typeset
from mac_ray.ablation.table import Table, TableRow
from mac_ray.ablation.verdict import is_shown, metric_name, shown, shown_p, signed, verdict
from mac_ray.files import replaced, write
from mac_ray.passwords import without_passwords_in
from mac_ray.retrieval.metrics import NAMES


def write_tables(folder: Path, table: Table) -> list[Path]:
    """table.csv, .json, .md and .tex into an existing folder."""
    flat, whole = folder / "table.csv", folder / "table.json"
    with replaced(flat) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(_flat(table))
    write(whole, _json(table))
    said = [*verdict(table), *table.notes]
    return [flat, whole, *write_typeset(folder, "table", *_readable(table), said, footnote=_footnote(table))]


def _footnote(table: Table) -> str:
    compared = [row.comparison for row in table.rows if row.comparison]
    if not compared:
        return ""
    star = "* p below 0.05, over several seeds. " if any(map(is_shown, compared)) else ""
    return f"{star}p is after Holm's correction for all comparisons, the interval beside it of one by itself."


def _flat(table: Table) -> list[list[Any]]:
    """A header and a line per row: everything the table holds, in full precision. What a row sets is JSON, empty
    where it does not set it.
    """
    paths = list(dict.fromkeys(path for row in table.rows for path in row.values))
    header = ["row", *paths, "baseline", "seeds_finished", "seeds_planned"]
    for name in NAMES:
        header += [name, f"{name}/low", f"{name}/high"]
    header += ["difference", "difference/low", "difference/high", "p_value", "p_value/holm", "seeds_paired"]
    header += [f"cost/{name}" for name in COSTS] + [f"cost_ratio/{name}" for name in COSTS]
    header += [f"published/{table.metric}", "problems"]
    lines: list[list[Any]] = [header]
    for row in table.rows:
        shown_values = without_passwords_in(dict(row.values))
        values = [json.dumps(shown_values[path]) if path in shown_values else "" for path in paths]
        line: list[Any] = [row.label, *values, row.label == table.baseline, len(row.by_seed), row.planned]
        for name in NAMES:
            value = row.metrics.get(name)
            line += [value.mean, value.low, value.high] if value else [None] * 3
        pair = row.comparison
        line += (
            [*asdict(pair.difference).values(), pair.p_value, pair.adjusted, pair.seeds]
            if pair
            else [None] * 6
        )
        line += [row.costs.get(name) for name in COSTS] + [row.cost_ratios.get(name) for name in COSTS]
        line += [row.published.get(table.metric), "; ".join(problem.sentence for problem in row.problems)]
        lines.append(line)
    return lines


def _json(table: Table) -> str:
    content = asdict(table) | {"verdict": verdict(table)}
    return json.dumps(without_passwords_in(_without_nan(content)), indent=1, ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null."""
    match value:
        case dict():
            return {str(key): _without_nan(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_nan(item) for item in value]
        case float() if value != value:
            return None
    return value


def _readable(table: Table) -> tuple[list[str], list[list[str]]]:
    """What a paper would show: header and lines of equal length."""
    has_published = any(table.metric in row.published for row in table.rows)
    header = ["", "seeds", f"{metric_name(table.metric)} [95%]", "difference [95%]", "p (Holm)", "FLOPs"]
    header += ["published"] * has_published
    return header, [_readable_row(table, row, has_published) for row in table.rows]


def _readable_row(table: Table, row: TableRow, has_published: bool) -> list[str]:
    pair = row.comparison
    seeds = f"{len(row.by_seed)}/{row.planned}" if row.problems else str(row.planned)
    cells = [row.label, seeds]
    if table.metric in row.metrics:
        cells.append(shown(row.metrics[table.metric]))
    else:
        cells.append(row.unfinished)
    if row.label == table.baseline:
        cells += ["baseline", ""]
    elif pair:
        star = "*" if is_shown(pair) else ""
        cells += [signed(pair.difference) + star, shown_p(pair.adjusted)]
    else:
        cells += ["", ""]
    ratio = row.cost_ratios.get("flops")
    cells.append(f"{ratio:.2f}×" if ratio is not None else "")
    if has_published:
        cells.append(f"{row.published[table.metric]:.1f}" if table.metric in row.published else "")
    return cells
