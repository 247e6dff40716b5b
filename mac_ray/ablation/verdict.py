"""What a table says, in plain words: computed from its numbers, and claiming no more than they show.

A row that cannot be told apart from the baseline is never called equal to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from mac_ray.ablation.notes import UNEQUAL, named, uncompared
from mac_ray.ablation.statistics import LEVEL
from mac_ray.ablation.table import Comparison, Interval, Table, TableRow
from mac_ray.retrieval.metrics import RECALLS, shown_chance

ALONE = " over test samples, of one seed alone"  # what is significant, but not shown


def verdict(table: Table) -> list[str]:
    """Sentences; the first is the answer."""
    if not table.finished:
        return ["No run has finished, so there is no answer yet.", *_unfinished(table)]
    return [
        _answer(table, table.best),
        *_told_apart(table),
        *_not_compared(table),
        *_cheapest(table),
        *_above_chance(table),
        *_published_order(table),
        *_unfinished(table),
    ]


def metric_name(metric: str) -> str:
    """As people write it: text-to-video R@1."""
    direction, _, measure = metric.rpartition("/")
    words = {"t2v": "text-to-video ", "v2t": "video-to-text "}.get(direction, "")
    return words + (f"R@{measure[1:]}" if measure[1:].isdigit() else measure)


def axis_name(metric: str) -> str:
    """With its unit."""
    return f"{metric_name(metric)} (%)" if metric.rpartition("/")[2] in RECALLS else metric_name(metric)


def shown(interval: Interval) -> str:
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def signed(difference: Interval) -> str:
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def shown_p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"


def is_significant(comparison: Comparison) -> bool:
    return comparison.adjusted < LEVEL


def is_shown(comparison: Comparison) -> bool:
    """Significant, and not of one seed alone, which says nothing about how much another seed changes."""
    return is_significant(comparison) and comparison.seeds > 1


def is_better(table: Table, comparison: Comparison) -> bool:
    return (comparison.difference.mean > 0) == table.maximize


def _answer(table: Table, best: TableRow | None) -> str:
    name = metric_name(table.metric)
    if best is None:
        return (
            f"No row is called the best: no seed of the baseline {table.baseline!r} has finished, and those that have "
            "are of other seeds or scored other test samples from row to row."
        )
    value = shown(best.metrics[table.metric])
    if len(table.finished) == 1:
        return f"Only {best.label!r} has finished, with {name} {value}: there is nothing to compare it with."
    compared = [row.comparison for row in table.rows if row.comparison]
    among = " of the rows that can be compared" if any(uncompared(table.rows, table.baseline)) else ""
    if best.label == table.baseline:
        if not compared:
            return (
                f"The baseline {best.label!r} has {name} {value}, and no other row that has finished can be compared "
                "with it."
            )
        said = f"The baseline {best.label!r} has the best mean {name}{among}, {value}"
        if any(map(is_shown, compared)):
            return f"{said}."
        return f"{said}, but no row is significantly worse{_over_seeds(compared)}."
    if best.comparison is None:
        return f"{best.label!r} has the best mean {name}, {value}; no seed of the baseline is there to compare it with."
    gap = (
        f"a difference of {signed(best.comparison.difference)} from the baseline {table.baseline!r} that is "
        f"{'significant' if is_significant(best.comparison) else 'not significant'}"
        f"{ALONE if best.comparison.seeds == 1 else ''} ({_p(best.comparison.adjusted)}, {_corrected(table)})"
    )
    better = [pair for pair in compared if is_better(table, pair)]
    if any(map(is_shown, better)):
        return f"{best.label!r} has the best mean {name}{among}, {value}, {gap}."
    return (
        f"No row is significantly better than the baseline{_over_seeds(better)}: the best{among}, {best.label!r}, has "
        f"{name} {value}, {gap}."
    )


def _told_apart(table: Table) -> Iterator[str]:
    pairs = [(row, row.comparison) for row in table.rows if row.comparison]
    if not pairs:
        return
    compared = [(row, pair) for row, pair in pairs if not pair.same_runs]
    groups = {
        f"significantly {'better' if better else 'worse'}{ALONE if alone else ''}": [
            row.label
            for row, pair in compared
            if is_significant(pair) and is_better(table, pair) == better and is_shown(pair) != alone
        ]
        for better, alone in product((True, False), (False, True))
    }
    groups["not told apart from it (which does not show them to be equal)"] = [
        row.label for row, pair in compared if not is_significant(pair)
    ]
    groups["the same runs as its own"] = [row.label for row, pair in pairs if pair.same_runs]
    parts = [f"{what}: {named(labels)}" for what, labels in groups.items() if labels]
    yield f"Against the baseline, {'; '.join(parts)}."


def _not_compared(table: Table) -> Iterator[str]:
    unpaired, apart = uncompared(table.rows, table.baseline)
    reasons = [f"{named(unpaired)}, of which no seed has finished for the baseline too"] * bool(unpaired)
    reasons += [f"{named(apart)}, scored among other test samples"] * bool(apart)
    if reasons:
        yield f"Not compared with the baseline: {'; '.join(reasons)}."


def _cheapest(table: Table) -> Iterator[str]:
    """For less than the baseline costs; judged before Holm's correction, which would pardon more rows."""
    enough = [
        row
        for row in table.rows
        if row.comparison
        and not row.comparison.same_runs
        and row.cost_ratios.get("flops", 1.0) < 1 - UNEQUAL["flops"]
        and (is_better(table, row.comparison) or row.comparison.p_value >= LEVEL)
    ]
    if enough:
        sign = -1 if table.maximize else 1
        # of rows that cost the same to a percent, the best
        row = min(
            enough,
            key=lambda row: (
                round(row.cost_ratios["flops"], 2),
                sign * row.comparison.difference.mean if row.comparison else 0.0,
            ),
        )
        assert row.comparison is not None
        yield (
            f"The cheapest row that is not shown to be worse than the baseline, {row.label!r}, takes "
            f"{100 * row.cost_ratios['flops']:.0f}% of the baseline's FLOPs for a difference of "
            f"{signed(row.comparison.difference)}."
        )


def _above_chance(table: Table) -> Iterator[str]:
    level = table.chance.get(table.metric)
    if level is None:
        return
    at_chance = [
        row.label
        for row in table.finished
        for value in [row.metrics[table.metric]]
        if (value.low <= level if table.maximize else value.high >= level)
    ]
    if at_chance:
        yield f"Not shown to be better than chance ({shown_chance(level)}): {named(at_chance)}."


def _published_order(table: Table) -> Iterator[str]:
    found = table.agreement
    if found is None:
        return
    if not found.pairs:
        yield f"{table.source} has {found.rows} of the rows, but ties them all, so there is no order to reproduce."
        return
    if math.isnan(found.tau):
        yield (
            f"The {found.rows} rows that {table.source} has are all tied here, so nothing can be said of the order "
            "published there."
        )
        return
    how = "not wholly reproduced" if found.tau > 0 else "not reproduced"
    if found.agreeing == found.pairs:
        how = "reproduced"
    elif found.tau < 0 and (found.agreeing == 0 or found.p_value < LEVEL):
        how = "not reproduced, but rather reversed"
    sentence = (
        f"The order published in {table.source} is {how}: "
        f"{found.agreeing} of {found.pairs} pairs of rows agree (Kendall tau-b {found.tau:.2f}, "
        f"{_p(found.p_value)}, {found.rows} rows)"
    )
    if found.smallest_p_value >= LEVEL:
        tied = ", of which some are tied," if found.pairs < math.comb(found.rows, 2) else ""
        sentence += f"; {found.rows} rows{tied} are too few to tell agreement from chance"
    yield sentence + "."


def _unfinished(table: Table) -> Iterator[str]:
    runs = sum(row.planned for row in table.rows)
    counts: dict[str, int] = {}
    for row in table.rows:
        for problem in row.problems:
            counts[problem.status] = counts.get(problem.status, 0) + 1
    if counts:
        yield f"Without a result, of {runs} runs: {', '.join(f'{n} {status}' for status, n in counts.items())}."


def _over_seeds(compared: Sequence[Comparison]) -> str:
    """What a denial is limited to where some are significant, but of one seed alone."""
    return " over several seeds" if any(map(is_significant, compared)) else ""


def _corrected(table: Table) -> str:
    number = table.num_comparisons
    said = f"after Holm's correction for {number} comparisons" if number > 1 else "one comparison"
    # of a table with more rows every p is larger
    return said + " so far" * any(not row.metrics for row in table.rows)


def _p(p_value: float) -> str:
    return f"p {'' if p_value < 0.001 else '= '}{shown_p(p_value)}"
