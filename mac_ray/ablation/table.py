"""The answer of a sweep as numbers: a row per way to train, beside the baseline and what was published.

All test metrics are computed anew from the ranks of every query, on the samples that every finished run scored,
so that rows differ in nothing but their training. Reading is all it does: the same folders give the same table.

V samples of the test split, S seeds, N resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mac_ray.ablation.notes import notes, pace, uncompared
from mac_ray.ablation.outcome import COSTS, Outcome, TableError
from mac_ray.ablation.plan import Row, baseline_of
from mac_ray.ablation.reference import Values, published_rows, published_table
from mac_ray.ablation.statistics import Agreement, Estimate, agreement, estimate, holm
from mac_ray.ablation.sweep import Sweep
from mac_ray.config import ConfigError
from mac_ray.retrieval.metrics import DIRECTIONS, MEASURES, NAMES, RECALLS, QueryRanks, measure
from mac_ray.retrieval.ranks import FloatArray
from mac_ray.retrieval.significance import bootstrap, with_room

RESAMPLES = 1000
RESAMPLING_SEED = 0  # the same draws for every run, which pairs them
DIGITS = 9  # of a difference, after the point: the last bits of a mean put no row before another
RECALL_LIMITS, RANK_LIMITS = (0.0, 100.0), (1.0, np.inf)
LIMITS = {"Rsum": (0.0, 600.0)} | {
    f"{direction}/{name}": RECALL_LIMITS if name.startswith("R") else RANK_LIMITS
    for direction in DIRECTIONS
    for name in MEASURES
}


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, or a difference of two, with its 95% interval over seeds and test samples."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """With the baseline, paired on seeds and samples."""

    difference: Interval
    p_value: float
    adjusted: float  # after Holm, over all comparisons of the table
    seeds: int  # that both have finished
    same_runs: bool = False  # a row that is the baseline in other words: nothing is compared


@dataclass(frozen=True)
class Problem:
    """A run without a result."""

    seed: int
    status: str  # failed, killed, running, not started
    reason: str

    @property
    def sentence(self) -> str:
        return f"seed {self.seed} {self.status}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class TableRow:
    label: str
    values: Mapping[str, Any]  # by dotted path of the config
    planned: int  # seeds
    by_seed: Mapping[int, float] = field(default_factory=dict)  # the sweep's metric of the finished ones
    metrics: Mapping[str, Interval] = field(default_factory=dict)  # NAMES; empty while no seed has finished
    comparison: Comparison | None = None  # None: the baseline itself, or nothing to pair
    costs: Mapping[str, float] = field(default_factory=dict)  # COSTS, means over seeds
    cost_ratios: Mapping[str, float] = field(default_factory=dict)  # to the baseline's
    published: Values = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def has_failed(self) -> bool:
        """And is not only still to be trained, in some seed."""
        return any(problem.status in ("failed", "killed") for problem in self.problems)

    @property
    def unfinished(self) -> str:
        """What became of the seeds that have no score, such as "failed and not started"."""
        return " and ".join(dict.fromkeys(problem.status for problem in self.problems))


@dataclass(frozen=True)
class Table:
    metric: str
    maximize: bool
    baseline: str  # label
    rows: tuple[TableRow, ...]  # in the order of the plan
    scored: str  # set and protocol of the test metrics; empty while no run has finished
    num_samples: int  # V
    chance: Mapping[str, float]  # by metric
    source: str  # of the published values; empty without
    agreement: Agreement | None  # with the published order; None with fewer than two common rows
    notes: tuple[str, ...]  # what a reader has to know
    num_comparisons: int = 0  # that p-values are corrected for
    is_ranked: bool = True  # False: no baseline to be relative to, and other seeds or samples in some rows
    paces_differ: bool = False  # seconds say more about machines than about rows

    @property
    def finished(self) -> list[TableRow]:
        return [row for row in self.rows if row.metrics]

    @property
    def best(self) -> TableRow | None:
        """The best finished row: of equals the baseline, or else the first.

        Where the baseline has finished, among it and the rows compared with it: or a row would win by a smaller
        gallery. None where no row has finished, or rows can not be ranked.
        """
        if not self.is_ranked:
            return None
        base = _finished_baseline(self.rows, self.baseline)
        return max(
            (row for row in self.finished if base is None or row is base or row.comparison),
            key=lambda row: (self.standing(row), row is base),
            default=None,
        )

    def standing(self, row: TableRow) -> float:
        """What finished rows are ranked by; more is better."""
        own = standing(row, _finished_baseline(self.rows, self.baseline), self.metric)
        return own if self.maximize else -own

    def row(self, label: str) -> TableRow:
        (row,) = (row for row in self.rows if row.label == label)
        return row


def standing(row: TableRow, base: TableRow | None, metric: str) -> float:
    """A finished row's mean, relative to that of the baseline where it has finished: over the seeds that both have, or
    a row would win by those that it has not trained yet."""
    if row.comparison:
        return round(row.comparison.difference.mean, DIGITS)
    return row.metrics[metric].mean - (base.metrics[metric].mean if base else 0.0)


def _finished_baseline(rows: Sequence[TableRow], baseline: str) -> TableRow | None:
    return next((row for row in rows if row.label == baseline and row.metrics), None)


def require_metric(sweep: Sweep) -> None:
    """Raises ConfigError for a metric that no run reports."""
    if sweep.metric not in NAMES:
        raise ConfigError(
            f"sweep {sweep.name}: metric is {sweep.metric!r}, which no run reports; there are {', '.join(NAMES)}"
        )


def build_table(sweep: Sweep, rows: list[Row], outcomes: Sequence[Outcome]) -> Table:
    """The table of a sweep as far as its runs have come; a row without a result says why.

    Raises ConfigError for a metric, baseline or reference that does not exist, and TableError for runs that were
    scored differently or have lost their ranks.
    """
    require_metric(sweep)
    baseline = baseline_of(sweep, rows).label
    published = published_rows(sweep, rows)
    of_row: dict[str, list[Outcome]] = {row.label: [] for row in rows}
    for outcome in outcomes:
        of_row[outcome.row].append(outcome)
    done = [outcome for outcome in outcomes if outcome.status == "FINISHED"]
    scored = _scored(done)
    galleries = _galleries(done)
    samples, missing = _common_samples(galleries)
    measured = {
        label: _Measured([outcome for outcome in own if outcome.status == "FINISHED"], samples, galleries)
        for label, own in of_row.items()
        if any(outcome.status == "FINISHED" for outcome in own)
    }
    is_ranked = baseline in measured or len({own.scored_by_seed for own in measured.values()}) <= 1
    comparisons = _compared(measured, baseline, sweep.metric)
    base_costs = measured[baseline].costs if baseline in measured else {}
    built = tuple(
        TableRow(
            label=row.label,
            values=row.values,
            planned=len(sweep.seeds),
            by_seed=measured[row.label].by_seed(sweep.metric) if row.label in measured else {},
            metrics=measured[row.label].metrics() if row.label in measured else {},
            comparison=comparisons.get(row.label),
            costs=measured[row.label].costs if row.label in measured else {},
            cost_ratios={
                name: cost / base_costs[name]
                for name, cost in (measured[row.label].costs if row.label in measured else {}).items()
                if base_costs.get(name)
            },
            published=published.get(row.label, {}),
            problems=tuple(_problems(sweep, of_row[row.label])),
        )
        for row in rows
    )
    return Table(
        metric=sweep.metric,
        maximize=sweep.maximize,
        baseline=baseline,
        rows=built,
        scored=scored,
        num_samples=len(samples),
        # among fewer samples there is more of it
        chance=done[0].chance if done and all(outcome.chance == done[0].chance for outcome in done) else {},
        source=published_table(sweep).source if published else "",
        agreement=_agreement(built, sweep.metric, baseline) if is_ranked else None,
        notes=tuple(notes(sweep, built, baseline, done, missing, is_ranked)),
        num_comparisons=len(_different(measured, comparisons, baseline)),
        is_ranked=is_ranked,
        paces_differ=any(pace(done)),
    )


def _compared(measured: Mapping[str, _Measured], baseline: str, metric: str) -> dict[str, Comparison]:
    """By label, with the baseline, of the rows that have runs of the same seeds."""
    if baseline not in measured:
        return {}
    base = measured[baseline]
    pairs = {
        label: pair
        for label, own in measured.items()
        if label != baseline and (pair := own.minus(base, metric))
    }
    found = {
        label: Comparison(interval, p_value, p_value, seeds, measured[label].folders == base.folders)
        for label, (interval, p_value, seeds) in pairs.items()
    }
    # rows of the same runs are looked at once
    different = _different(measured, found, baseline)
    adjusted = holm({label: found[label].p_value for label in different.values()})
    return {
        label: replace(pair, adjusted=1.0 if pair.same_runs else adjusted[different[measured[label].folders]])
        for label, pair in found.items()
    }


def _different(
    measured: Mapping[str, _Measured], comparisons: Mapping[str, Comparison], baseline: str
) -> dict[tuple[Path, ...], str]:
    """A label for each comparison of runs with others than themselves."""
    return {
        measured[label].folders: label
        for label in comparisons
        if measured[label].folders != measured[baseline].folders
    }


class _Measured:
    """The finished runs of a row, on the common samples."""

    def __init__(
        self, outcomes: Sequence[Outcome], samples: pa.Array, galleries: Mapping[Path, frozenset[str]]
    ) -> None:
        self.seeds = [outcome.seed for outcome in outcomes]
        self.folders = tuple(outcome.folder for outcome in outcomes)
        self.galleries = [galleries[outcome.folder] for outcome in outcomes]
        self.num_samples = len(samples)
        runs = [_directions(outcome, samples) for outcome in outcomes]
        once = np.ones((1, len(samples)), dtype=np.int64)
        self.values = np.concatenate([measure(run, once) for run in runs])  # (S, len(NAMES))
        self.resampled = np.stack(
            [bootstrap(run, len(samples), RESAMPLES, np.random.default_rng(RESAMPLING_SEED)) for run in runs]
        )  # (S, N, len(NAMES))
        self.costs = {
            name: float(np.mean([outcome.costs[name] for outcome in outcomes]))
            for name in COSTS
            if all(name in outcome.costs for outcome in outcomes)
        }

    @property
    def scored_by_seed(self) -> frozenset[tuple[int, frozenset[str]]]:
        """What its means are over."""
        return frozenset(zip(self.seeds, self.galleries, strict=True))

    def by_seed(self, metric: str) -> dict[int, float]:
        column = self.values[:, NAMES.index(metric)]
        return dict(zip(self.seeds, column.tolist(), strict=True))

    def metrics(self) -> dict[str, Interval]:
        found = {}
        for column, name in enumerate(NAMES):
            values, resampled = self.values[:, column], self.resampled[:, :, column]
            own = _estimate(name, values, resampled, rounding_of(name, self.num_samples))
            interval = _interval(own, *LIMITS[name])
            if np.ptp(resampled) == 0:  # all seeds and samples say the same, others may say something else
                low, high = with_room(name, own.mean, own.mean, self.num_samples)
                interval = Interval(own.mean, low, high) if low < high else interval
            found[name] = interval
        return found

    def minus(self, other: _Measured, metric: str) -> tuple[Interval, float, int] | None:
        """The difference over the seeds that both have, scored among the same samples, its p-value, and how many these
        are; None without any."""
        column = NAMES.index(metric)
        common = [
            (own, other.seeds.index(seed)) for own, seed in enumerate(self.seeds) if seed in other.seeds
        ]
        common = [
            (mine, theirs) for mine, theirs in common if self.galleries[mine] == other.galleries[theirs]
        ]
        if not common:
            return None
        if self.folders == other.folders:
            return Interval(0.0, 0.0, 0.0), 1.0, len(common)
        own, others = map(list, zip(*common, strict=True))
        values = self.values[own, column] - other.values[others, column]
        resampled = self.resampled[own, :, column] - other.resampled[others, :, column]
        found = _estimate(metric, values, resampled, 2 * rounding_of(metric, self.num_samples))
        interval = _interval(found)
        if np.ptp(resampled) == 0:
            _, room = with_room(metric, 0.0, 0.0, self.num_samples)
            interval = Interval(found.mean, found.mean - room, found.mean + room) if room else interval
        # so few samples could not say more if all of them said the same: a sign test
        return interval, max(found.p_value, min(1.0, 2.0 ** (1 - self.num_samples))), len(common)


def rounding_of(metric: str, num_samples: int) -> float:
    """Variance of a value that is anywhere within half a step of what is shown: a median rank comes in whole ones, the
    rest in steps of one sample. A sum of recalls is rounded as often as it has terms."""
    name = metric.rpartition("/")[2]
    step = {"MdR": 1.0, "MnR": 1 / num_samples}.get(name, 100 / num_samples)
    return (2 * len(RECALLS) if name == "Rsum" else 1) * step**2 / 12


def _estimate(metric: str, values: FloatArray, resampled: FloatArray, rounding: float) -> Estimate:
    return estimate(values, resampled, rounding, is_coarse=metric.rpartition("/")[2] == "MdR")


def _interval(found: Estimate, low: float = -np.inf, high: float = np.inf) -> Interval:
    """Cut off where the metric ends."""
    return Interval(found.mean, max(low, found.interval[0]), min(high, found.interval[1]))


# ---------------------------------------------------------------- ranks


def _scored(done: Sequence[Outcome]) -> str:
    """The one set and protocol of all runs. Raises TableError when there are several."""
    of = {(outcome.scored, outcome.coverage[1]): outcome for outcome in reversed(done)}
    if len(of) > 1:
        (one, first), (other, second), *_ = sorted(of.items(), key=lambda item: item[0])
        raise TableError(
            f"run {first.folder} was scored as {one[0]} on {one[1]} samples and {second.folder} as {other[0]} on "
            f"{other[1]}, which cannot be compared; let all rows have the same evaluation and test split"
        )
    return done[0].scored if done else ""


def _galleries(done: Sequence[Outcome]) -> dict[Path, frozenset[str]]:
    """By run, the ids of the samples that it has scored, among which its ranks are. Equal ones are held once."""
    found: dict[Path, frozenset[str]] = {}
    held: dict[frozenset[str], frozenset[str]] = {}
    for outcome in done:
        own = frozenset(_ranks(outcome, ["sample"])["sample"].unique().to_pylist())
        found[outcome.folder] = held.setdefault(own, own)
    return found


def _common_samples(galleries: Mapping[Path, frozenset[str]]) -> tuple[pa.Array, int]:
    """The ids (V,) of the samples that every run has scored, sorted; how many more some have."""
    if not galleries:
        return pa.array([], pa.string()), 0
    different = set(galleries.values())
    common = frozenset.intersection(*different)
    if not common:
        raise TableError(
            f"the runs {next(iter(galleries))} and others share no test sample; train all rows on the same data"
        )
    every = frozenset.union(*different)
    return pa.array(sorted(common), pa.string()), len(every) - len(common)


def _directions(outcome: Outcome, samples: pa.Array) -> dict[str, QueryRanks]:
    ranks = _ranks(outcome, ["direction", "sample", "rank"])
    index = pc.index_in(ranks["sample"].combine_chunks(), value_set=samples)
    direction, rank = ranks["direction"].to_numpy(), ranks["rank"].to_numpy()
    sample = index.fill_null(-1).to_numpy(zero_copy_only=False)
    return {
        name: QueryRanks(rank[kept], sample[kept].astype(np.int64))
        for name in DIRECTIONS
        for kept in [(direction == name) & (sample >= 0)]
    }


def _ranks(outcome: Outcome, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(outcome.ranks, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(
            f"{outcome.ranks} of a finished run cannot be read ({error}); delete the folder {outcome.folder} and the "
            "run is made again"
        ) from error


# ---------------------------------------------------------------- what is said beside the numbers


def _problems(sweep: Sweep, outcomes: Sequence[Outcome]) -> Iterator[Problem]:
    of_seed = {outcome.seed: outcome for outcome in outcomes}
    for seed in sweep.seeds:
        outcome = of_seed.get(seed)
        if outcome is None or outcome.status is None:
            yield Problem(seed, "not started", "")
        elif outcome.status != "FINISHED":
            yield Problem(seed, outcome.status.lower(), outcome.reason)


def _agreement(rows: Sequence[TableRow], metric: str, baseline: str) -> Agreement | None:
    """Of the rows that can be compared with the baseline, where that has finished."""
    left_out = {label for labels in uncompared(rows, baseline) for label in labels}
    common = [row for row in rows if row.metrics and metric in row.published and row.label not in left_out]
    if len(common) < 2:
        return None
    base = _finished_baseline(rows, baseline)
    ours = np.array([standing(row, base, metric) for row in common])
    return agreement(ours, np.array([row.published[metric] for row in common]))
