"""Which rows of a table a chart shows, and which of them look alike in every chart of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mac_ray.ablation.notes import UNEQUAL, uncompared
from mac_ray.ablation.plan import short_names, shown
from mac_ray.ablation.statistics import unbeaten
from mac_ray.ablation.table import Table, TableRow
from mac_ray.page.palette import MOST_SERIES
from mac_ray.page.vega import Series

FEWEST_VALUES = 3  # of a factor that has a curve
# of the dearest row to the cheapest: what differs less was meant to be equal
SAME_COST = {cost: 1 + most for cost, most in UNEQUAL.items()}


def shown_rows(table: Table) -> list[str]:
    """The rows that charts of many lines show."""
    return [row.label for row in best_rows(table, MOST_SERIES)]


def series_of(table: Table, labels: Iterable[str]) -> Series:
    """At most MOST_SERIES rows: each looks the same in every chart of a page, but for those that few charts show."""
    labels, known = list(labels), shown_rows(table)
    own = {label: known.index(label) for label in labels if label in known}
    free = iter(sorted(set(range(MOST_SERIES)) - set(own.values())))
    return {label: own[label] if label in own else next(free) for label in labels}


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
                others = (
                    f"{short[other]}={shown(value)}" for other, value in row.values.items() if other != path
                )
                series.setdefault(", ".join(others) or "nothing else", []).append(row)
        lasting = {label: rows for label, rows in series.items() if len(rows) >= FEWEST_VALUES}
        if lasting:
            found[path] = lasting
    return found


def pareto_front(table: Table, cost: str) -> list[TableRow]:
    """Rows than which no other is at least as good and as cheap, and better or cheaper; cheapest first. Those that
    cannot be compared with the baseline, as on an easier gallery, neither beat others nor are on it.
    """
    if not table.is_ranked:
        return []
    left_out = {label for labels in uncompared(table.rows, table.baseline) for label in labels}
    compared = [row for row in priced(table, cost) if row.label not in left_out]
    return unbeaten(compared, lambda row: row.costs[cost], table.standing)


def best_rows(table: Table, count: int) -> list[TableRow]:
    """So many finished rows, the baseline among them, in the order of the table."""
    ranked = sorted(table.finished, key=lambda row: (row.label != table.baseline, -table.standing(row)))
    kept = {row.label for row in ranked[:count]}
    return [row for row in table.finished if row.label in kept]


def best_lines(table: Table, series: Mapping[str, Sequence[TableRow]]) -> dict[str, Sequence[TableRow]]:
    """As many as there are shapes, by the best row of each, the baseline's among them, in the order of the table."""

    def place(label: str) -> tuple[bool, float]:
        rows = series[label]
        return all(row.label != table.baseline for row in rows), -max(map(table.standing, rows))

    kept = sorted(series, key=place)[:MOST_SERIES]
    return {label: rows for label, rows in series.items() if label in kept}


def costs_differ(table: Table, cost: str) -> bool:
    """Whether rows cost so differently that it is worth to weigh what they score against it."""
    costs = [row.costs[cost] for row in priced(table, cost)]
    comparable = cost != "seconds" or not table.paces_differ
    return comparable and len(costs) > 1 and max(costs) > SAME_COST[cost] * min(costs)


def priced(table: Table, cost: str) -> list[TableRow]:
    return [row for row in table.finished if cost in row.costs]


def _is_number(row: TableRow, path: str) -> bool:
    value = row.values.get(path)
    return isinstance(value, int | float) and not isinstance(value, bool)
