"""The trials of a search, from the study's draw to its verdict. Knows nothing of Ray.

What became of a trial is read from the folders of its runs, one per seed, so it does not matter who trained them:
another sweep may have finished them, or an earlier driver of this one. A trial is judged by the val metric of its
finished runs; the test split is for what is chosen in the end, or the choice would be fitted to it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.pruning import STRATUM, percent_made, stratum_of
from mac_ray.ablation.space import propose
from mac_ray.ablation.study import begun, leftovers, sampler_of, taken_up
from mac_ray.ablation.sweep import Search, Sweep
from mac_ray.config import Config, ConfigError
from mac_ray.tracking.journal import PARENT_TAG, Summary, points, status_of, summarize
from mac_ray.training.folder import RunFolder

# attributes of a trial
REASON, FLOPS = "mac_ray.reason", "mac_ray.flops"
PRUNED_TAG = "mac_ray.pruned"  # of a run
PRUNED = "pruned"  # what a stop request says that is made here


class UntrainableError(ConfigError):
    """Sound values that do not go together, in one sentence."""


Plan = Callable[[int, Mapping[str, Any]], Sequence[PlannedRun]]


@dataclass(frozen=True)
class Proposal:
    """A trial with its runs, one per seed."""

    trial: optuna.Trial
    runs: Sequence[PlannedRun]
    reported: set[int] = field(default_factory=set)  # percent of the run, where the pruner has its val metric

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def identities(self) -> list[str]:
        return [run.identity for run in self.runs]


class Proposals:
    def __init__(
        self,
        study: Study,
        sweep: Sweep,
        search: Search,
        parent: str,
        plan: Plan,
        num_steps: Callable[[Config], int],
    ) -> None:
        """`plan` lays out a trial or raises UntrainableError; `num_steps` are those of a run.

        `parent` is the key of the sweep's own run, which those that it trains have in their tags.
        """
        self._study, self._sweep, self._search = study, sweep, search
        self._parent, self._plan, self._num_steps = parent, plan, num_steps
        self._left = leftovers(study)
        self._underway: dict[int, Proposal] = {}
        self._twins: list[Proposal] = []  # wait for the runs of a trial under way

    def next(self) -> Proposal | None:
        """A trial to be trained; None when all have been handed out.

        What needs no training is told at once: a combination that cannot be trained fails with the sentence, and a
        trial whose runs have finished, of whatever sweep, has their result.
        """
        while (trial := self._take()) is not None:
            try:
                runs = self._plan(trial.number, propose(trial, self._search.space))
            except UntrainableError as error:
                self._fail(trial, str(error))
                continue
            proposal = Proposal(trial, runs, set(self._frozen(trial).intermediate_values))
            trial.set_user_attr(STRATUM, stratum_of(runs[0].point.config, self._search, self._sweep.budget))
            stopped_before = bool(proposal.reported) and _is_pruned(runs)
            if stopped_before or all(status_of(run.folder) == "FINISHED" for run in runs):
                self._tell(proposal)
            elif any(other.identities == proposal.identities for other in self._underway.values()):
                self._twins.append(proposal)
            else:
                self._underway[trial.number] = proposal
                return proposal
        return None

    def ended(self, number: int) -> None:
        """The runs of a trial are no longer trained: tell what became of them."""
        proposal = self._underway.pop(number)
        same = [twin for twin in self._twins if twin.identities == proposal.identities]
        self._twins = [twin for twin in self._twins if twin not in same]
        for told in (proposal, *same):
            self._tell(told)

    def judge(self) -> None:
        """Stop what the pruner condemns. The run of the first seed decides; it saves, and says that it was killed."""
        if self._search.prune is None:
            return
        for proposal in self._underway.values():
            run = proposal.runs[0]
            if self._is_ours(run) and self._is_condemned(proposal):
                request = RunFolder(run.folder).stop_request
                # a run that is just being taken up again removes a request that was made before
                if not request.exists():
                    request.write_text(PRUNED)

    def _is_ours(self, run: PlannedRun) -> bool:
        """It is being trained, and by this search: where another sweep trains it, ours waits."""
        found = _summaries([run])
        return bool(found) and found[0].status == "RUNNING" and found[0].tags.get(PARENT_TAG) == self._parent

    def _is_condemned(self, proposal: Proposal) -> bool:
        condemned = self._study.pruner.prune(self._study, self._frozen(proposal.trial))
        for value, percent in self._unreported(proposal):
            if condemned:
                break
            self._report(proposal, value, percent)
            condemned = proposal.trial.should_prune()
        return condemned

    def _report(self, proposal: Proposal, value: float, percent: int) -> None:
        proposal.trial.report(value, percent)
        proposal.reported.add(percent)

    def _unreported(self, proposal: Proposal) -> Iterator[tuple[float, int]]:
        """Val metrics of the first seed's run that the pruner has not seen, each with the percent of the run made."""
        run, name = proposal.runs[0], f"val/{self._sweep.metric}"
        total = self._num_steps(run.point.config)
        for step, value in points(run.folder, name).get(name, []):
            percent = percent_made(step, total)
            if percent not in proposal.reported:
                yield value, percent

    def _take(self) -> optuna.Trial | None:
        """The next trial: first those that a killed driver left, then new ones, as many as there are to be."""
        if self._left:
            number = self._left.pop(0)
            self._study.sampler = sampler_of(self._search, self._sweep.seeds[0], number)
            return taken_up(self._study, number)
        number = len(begun(self._study))
        if number >= self._search.trials:
            return None
        self._study.sampler = sampler_of(self._search, self._sweep.seeds[0], number)
        return self._study.ask()

    def _tell(self, proposal: Proposal) -> None:
        found = _summaries(proposal.runs)
        if len(found) == len(proposal.runs) and all(run.status == "FINISHED" for run in found):
            flops = fmean(run.latest["cost/flops"][1] for run in found)
            values = [fmean(run.latest[f"val/{self._sweep.metric}"][1] for run in found), flops]
            if not all(map(math.isfinite, values)):
                self._fail(proposal.trial, f"val/{self._sweep.metric} is {values[0]}")
                return
            proposal.trial.set_user_attr(FLOPS, flops)
            if self._search.prune:  # what others will be compared with
                for value, percent in self._unreported(proposal):
                    self._report(proposal, value, percent)
            self._study.tell(proposal.trial, values[: len(self._study.directions)])
        elif _is_pruned(proposal.runs):
            self._study.tell(proposal.trial, state=TrialState.PRUNED)
        else:
            reasons = [run.reason for run in found if run.status != "FINISHED" and run.reason]
            self._fail(proposal.trial, next(iter(reasons), "the process that trained it ended"))

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _frozen(self, trial: optuna.Trial) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]


def _is_pruned(runs: Sequence[PlannedRun]) -> bool:
    return any(run.status == "KILLED" and run.tags.get(PRUNED_TAG) == "true" for run in _summaries(runs))


def _summaries(runs: Sequence[PlannedRun]) -> list[Summary]:
    """Of those that have begun."""
    return [summarize(run.folder) for run in runs if status_of(run.folder)]
