"""What runs did on their way: the sweep's metric on val against what had been spent by then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mac_ray.ablation.outcome import Outcome

SPENT = ("samples", "flops", "seconds")


@dataclass(frozen=True)
class CurvePoint:
    """Over the seeds that were scored at this step."""

    row: str  # label
    step: int
    spent: dict[str, float]  # SPENT, means
    mean: float
    low: float  # of the seeds
    high: float


def curves(outcomes: Sequence[Outcome], rows: Sequence[str], metric: str) -> list[CurvePoint]:
    """Of the finished runs of `rows`, each row in the order of its steps."""
    points = []
    for row in rows:
        scores: dict[int, list[float]] = defaultdict(list)
        spent: dict[int, list[dict[str, float]]] = defaultdict(list)
        for outcome in outcomes:
            if outcome.row == row and outcome.status == "FINISHED":
                steps, values = _history(outcome, f"val/{metric}")
                costs = {name: _interpolated(outcome, f"cost/{name}", steps) for name in SPENT}
                for number, (step, value) in enumerate(zip(steps, values, strict=True)):
                    scores[step].append(value)
                    spent[step].append({name: float(cost[number]) for name, cost in costs.items()})
        points += [
            CurvePoint(
                row=row,
                step=step,
                spent={name: float(np.mean([seed[name] for seed in spent[step]])) for name in SPENT},
                mean=float(np.mean(scores[step])),
                low=min(scores[step]),
                high=max(scores[step]),
            )
            for step in sorted(scores)
        ]
    return points


def _history(outcome: Outcome, metric: str) -> tuple[list[int], list[float]]:
    found = list(outcome.history(metric))
    return [step for step, _ in found], [value for _, value in found]


def _interpolated(
    outcome: Outcome, cost: str, steps: Sequence[int]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Costs at steps where none was logged lie on the line between those where one was; none at step 0."""
    logged, values = _history(outcome, cost)
    return np.interp(steps, [0, *logged], [0.0, *values])
