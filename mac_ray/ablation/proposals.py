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
from mac_ray.ablation.plan import command_of
from mac_ray.ablation.pruning import ALIKE_AFTER, STRATUM, alike_after, percent_made, stratum_of
from mac_ray.ablation.space import propose
from mac_ray.ablation.study import Drawing, begun, leftovers, taken_up
from mac_ray.ablation.sweep import Search, Sweep
from mac_ray.config import Config, ConfigError
from mac_ray.errors import NoRoomToTimeError
from mac_ray.passwords import without_passwords
from mac_ray.tracking.followed import Followed
from mac_ray.tracking.journal import DRIVER_TAG, FAULT_TAG, FILE_NAME, Summary, status_of, summarize
from mac_ray.training.folder import RunFolder
from mac_ray.training.plan import Leg

# attributes of a trial
REASON, FLOPS = "mac_ray.reason", "mac_ray.flops"
RUNS = "mac_ray.runs"  # identities, of the run of each seed: by them its folders are found, wherever they lie by then
COMMAND = "mac_ray.command"  # that trains the first of them by itself
# percent of the run that the pruner has seen, and whether it condemned the trial there
JUDGED = "mac_ray.judged"
PRUNED = "pruned"  # what a stop request says that is made here
FAILURES_IN_A_ROW = 3  # of which something else is the cause than the trials


class UntrainableError(ConfigError):
    """Sound values that do not go together, in one sentence."""


Plan = Callable[[int, Mapping[str, Any]], Sequence[PlannedRun]]


@dataclass(frozen=True)
class Proposal:
    """A trial with its runs, one per seed."""

    trial: optuna.Trial
    runs: Sequence[PlannedRun]
    first: Followed  # run, with its val metric
    reported: set[int] = field(default_factory=set)  # percent of the run, where the pruner has its val metric

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def identities(self) -> list[str]:
        return [run.identity for run in self.runs]

    @property
    def has_finished(self) -> bool:
        """With results, whoever has trained it."""
        return all(status_of(run.folder) == "FINISHED" for run in self.runs)

    @property
    def is_condemned(self) -> bool:
        _, condemned = self.trial.user_attrs.get(JUDGED, (0, False))
        return bool(condemned)


class Proposals:
    """Where the machine fails trials, and not their recipes, no more are handed out after some in a row, or a full disk
    would spend them all; they stay for the next start to try again. One between others that end well has failed.
    """

    def __init__(
        self,
        study: Study,
        sweep: Sweep,
        search: Search,
        parent: str,
        plan: Plan,
        legs_of: Callable[[Config], Sequence[Leg]],
        give_up: Callable[[Sequence[PlannedRun]], None],
    ) -> None:
        """`plan` lays out a trial or raises UntrainableError; `legs_of` are those of a run.

        `give_up` is told the runs of trials that are over, of which some may never have been begun.

        `parent` is the key of the sweep's own run, which those have in their tags that it is training.
        """
        self._study, self._sweep, self._search = study, sweep, search
        self._parent, self._plan, self._legs_of, self._give_up = parent, plan, legs_of, give_up
        # trials that a driver was killed over, and those that failed for what may have been the machine
        unended = study.get_trials(deepcopy=False)
        left = leftovers(study)
        self._left = [number for number in left if REASON not in unended[number].user_attrs]
        self._doubted = [number for number in left if number not in self._left]
        self._to_draw = max(search.trials - len(begun(study)), 0)
        self._underway: dict[int, Proposal] = {}
        self._elsewhere: list[Proposal] = []  # somebody else trains a run of theirs
        self._twins: list[Proposal] = []  # wait for the runs of a trial under way, or of one elsewhere
        self._in_a_row: list[str] = []  # why trials failed since the last one that ended well
        # those trials, why, and their runs, which may yet finish, where it came to any
        self._doubtful: list[tuple[optuna.Trial, str, Proposal | None]] = []
        self._waits_for_room = False  # the next trial, to have its steps timed with nothing else under way
        self._has_worked = False
        self.stopped = ""  # why no more trials are handed out, in one sentence

    @property
    def to_come(self) -> int:
        """How many trials are yet to be taken up or drawn."""
        return len(self._left) + len(self._doubted) + self._to_draw

    @property
    def has_some_waiting(self) -> bool:
        """Trials that may yet be handed out: once somebody else no longer trains their runs, or nothing is under way
        beside them."""
        return (bool(self._elsewhere) or self._waits_for_room) and not self.stopped

    def has_one_back(self) -> bool:
        """Of those, one that need not wait any longer; those that others have finished are told."""
        self._tell_finished_elsewhere()
        return self.has_some_waiting and (
            (self._waits_for_room and not self._underway) or self._back() is not None
        )

    def next(self) -> Proposal | None:
        """A trial to be trained: one that is left or new, or else one that somebody else no longer trains.

        None when all have been handed out, or wait: for somebody else, or for what is under way to end, where its
        steps cannot be timed beside that.

        What needs no training is told at once: a combination that cannot be trained fails with the sentence, and a
        trial whose runs have finished, of whatever sweep, has their result.
        """
        self._tell_finished_elsewhere()
        if self._waits_for_room and self._underway:
            return None
        self._waits_for_room = False
        while not self.stopped and (trial := self._take()) is not None:
            try:
                runs = self._plan(trial.number, propose(trial, self._search))
            except UntrainableError as error:
                self._fail(trial, str(error))
                continue
            except NoRoomToTimeError as error:
                if self._underway:  # which leave less
                    self._left.insert(0, trial.number)
                    self._waits_for_room = True
                    return None
                self._doubt([(trial, str(error), None)])
                continue
            proposal = self._proposal(trial, runs)
            was_stopped = proposal.is_condemned and status_of(runs[0].folder) == "KILLED"
            if was_stopped or proposal.has_finished:
                self._tell([proposal])
            elif any(
                other.identities == proposal.identities
                for other in (*self._underway.values(), *self._elsewhere)
            ):
                self._twins.append(proposal)
            else:
                self._underway[trial.number] = proposal
                return proposal
        if not self.stopped and (back := self._back()):
            self._elsewhere.remove(back)
            self._underway[back.number] = back
            return back
        self._end()
        return None

    def ended(self, number: int) -> None:
        """The runs of a trial are no longer trained: tell what became of them."""
        if self._tell(self._with_twins(self._underway.pop(number))):
            self._worked()
        self._end()

    def trained_elsewhere(self, number: int) -> None:
        """By somebody else, who came first: it is told or handed out again when that has ended."""
        self._elsewhere.append(self._underway.pop(number))

    def _tell_finished_elsewhere(self) -> None:
        for proposal in [proposal for proposal in self._elsewhere if proposal.has_finished]:
            self._elsewhere.remove(proposal)
            self._tell(self._with_twins(proposal))  # which says nothing of this machine
            self._end()

    def _with_twins(self, proposal: Proposal) -> list[Proposal]:
        """Who waited for it waits no longer."""
        same = [twin for twin in self._twins if twin.identities == proposal.identities]
        self._twins = [twin for twin in self._twins if twin not in same]
        return [proposal, *same]

    def _back(self) -> Proposal | None:
        """A trial that somebody else no longer trains."""
        for proposal in self._elsewhere:
            if not any(RunFolder(run.folder).is_driven() for run in proposal.runs):
                return proposal
        return None

    def judge(self) -> None:
        """Stop what the pruner condemns. The run of the first seed decides; it saves, and says that it was killed."""
        if self._search.prune is None:
            return
        for proposal in self._underway.values():
            proposal.first.read_on()
            if self._is_ours(proposal.first.summary) and self._condemned(proposal):
                request = RunFolder(proposal.runs[0].folder).stop_request
                # a run that is just being taken up again removes a request that was made before
                if not request.exists():
                    request.write_text(PRUNED)

    def _proposal(self, trial: optuna.Trial, runs: Sequence[PlannedRun]) -> Proposal:
        config = runs[0].point.config
        trial.set_user_attr(STRATUM, stratum_of(config, self._search, self._sweep.budget))
        trial.set_user_attr(ALIKE_AFTER, alike_after(config, self._legs_of(config)))
        trial.set_user_attr(RUNS, [run.identity for run in runs])
        trial.set_user_attr(COMMAND, without_passwords(command_of(self._sweep, runs[0].point)))
        followed = Followed(runs[0].folder / FILE_NAME, f"val/{self._sweep.metric}")
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        proposal = Proposal(trial, runs, followed, set(frozen.intermediate_values))
        seen, _ = frozen.user_attrs.get(JUDGED, (None, False))
        # a driver may have been killed between a report and the verdict
        if self._search.prune and frozen.last_step != seen:
            self._ask(proposal, frozen.last_step)
        return proposal

    def _is_ours(self, run: Summary) -> bool:
        """It is being trained, and by this search."""
        return run.status == "RUNNING" and run.tags.get(DRIVER_TAG) == self._parent

    def _condemned(self, proposal: Proposal) -> bool:
        """Every report is judged once, when it comes: what others reach later is no reason to stop on the way."""
        if proposal.is_condemned:
            return True
        for value, percent in self._unreported(proposal):
            self._report(proposal, value, percent)
            if self._ask(proposal, percent):
                return True
        return False

    def _ask(self, proposal: Proposal, percent: int | None) -> bool:
        """The pruner, about the last report."""
        condemned = bool(proposal.trial.should_prune())
        proposal.trial.set_user_attr(JUDGED, (percent, condemned))
        return condemned

    def _report(self, proposal: Proposal, value: float, percent: int) -> None:
        proposal.trial.report(value, percent)
        proposal.reported.add(percent)

    def _unreported(self, proposal: Proposal) -> Iterator[tuple[float, int]]:
        """Val metrics of the first seed's run that the pruner has not seen, each with the percent of the run made."""
        total = self._legs_of(proposal.runs[0].point.config)[-1].last
        for step, value in sorted(proposal.first.values.items()):
            percent = percent_made(step, total)
            if percent not in proposal.reported:
                yield value, percent

    def _take(self) -> optuna.Trial | None:
        """The next trial: first those that an earlier driver left, then new ones, as many as there are to be, and last
        those that failed for what may have been the machine: others tell whether it was."""
        if self._left:
            return self._taken_up(self._left.pop(0))
        number = len(begun(self._study))
        self._to_draw = max(self._search.trials - number - 1, 0)
        if number >= self._search.trials:
            return self._taken_up(self._doubted.pop(0)) if self._doubted else None
        self._study.sampler = Drawing(self._search, self._sweep.seeds[0], number)
        return self._study.ask()

    def _taken_up(self, number: int) -> optuna.Trial:
        self._study.sampler = Drawing(self._search, self._sweep.seeds[0], number)
        return taken_up(self._study, number)

    def _tell(self, same: Sequence[Proposal]) -> bool:
        """What became of the runs of some trials of one recipe, of which the first was trained. Whether the machine has
        done what it should.
        """
        self._give_up(same[0].runs)
        found = _summaries(same[0].runs)
        unfinished = [run for run in found if run.status != "FINISHED"]
        has_failed = any(run.status == "FAILED" for run in unfinished)
        if len(found) == len(same[0].runs) and not unfinished:
            for proposal in same:
                self._complete(proposal, found)
        elif same[0].is_condemned and not has_failed:
            for proposal in same:
                self._study.tell(proposal.trial, state=TrialState.PRUNED)
        else:
            reason = next(
                (run.reason for run in unfinished if run.reason), "the process that trained it ended"
            )
            if not (has_failed and any(run.tags.get(FAULT_TAG) == "recipe" for run in unfinished)):
                self._doubt([(proposal.trial, reason, proposal) for proposal in same])
                return False
            for proposal in same:
                self._fail(proposal.trial, reason)
        return True

    def _complete(self, proposal: Proposal, found: Sequence[Summary]) -> None:
        flops = fmean(run.latest["cost/flops"][1] for run in found)
        values = [fmean(run.latest[f"val/{self._sweep.metric}"][1] for run in found), flops]
        if not all(map(math.isfinite, values)):
            self._fail(proposal.trial, f"val/{self._sweep.metric} is {values[0]}")
            return
        proposal.trial.set_user_attr(FLOPS, flops)
        if self._search.prune:  # what others will be compared with
            proposal.first.read_on()
            for value, percent in self._unreported(proposal):
                self._report(proposal, value, percent)
        self._study.tell(proposal.trial, values[: len(self._study.directions)])

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    # ------------------------------------------------------------ whether the machine works

    def _doubt(self, same: Sequence[tuple[optuna.Trial, str, Proposal | None]]) -> None:
        self._in_a_row.append(same[0][1])
        self._doubtful += same
        if len(self._in_a_row) >= FAILURES_IN_A_ROW:
            self._decide()

    def _worked(self) -> None:
        """So what failed before has failed for its own reasons, unless it was too much already."""
        if self.stopped:
            return
        self._has_worked = True
        self._in_a_row.clear()
        for trial, reason, proposal in self._doubtful:
            if proposal and proposal.has_finished:  # by another trial of its recipe, or another sweep
                self._complete(proposal, _summaries(proposal.runs))
            else:
                self._fail(trial, reason)
        self._doubtful.clear()

    def _end(self) -> None:
        """If nothing is under way any more: decide on the last that failed."""
        if self._underway or self._elsewhere or self.stopped or not self._doubtful:
            return
        if self._left or self._doubted or len(begun(self._study)) < self._search.trials:
            return
        if self._has_worked:
            self._worked()
        else:
            self._decide()

    def _decide(self) -> None:
        """Where nothing is known of this machine, the second time decides."""
        if all(REASON in trial.user_attrs for trial, _, _ in self._doubtful):
            self._worked()
        else:
            self._stop()

    def _stop(self) -> None:
        for trial, reason, _ in self._doubtful:
            trial.set_user_attr(REASON, reason)
        failed = [str(trial.number) for trial, _, _ in self._doubtful]
        self.stopped = (
            f"trials that failed one after the other: {', '.join(failed)}, the last with: {self._in_a_row[-1]}; mend "
            "that, and the same command tries them again"
        )


def _summaries(runs: Sequence[PlannedRun]) -> list[Summary]:
    """Of those that have begun."""
    return [summarize(run.folder) for run in runs if status_of(run.folder)]
