"""What a search has found: its trials in order, which of them are chosen, and the plots of front and importances.

Importances are Optuna's conditional PED-ANOVA, which takes in the knobs that only some trials have: how much a
knob decides whether a trial is among the best quarter (of two objectives: near the front).
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from mac_ray.ablation.plan import short_name
from mac_ray.ablation.proposals import FLOPS, REASON
from mac_ray.ablation.space import values_of
from mac_ray.ablation.sweep import Search, Sweep

BEST_SHARE = 0.25  # of the trials, what importances are about
FEWEST_TRIALS = 8  # complete, for importances to mean something: two are among the best
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Finding:
    """A trial that has ended."""

    number: int
    state: str  # COMPLETE, PRUNED or FAIL
    values: Mapping[str, Any]  # by dotted path of the config
    value: float | None  # val metric, mean over seeds; None unless complete
    flops: float  # of a run; 0 unless complete
    chosen: bool  # the best, or on the front where cost is weighed
    reason: str  # why it failed


def find(study: Study, search: Search) -> list[Finding]:
    """All trials that have ended, the best first and those without a value last."""
    best = {trial.number for trial in study.best_trials} if study.get_trials(states=ENDED[:1]) else set()
    if len(study.directions) == 1:
        best = set(sorted(best)[:1])  # the first of equals
    findings = [
        Finding(
            trial.number,
            trial.state.name,
            values_of(trial.params, search.space),
            trial.values[0] if trial.state == TrialState.COMPLETE else None,
            trial.user_attrs.get(FLOPS, 0.0),
            trial.number in best,
            trial.user_attrs.get(REASON, ""),
        )
        for trial in study.get_trials(deepcopy=False, states=ENDED)
    ]
    sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
    return sorted(
        findings, key=lambda found: (found.value is None, -sign * (found.value or 0.0), found.number)
    )


def write_findings(study: Study, sweep: Sweep, findings: Sequence[Finding], folder: Path) -> list[Path]:
    """The files, as far as there is something to show."""
    written = [folder / "trials.csv"]
    with written[0].open("w", newline="") as file:
        csv.writer(file).writerows(_rows(sweep, findings))
    complete = [finding for finding in findings if finding.value is not None]
    if complete:
        written += _saved(front_figure(complete, sweep), folder / "pareto")
    if len(complete) >= FEWEST_TRIALS:
        written += _saved(importance_figure(importances(study), sweep), folder / "importances")
    return written


def importances(study: Study) -> dict[str, float]:
    """By dotted path, the greatest first; they sum to 1."""
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE))


def front(findings: Sequence[Finding], maximize: bool) -> list[Finding]:
    """Complete trials of which no other is both as good and as cheap, cheapest first."""
    sign = 1 if maximize else -1
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda found: (found.flops, -sign * _value(found), found.number)):
        if not kept or sign * _value(finding) > sign * _value(kept[-1]):
            kept.append(finding)
    return kept


def front_figure(complete: Sequence[Finding], sweep: Sweep) -> Figure:
    figure = Figure(figsize=(7.2, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [found.flops / 1e12 for found in complete],
        list(map(_value, complete)),
        color="silver",
        label="trials",
    )
    best = front(complete, sweep.direction == "maximize")
    costs, values = [found.flops / 1e12 for found in best], list(map(_value, best))
    axes.step(costs, values, where="post", color="tab:blue", linewidth=1)
    axes.scatter(costs, values, color="tab:blue", zorder=3, label="front: none is as good for less")
    for found, cost, value in zip(best, costs, values, strict=True):
        axes.annotate(str(found.number), (cost, value), (4, 4), textcoords="offset points", fontsize="small")
    axes.set(xlabel="training cost of a run, TFLOP", ylabel=f"val/{sweep.metric}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def importance_figure(found: Mapping[str, float], sweep: Sweep) -> Figure:
    figure = Figure(figsize=(7.2, 1.2 + 0.35 * len(found)), dpi=150, layout="constrained")
    axes = figure.subplots()
    paths = list(found)[::-1]
    bars = axes.barh([short_name(path) for path in paths], [found[path] for path in paths], color="tab:blue")
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize="small")
    axes.set(xlabel=f"importance for being among the best {BEST_SHARE:.0%} by val/{sweep.metric}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _saved(figure: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        figure.savefig(path)
    return paths


def _rows(sweep: Sweep, findings: Sequence[Finding]) -> Iterator[list[Any]]:
    """A line per trial, a column per knob; JSON where a value is no plain one."""
    knobs = list(dict.fromkeys(path for finding in findings for path in finding.values))
    yield ["trial", "state", "chosen", f"val/{sweep.metric}", "flops", "reason", *knobs]
    for found in findings:
        cells = [json.dumps(found.values[path]) if path in found.values else "" for path in knobs]
        value = "" if found.value is None else found.value
        flops = found.flops or ""
        yield [found.number, found.state, str(found.chosen).lower(), value, flops, found.reason, *cells]


def _value(finding: Finding) -> float:
    assert finding.value is not None  # of complete trials only
    return finding.value
