"""Means over seeds with an error that covers both seeds and test samples, p-values, and order.

Every seed is scored on the same test samples, so seeds and samples are crossed, as readers and cases are in
studies of diagnosis, and the analysis is theirs: what samples contribute to the error of a mean over seeds is
measured by the bootstrap, what seeds contribute by their own spread, and the quantile is Student's, with the
degrees of freedom of Hillis (2007, Statistics in Medicine 26:596-619). These are too many where two or three seeds
happen to agree, so the errors of the samples alone and of the seeds alone hold where they are larger. Resampling
seeds too, as a crossed bootstrap does, misses its level for a handful of them.

Made differences of mean 0, of two, three or five seeds, from seeds that do not matter to seeds that matter most, are
found at the 5% level in 1% to 6% of cases and at the 0.45% level, Holm's first of eleven comparisons, in at most 0.6%.
Samples alone find 6% to 34% at the 5% level; without the error of the seeds alone it would be up to 12%, and 6% at the
0.45% level.

S seeds, N resamples of the test samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np
from scipy import stats

from mac_ray.retrieval.ranks import FloatArray

LEVEL = 0.05  # of tests; intervals are 95%
MOST_PERMUTED = 8  # rows, whose 40,320 orders are looked at one by one


@dataclass(frozen=True)
class Uncertainty:
    """Of a mean, by one account of where it comes from."""

    error: float  # standard
    freedom: float  # degrees of; infinite for test samples alone

    def width(self) -> float:
        """Of a 95% interval, to one side."""
        return float(stats.t.ppf(1 - LEVEL / 2, self.freedom)) * self.error

    def p_value(self, mean: float, resamples: int) -> float:
        """Two-sided, of the true mean being 0."""
        if self.error == 0:
            return 1.0 if mean == 0 else 1 / (resamples + 1)  # so many resamples can tell no more
        return float(2 * stats.t.sf(abs(mean) / self.error, self.freedom))


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two.

    Of several accounts of its error the largest holds, at each level anew: few degrees of freedom matter more the
    smaller the level, and Holm's correction asks for small ones.
    """

    mean: float
    uncertainties: tuple[Uncertainty, ...]
    resamples: int  # N
    drawn: FloatArray | None = (
        None  # its resamples (N,), where how they lie says more than how far they spread
    )

    @property
    def interval(self) -> tuple[float, float]:
        """95%, not cut off where a metric ends."""
        width = max(each.width() for each in self.uncertainties)
        low, high = self.mean - width, self.mean + width
        if self.drawn is not None:
            lowest, highest = np.quantile(self.drawn, (LEVEL / 2, 1 - LEVEL / 2))
            low, high = min(low, float(lowest)), max(high, float(highest))
        return low, high

    @property
    def p_value(self) -> float:
        """Two-sided, of the true value being 0."""
        found = max(each.p_value(self.mean, self.resamples) for each in self.uncertainties)
        if self.drawn is not None:
            beyond = 2 * min(np.mean(self.drawn <= 0), np.mean(self.drawn >= 0))
            found = max(found, min(1.0, float(beyond)))
        return found


def estimate(
    values: FloatArray, resampled: FloatArray, rounding: float = 0.0, is_coarse: bool = False
) -> Estimate:
    """From a metric of every seed (S,), or a difference of every pair, and the same on each resample of the test
    samples (S, N): the columns of all seeds are the same draws.

    `rounding`: the variance that the values have of being rounded, to hits of so many queries or to whole ranks. Seeds
    may agree by that alone, and are no surer than it. `is_coarse`: the rounding is as large as what is looked for, as
    that of median ranks, so resamples are counted, too, and not only their spread taken.
    """
    num_seeds, num_resamples = resampled.shape
    samples = float(resampled.mean(axis=0).var(ddof=1))
    uncertainties = [Uncertainty(math.sqrt(samples), math.inf)]
    seeds = max(float(values.var(ddof=1)), rounding) / num_seeds if num_seeds > 1 else 0.0
    if seeds > 0:
        # what samples do differently to each seed is in both terms; it is there once as the spread that resamples add
        both = max(float(resampled.var(axis=0, ddof=1).mean()) / num_seeds - seeds, 0.0)
        total = seeds + max(samples - both, 0.0)
        uncertainties.append(Uncertainty(math.sqrt(total), (num_seeds - 1) * (total / seeds) ** 2))
        uncertainties.append(Uncertainty(math.sqrt(seeds), num_seeds - 1))
    drawn = resampled.mean(axis=0) if is_coarse else None
    return Estimate(float(values.mean()), tuple(uncertainties), num_resamples, drawn)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted for all being looked at (Holm 1979): each is significant at a level when it is below that level."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


ItemT = TypeVar("ItemT")


def unbeaten(
    items: Iterable[ItemT], cost: Callable[[ItemT], float], worth: Callable[[ItemT], float]
) -> list[ItemT]:
    """The Pareto front: items than which no other is worth at least as much for as little, and more or for less. The
    cheapest first, and of equals the one that is first."""
    front: list[ItemT] = []
    for item in sorted(items, key=lambda item: (cost(item), -worth(item))):
        if not front or worth(item) > worth(front[-1]):
            front.append(item)
    return front


@dataclass(frozen=True)
class Agreement:
    """How far an order of rows is that of others."""

    rows: int
    pairs: int  # that the other side, theirs, orders
    agreeing: int  # of these, that ours orders alike; one that it ties does not
    tau: float  # Kendall's tau-b; NaN where one side orders nothing
    p_value: float  # of no association, two-sided
    smallest_p_value: float  # of any order: with fewer than five rows, or many ties, not below 0.05


def agreement(ours: FloatArray, theirs: FloatArray) -> Agreement:
    """Of two or more rows."""
    result = stats.kendalltau(ours, theirs)
    own, order = (np.sign(values[:, None] - values) for values in (ours, theirs))
    pairs = np.triu_indices(len(ours), k=1)
    agree = own[pairs] * order[pairs]
    p_value, smallest = float(result.pvalue), 2 / math.factorial(len(ours))  # exact without ties
    if len(ours) <= MOST_PERMUTED or not (own[pairs].all() and order[pairs].all()):
        p_value, smallest = _permuted(own[pairs], order, abs(agree.sum()))
    return Agreement(
        rows=len(ours),
        pairs=int(np.count_nonzero(order[pairs])),
        agreeing=int(np.count_nonzero(agree > 0)),
        tau=float(result.statistic),
        p_value=p_value,
        smallest_p_value=smallest,
    )


def _permuted(own: FloatArray, order: FloatArray, found: float) -> tuple[float, float]:
    """Shares of orders of rows that agree or disagree as much as was `found`, and as much as any does: of all orders,
    with ties too, or of so many drawn ones. `own` are signs of pairs, `order` those of the other side (rows, rows).
    """
    rows = len(order)
    first, second = np.triu_indices(rows, k=1)
    if rows <= MOST_PERMUTED:
        orders = np.array(list(permutations(range(rows))))
    else:
        drawn = np.tile(np.arange(rows), (math.factorial(MOST_PERMUTED), 1))
        orders = np.random.default_rng(0).permuted(drawn, axis=1)
    agree = np.abs((own * order[orders[:, first], orders[:, second]]).sum(axis=1))
    return float(np.mean(agree >= found)), float(np.mean(agree == agree.max()))
