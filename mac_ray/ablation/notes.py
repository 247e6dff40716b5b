"""What a reader of a table has to know beside its numbers: where they are fewer or less equal than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.sweep import Sweep
from mac_ray.quantity import in_short

if TYPE_CHECKING:
    from mac_ray.ablation.table import TableRow  # whose tables have these notes

UNEQUAL = {"samples": 0.02, "flops": 0.02, "seconds": 0.1}  # of a budget, beyond which a reader is told
NAMED = 6  # rows; more are counted
UNEVEN = 1.25  # seconds of the slowest seed of a row to those of the fastest, beyond which a reader is told


def notes(
    sweep: Sweep,
    rows: Sequence[TableRow],
    baseline: str,
    done: Sequence[Outcome],
    missing: int,
    is_ranked: bool,
) -> Iterator[str]:
    """Sentences. `baseline` is a label, `done` the finished runs, `missing` the test samples that some of them lack;
    `is_ranked`: of a table that has a best row."""
    yield from on_scores(done, "finished runs")
    yield from on_training(done)
    yield from _galleries(rows, baseline)
    yield from _seeds(rows)
    if missing:
        yield f"{missing} test samples that not every run has scored are left out of all rows."
    yield from _comparisons(rows, baseline)
    yield from _budget(sweep, rows, baseline)
    yield from _published(sweep, rows)
    yield from pace(done)
    if is_ranked:
        yield from _chosen(rows, baseline)


def on_scores(done: Sequence[Outcome], called: str) -> Iterator[str]:
    """Sentences on what runs were scored on, and how well they may be."""
    yield from _coverage(done, called)
    yield from _collapsed(done)


def on_training(done: Sequence[Outcome]) -> Iterator[str]:
    """Sentences on what may tell runs apart that are compared, beside their recipes."""
    yield from _precisions(done)
    yield from _versions(done)


def named(labels: Sequence[str]) -> str:
    return f"{len(labels)} rows" if len(labels) > NAMED else ", ".join(map(repr, labels))


def uncompared(rows: Sequence[TableRow], baseline: str) -> tuple[list[str], list[str]]:
    """Labels of finished rows that stand beside a finished baseline without a comparison: those that share no seed
    with it, and those that scored other test samples.
    """
    base = next((set(row.by_seed) for row in rows if row.label == baseline), set())
    finished = [row for row in rows if base and row.by_seed and row.label != baseline]
    unpaired = [row.label for row in finished if not base & set(row.by_seed)]
    apart = [row.label for row in finished if row.comparison is None and row.label not in unpaired]
    return unpaired, apart


def _coverage(done: Sequence[Outcome], called: str) -> Iterator[str]:
    parts = {outcome.coverage for outcome in done if outcome.coverage[0] < outcome.coverage[1]}
    for decoded, expected in sorted(parts):
        own = [outcome for outcome in done if outcome.coverage == (decoded, expected)]
        labels = list(dict.fromkeys(outcome.row for outcome in own))
        which = "All" if len(own) == len(done) else f"{len(own)} of {len(done)}"
        yield (
            f"{which} {called}{'' if which == 'All' else f', those of {named(labels)},'} scored {decoded:,} of "
            f"{expected:,} test samples, which is easier than scoring all."
        )


def _galleries(rows: Sequence[TableRow], baseline: str) -> Iterator[str]:
    """A rank is among all that a run has scored, so a smaller gallery is an easier task."""
    _, apart = uncompared(rows, baseline)
    if apart:
        yield (
            f"{named(apart)} scored other test samples than the baseline, so ranks are among other ones, and there "
            "is no comparison."
        )


def _seeds(rows: Sequence[TableRow]) -> Iterator[str]:
    seeds = {frozenset(row.by_seed) for row in rows if row.by_seed}
    counts = {len(own) for own in seeds}
    if 1 in counts:
        which = "Every row that has finished has" if counts == {1} else "Some rows have"
        yield (
            f"{which} one seed: there, intervals and p-values cover the test samples alone and say nothing "
            "about how much another seed changes."
        )
    if len(seeds) > 1:
        yield (
            "Not every row has finished the same seeds, so means are over different ones; differences are over those "
            "that a row and the baseline both have."
        )


def _comparisons(rows: Sequence[TableRow], baseline: str) -> Iterator[str]:
    finished = [row for row in rows if row.by_seed]
    if not finished:
        return
    if all(row.label != baseline for row in finished):
        yield f"No run of the baseline {baseline!r} has finished, so nothing is compared with it."
        return
    unpaired, _ = uncompared(rows, baseline)
    if unpaired:
        yield f"No seed of {named(unpaired)} has finished for the baseline too, so there is no comparison."
    base = next(set(row.by_seed) for row in finished if row.label == baseline)
    for row in finished:
        common = len(base & set(row.by_seed))
        if row.comparison and row.comparison.seeds < common:
            yield (
                f"The difference of {row.label!r} is over {row.comparison.seeds} of {common} seeds: of the others, it "
                "and the baseline scored different test samples."
            )
    alone = [
        row.label
        for row in finished
        if row.comparison and len(base & set(row.by_seed)) == 1 and len(row.by_seed) > 1
    ]
    if alone:
        yield (
            f"Of {named(alone)} one seed alone has finished for the baseline too: that comparison covers the test "
            "samples and says nothing about how much another seed changes."
        )


def unequal(sweep: Sweep, rows: Sequence[TableRow], baseline: str) -> dict[str, float]:
    """Rows that took more or less of what all were to take equally, relative to the baseline, or to the first row
    where no run of that has finished."""
    equal = sweep.budget.equal
    costs = {row.label: row.costs[equal] for row in rows if row.costs.get(equal)}
    if not costs:
        return {}
    unit = costs[_unit(costs, baseline)]
    ratios = {label: cost / unit for label, cost in costs.items()}
    return {label: ratio for label, ratio in ratios.items() if abs(ratio - 1) > UNEQUAL[equal]}


def _unit(labels: Collection[str], baseline: str) -> str:
    """Of the rows that have a cost, the one that others are relative to."""
    return baseline if baseline in labels else next(iter(labels))


def _budget(sweep: Sweep, rows: Sequence[TableRow], baseline: str) -> Iterator[str]:
    """Where it was not kept: seconds are planned by a few steps, and then the machine does as it likes."""
    equal = sweep.budget.equal
    if off := unequal(sweep, rows, baseline):
        said = ", ".join(f"{label!r} {ratio:.2f}" for label, ratio in off.items())
        if len(off) > NAMED:
            said = f"{len(off)} rows, from {min(off.values()):.2f} to {max(off.values()):.2f}"
        base = _unit([row.label for row in rows if row.costs.get(equal)], baseline)
        if sweep.budget.is_as_configured:
            yield (
                "Rows were trained as long as their configs say, which is on more or fewer samples, relative to "
                f"{base!r}: {said}."
            )
            return
        yield f"Rows were to take equal {equal}, but some did not, relative to {base!r}: {said}."


def trials_budget(sweep: Sweep, done: Sequence[Outcome]) -> Iterator[str]:
    """The same of the trials of a search, which have no row to be relative to; `done` are their runs."""
    equal = sweep.budget.equal
    if sweep.budget.is_as_configured:
        return
    costs: dict[str, list[float]] = {}
    for outcome in done:
        if cost := outcome.costs.get(equal):
            costs.setdefault(outcome.row, []).append(cost)
    means = [sum(own) / len(own) for own in costs.values()]
    if means and max(means) > (1 + UNEQUAL[equal]) * min(means):
        yield f"Trials were to take equal {equal}, but took from {in_short(min(means))} to {in_short(max(means))}."
    if equal == "seconds":
        yield from pace(done)


def _published(sweep: Sweep, rows: Sequence[TableRow]) -> Iterator[str]:
    given = [row for row in rows if row.published]
    if given and not any(sweep.metric in row.published for row in given):
        yield (
            f"{sweep.reference} has no {sweep.metric}, so no published value stands beside; it has "
            f"{', '.join(given[0].published)}."
        )


def _collapsed(done: Sequence[Outcome]) -> Iterator[str]:
    """Which one seed of several may do, and widen the interval of its row."""
    for outcome in done:
        if outcome.warning:
            yield f"{outcome.row!r}, seed {outcome.seed}: {outcome.warning}"


def _precisions(done: Sequence[Outcome]) -> Iterator[str]:
    """Left to the hardware, one may be another on another machine."""
    found = Counter(outcome.precision for outcome in done if outcome.precision)
    if len(found) > 1:
        said = "; ".join(f"{name} ({count})" for name, count in found.most_common())
        yield f"Runs were trained in different precisions: {said}; set precision, and small differences compare too."


def _versions(done: Sequence[Outcome]) -> Iterator[str]:
    """A run is known by what it trains, and not by the code that trained it."""
    found = Counter(outcome.code for outcome in done if outcome.code)
    if len(found) > 1:
        said = "; ".join(f"{name} ({count})" for name, count in found.most_common())
        yield f"Runs were trained by different versions of the code: {said}; see that none of them changed training."


def _chosen(rows: Sequence[TableRow], baseline: str) -> Iterator[str]:
    count = sum(bool(row.by_seed) for row in rows) - sum(map(len, uncompared(rows, baseline)))
    if count > 2:
        yield (
            f"The best of {count} rows is chosen by the very scores that are shown for it, so it is lucky as well as "
            "good; on other data, expect less of it."
        )


def pace(done: Sequence[Outcome]) -> Iterator[str]:
    """A sentence where seconds say more about machines than about rows."""
    devices = Counter(outcome.device for outcome in done if outcome.device)
    if len(devices) > 1:
        said = "; ".join(f"{name} ({count})" for name, count in devices.most_common())
        yield f"Do not compare seconds: runs were trained on different devices: {said}."
        return
    workers = Counter(outcome.workers for outcome in done if outcome.workers)
    if len(workers) > 1:
        said = "; ".join(f"{name} ({count})" for name, count in workers.most_common())
        yield f"Do not compare seconds: runs were trained by different workers: {said}."
        return
    seconds: dict[str, list[float]] = {}
    for outcome in done:
        seconds.setdefault(outcome.row, []).append(outcome.costs.get("seconds", 0.0))
    # seeds of a row do the same work
    uneven = {label: own for label, own in seconds.items() if min(own) and max(own) / min(own) > UNEVEN}
    if uneven:
        worst, own = max(uneven.items(), key=lambda found: max(found[1]) / min(found[1]))
        yield (
            f"Do not compare seconds: in {len(uneven)} of {len(seconds)} rows one seed took much longer than another, "
            f"{worst!r} from {min(own):.0f} to {max(own):.0f} s, so the machine was not equally busy for all."
        )
