"""What a search has found: its trials in order, which of them are chosen, how much each knob matters.

Importances are Optuna's conditional PED-ANOVA, which takes in the knobs that only some trials have: how much a
knob decides whether a complete trial is among the best quarter of them (of two objectives: near the front).
"""

import csv
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.plan import short_names, shown
from mac_ray.ablation.proposals import COMMAND, FLOPS, REASON, RUNS
from mac_ray.ablation.space import values_of
from mac_ray.ablation.statistics import unbeaten
from mac_ray.ablation.study import TRIALS
from mac_ray.ablation.sweep import Search, Sweep
from mac_ray.files import replaced, write
from mac_ray.passwords import without_passwords_in

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
    reason: str  # why it failed or was stopped
    # of its runs, by which trials of one recipe are known; empty without any
    identities: tuple[str, ...] = ()
    command: str = ""  # that trains the first of them

    @property
    def said(self) -> str:
        """Its values as people read them."""
        return said_of(self.values)

    @property
    def label(self) -> str:
        return label_of(self.number, self.values)


@dataclass(frozen=True)
class Chosen:
    """A trial that a search ends with, and what its runs scored on the test split, on which nothing was chosen."""

    finding: Finding
    outcomes: Sequence[Outcome]  # of each seed

    def tested(self, metric: str) -> tuple[float, str] | None:
        """Mean over seeds, and the written 95% interval over queries of each; None where a run's results are gone."""
        if not self.outcomes or not all(metric in outcome.metrics for outcome in self.outcomes):
            return None
        values = [outcome.metrics[metric] for outcome in self.outcomes]
        intervals = (outcome.intervals[metric] for outcome in self.outcomes)
        return sum(values) / len(values), " ".join(f"[{low:.1f}, {high:.1f}]" for low, high in intervals)


def said_of(values: Mapping[str, Any]) -> str:
    """As people read them, of knobs by dotted path."""
    short = short_names(values)
    return ", ".join(f"{short[path]}={shown(value)}" for path, value in values.items())


def label_of(number: int, values: Mapping[str, Any]) -> str:
    """Of a trial."""
    return f"trial {number}: {said_of(values)}"


def find(study: Study, search: Search) -> list[Finding]:
    """All trials that have ended, the best first and those without a value last."""
    findings = [
        Finding(
            trial.number,
            trial.state.name,
            values_of(trial.params, search.space),
            trial.values[0] if trial.state == TrialState.COMPLETE else None,
            trial.user_attrs.get(FLOPS, 0.0),
            False,
            # one that was tried again may have a reason why it failed at first
            trial.user_attrs.get(REASON, "") if trial.state == TrialState.FAIL else _why_stopped(trial),
            tuple(trial.user_attrs.get(RUNS, ())),
            trial.user_attrs.get(COMMAND, ""),
        )
        for trial in study.get_trials(deepcopy=False, states=ENDED)
    ]
    maximize = study.directions[0] == StudyDirection.MAXIMIZE
    sign = 1 if maximize else -1
    ranked = sorted(
        findings, key=lambda found: (found.value is None, -sign * (found.value or 0.0), found.number)
    )
    complete = [finding for finding in ranked if finding.value is not None]
    best = complete[:1] if len(study.directions) == 1 else front(complete, maximize)
    return [replace(finding, chosen=finding in best) for finding in ranked]


def _why_stopped(trial: FrozenTrial) -> str:
    """Empty but for a pruned trial."""
    if trial.state != TrialState.PRUNED:
        return ""
    if trial.last_step is None:
        return "stopped early"
    value = trial.intermediate_values[trial.last_step]
    return f"stopped at {trial.last_step}% of the run with {value:.1f}, not among the better half of its kind"


def write_trials(sweep: Sweep, findings: Sequence[Finding], folder: Path) -> list[Path]:
    """The files it wrote: all trials as CSV and as JSON."""
    table, plain = folder / "trials.csv", folder / TRIALS
    with replaced(table) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(_rows(sweep, findings))
    trials = [
        _facts(sweep, found) | {"values": without_passwords_in(dict(found.values)), "command": found.command}
        for found in findings
    ]
    write(plain, json.dumps(trials, indent=1, ensure_ascii=False))
    return [table, plain]


def importances(study: Study, search: Search) -> dict[str, float]:
    """By dotted path, the greatest first; they sum to 1. Empty while there are too few complete trials, where nothing
    tells the best of them from the others, and of one knob alone.
    """
    complete = study.get_trials(deepcopy=False, states=ENDED[:1])
    if len(complete) < FEWEST_TRIALS:
        return {}
    told = optuna.create_study(directions=study.directions)
    for trial in complete:  # without what was drawn, and left out by its condition
        there = values_of(trial.params, search.space)
        told.add_trial(
            optuna.trial.create_trial(
                values=trial.values,
                params={path: trial.params[path] for path in there},
                distributions={path: trial.distributions[path] for path in there},
            )
        )
    with warnings.catch_warnings():  # of trials that are all as good, which is seen below
        warnings.simplefilter("ignore", UserWarning)
        shares = get_param_importances(
            told, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
        )
    # shares sum to 1: a knob alone always has all of it, and equal ones are what Optuna makes of none at all
    if len(set(shares.values())) <= 1:
        return {}
    return {path: shares[path] for path in sorted(shares, key=lambda path: (-shares[path], path))}


def front(findings: Sequence[Finding], maximize: bool) -> list[Finding]:
    """Complete trials of which no other is both as good and as cheap, cheapest first."""
    sign = 1 if maximize else -1
    in_turn = sorted(findings, key=lambda found: found.number)
    return unbeaten(in_turn, lambda found: found.flops, lambda found: sign * _value(found))


def _rows(sweep: Sweep, findings: Sequence[Finding]) -> Iterator[list[Any]]:
    """A line per trial, a column per knob, whose values are JSON."""
    knobs = list(dict.fromkeys(path for finding in findings for path in finding.values))
    yield [*_names(sweep), *knobs]
    for found in findings:
        facts = _facts(sweep, found) | {"chosen": str(found.chosen).lower()}
        values = without_passwords_in(dict(found.values))
        cells = [json.dumps(values[path]) if path in values else "" for path in knobs]
        yield [*facts.values(), *cells]


def _facts(sweep: Sweep, found: Finding) -> dict[str, Any]:
    """Of a trial, beside its values."""
    known = (found.number, found.state, found.chosen, found.value, found.flops or None, found.reason)
    return dict(zip(_names(sweep), known, strict=True))


def _names(sweep: Sweep) -> list[str]:
    return ["trial", "state", "chosen", f"val/{sweep.metric}", "flops", "reason"]


def _value(finding: Finding) -> float:
    assert finding.value is not None  # of complete trials only
    return finding.value
