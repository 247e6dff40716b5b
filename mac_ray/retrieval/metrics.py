"""Retrieval metrics from ranks: their names, their values, and what chance would score.

Every metric is computed for resamples of the samples: a row of multiplicities says how often each sample
counts. The measurement itself is the resample that takes every sample once, so a metric has one definition
and its bootstrap interval (significance.py) can not drift from it.

Q queries, V samples (videos or images), S resamples, G ranked things, M metrics of one direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mac_ray.retrieval.ranks import FloatArray, IntArray, Ranking

CUTOFFS = (1, 5, 10)
DIRECTIONS = ("t2v", "v2t")
RECALLS = tuple(f"R{cutoff}" for cutoff in CUTOFFS)
MEASURES = (*RECALLS, "MdR", "MnR")
# A tracked name has the scored set in front: msrvtt_1ka/t2v/R1
NAMES = (*(f"{direction}/{measure}" for direction in DIRECTIONS for measure in MEASURES), "Rsum")


@dataclass(frozen=True, eq=False)
class QueryRanks:
    """Ranks of the queries of one direction, and the sample each of them is about."""

    rank: FloatArray  # (Q,)
    sample: IntArray  # (Q,) index below V


def measure(directions: Mapping[str, QueryRanks], multiplicity: IntArray) -> FloatArray:
    """All metrics in the order of NAMES, (S, len(NAMES)), for resamples of the samples.

    `multiplicity` (S, V) says how often a resample holds each sample; all queries of a sample go with it.
    R@K is the percentage of queries with a rank of at most K, Rsum the sum of the six (at most 600).
    """
    values = [
        _measure_direction(directions[name].rank, multiplicity[:, directions[name].sample])
        for name in DIRECTIONS
    ]
    recalls = sum(value[:, : len(CUTOFFS)].sum(axis=1) for value in values)
    return np.column_stack([*values, recalls])


def _measure_direction(rank: FloatArray, multiplicity: IntArray) -> FloatArray:
    """Metrics (S, M) in the order of MEASURES, from ranks (Q,) and multiplicities (S, Q)."""
    order = np.argsort(rank, kind="stable")
    rank, multiplicity = rank[order], multiplicity[:, order]
    within = multiplicity.cumsum(axis=1)  # (S, Q) queries up to each rank
    total = within[:, -1]  # (S,)
    columns = []
    for cutoff in CUTOFFS:
        num_hits = np.searchsorted(rank, cutoff, side="right")
        columns.append(100 * within[:, num_hits - 1] / total if num_hits else np.zeros(len(total)))
    # the middle one of all queries, or the two around the middle
    middle = [
        rank[np.count_nonzero(within <= before[:, None], axis=1)] for before in ((total - 1) // 2, total // 2)
    ]
    columns.append((middle[0] + middle[1]) / 2)
    columns.append(multiplicity @ rank / total)
    return np.column_stack(columns)


def chance(rankings: Mapping[str, Ranking]) -> dict[str, float]:
    """What scores without any information give on average, exactly, for each of NAMES.

    In a random order the best of p positives among G ranked things is within the first K with probability
    1 - C(G-p, K) / C(G, K), which is K/G for p = 1. Where owners compete by their best item, those with more
    items win more often, but over all owners as queries the average is K/G again: K of G are in the first K.
    """
    values: dict[str, float] = {}
    for direction in DIRECTIONS:
        beyond = _chance_beyond(rankings[direction])  # (G + 1,)
        for cutoff in CUTOFFS:
            values[f"{direction}/R{cutoff}"] = float(100 * (1 - beyond[min(cutoff, len(beyond) - 1)]))
        # products of many fractions miss an exact half by a little
        above, not_below = beyond > 0.5 + 1e-9, beyond >= 0.5 - 1e-9
        values[f"{direction}/MdR"] = float(np.count_nonzero(above) + np.count_nonzero(not_below)) / 2
        values[f"{direction}/MnR"] = float(beyond.sum())
    values["Rsum"] = sum(values[f"{direction}/R{cutoff}"] for direction in DIRECTIONS for cutoff in CUTOFFS)
    return values


def shown_chance(level: float) -> str:
    """As people read it; of a large gallery, a recall's is small, and not nothing."""
    return f"{level:.1f}" if level >= 0.1 else f"{level:.1g}"


def _chance_beyond(ranking: Ranking) -> FloatArray:
    """Probability (G + 1,) that the rank of a query is above k = 0 ... G, averaged over the queries."""
    counts, num_queries = np.unique(ranking.num_positives, return_counts=True)  # (D,) different numbers
    place = np.arange(ranking.num_ranked)  # (G,)
    left = np.maximum(ranking.num_ranked - counts[:, None] - place, 0)  # (D, G) competitors not placed yet
    passed_over = (left / (ranking.num_ranked - place)).cumprod(axis=1)  # (D, G)
    beyond = np.hstack([np.ones((len(counts), 1)), passed_over])  # (D, G + 1)
    return np.asarray(num_queries / num_queries.sum() @ beyond)
