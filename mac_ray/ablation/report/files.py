"""A table as files for other programs and for papers: CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mac_ray.ablation.outcome import COSTS
from mac_ray.ablation.table import Table, TableRow
from mac_ray.ablation.verdict import is_shown, metric_name, shown, shown_p, signed, verdict
from mac_ray.retrieval.metrics import NAMES

MARKDOWN_SPECIAL = re.compile(r"[\\|*_<`~&]")
MINUS = re.compile(r"(?<!\w)-(?=\d)")
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "–": "--",
}


def write_tables(folder: Path, table: Table) -> list[Path]:
    """table.csv, .json, .md and .tex into an existing folder."""
    texts = {"json": _json(table), "md": _markdown(table), "tex": _latex(table)}
    paths = [folder / "table.csv"]
    with paths[0].open("w", newline="") as file:
        csv.writer(file).writerows(_flat(table))
    for ending, text in texts.items():
        paths.append(folder / f"table.{ending}")
        paths[-1].write_text(text)
    return paths


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
        values = [json.dumps(row.values[path]) if path in row.values else "" for path in paths]
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
    return json.dumps(_without_nan(content), indent=1, ensure_ascii=False)


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


def _markdown(table: Table) -> str:
    header, lines = _readable(table)
    cells = [[_escaped_markdown(cell) for cell in line] for line in (header, *lines)]
    ruler = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(
        [
            *(f"| {' | '.join(line)} |" for line in (cells[0], ruler, *cells[1:])),
            "",
            *map(_escaped_markdown, _said(table)),
            "",
        ]
    )


def _escaped_markdown(cell: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\g<0>", cell)


def _latex(table: Table) -> str:
    """A booktabs tabular, to be \\input into a table."""
    header, lines = _readable(table)
    rows = [" & ".join(map(_escaped_latex, line)) + r" \\" for line in (header, *lines)]
    comments = [f"% {sentence}" for sentence in _said(table)]
    return "\n".join(
        [
            *comments,
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped_latex(cell: str) -> str:
    # a hyphen is shorter than a minus, and a star or a bracket after the end of a line would belong to that
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in MINUS.sub("−", cell))
    return ("{}" if cell.lstrip().startswith(("*", "[")) else "") + escaped


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


def _said(table: Table) -> Sequence[str]:
    return [*verdict(table), *table.notes]
