"""The report on a terminal: a table of the splits, and what is wrong with the first paths of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mac_ray.prepare.captions import Spread
from mac_ray.prepare.report import Report
from mac_ray.prepare.verdict import effort, notes, problems, verdict
from mac_ray.terminal import say

LISTED = 20  # paths of a kind; the JSON report has them all
SHOWN_VALUES = 4  # of a property
SHOWN_EXAMPLES = 3


def show(report: Report) -> None:
    console = Console()
    say(console, verdict(report), "bold green" if report.is_ready else "bold red")
    say(console, f"fingerprint {report.fingerprint}", "dim")
    console.print(_table(report))
    for name, values in report.media.items():
        totals = [f"{value} {sum(counts.values()):,}" for value, counts in values.items()]
        more = f" and {len(totals) - SHOWN_VALUES} more" if len(totals) > SHOWN_VALUES else ""
        say(console, f"{name.replace('_', ' ')}: {', '.join(totals[:SHOWN_VALUES])}{more}")
    for sentence in problems(report):
        say(console, sentence, "red")
    for sentence in notes(report):
        say(console, sentence, "yellow")
    for title, entries in (
        ("missing", report.missing),
        ("empty", report.empty),
        ("undecodable", report.undecodable),
        ("changed", report.changed),
        ("cut short", report.cut_short),
    ):
        list_some(console, title, (f"{entry.path}: {entry.reason}" for entry in entries), len(entries))
    for overlap in report.overlaps:
        groups = [" = ".join(f"{place.split} {place.path}" for place in group) for group in overlap.examples]
        title = f"same {overlap.by} in {' and '.join(overlap.splits)}"
        list_some(console, title, groups[:SHOWN_EXAMPLES], overlap.count)
    if report.effort is not None:
        say(console, effort(report), "dim")


def list_some(console: Console, title: str, entries: Iterable[str], count: int) -> None:
    """The first LISTED of `count` entries."""
    if not count:
        return
    say(console, f"{title}: {count}")
    shown = list(islice(entries, LISTED))
    for entry in shown:
        say(console, f"  {entry}")
    if count > len(shown):
        say(console, f"  and {count - len(shown)} more")


def _table(report: Report) -> Table:
    """With columns for what is wrong only where something is."""
    splits = report.splits.values()
    columns = {
        "expected": [f"{split.expected:,}" for split in splits],
        "found": [f"{split.found:,}" for split in splits],
    }
    for kind in ("missing", "empty", "undecodable", "changed"):
        counts = [getattr(split, kind) for split in splits]
        if any(counts):
            columns[kind] = [f"[red]{count:,}[/red]" if count else "0" for count in counts]
    columns["captions"] = [_range(split.captions.per_sample if split.captions else None) for split in splits]
    columns["words"] = [_range(split.captions.words if split.captions else None) for split in splits]
    if any(split.seconds for split in splits):
        columns["hours"] = [f"{split.seconds / 3600:.2f}" for split in splits]
    table = Table("split", box=SIMPLE)
    for title in columns:
        table.add_column(title, justify="right")
    for name, *cells in zip(report.splits, *columns.values(), strict=True):
        table.add_row(escape(name), *cells)
    return table


def _range(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    if spread.least == spread.most:
        return f"{spread.least:.0f}"
    return f"{spread.least:.0f}–{spread.most:.0f}"
