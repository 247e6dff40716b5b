"""Which trials of a search are stopped early: asynchronous successive halving, within a stratum.

Judged on the val metric after equal shares of a run, as runs of one budget may differ in the size of their steps.
Which masking strategy is ahead turns with the budget, so a trial is compared with its own kind only; and which ratio is
ahead turns when a stage begins that hides less, so a trial is judged in the last stages that are masked alike. (Of the
six studies in the README's tables, 80% of the pairs of rows stand at a quarter and at half of a run, which is where
clips become whole, as they do in the end, and 96% at three quarters.)
"""

import json
import math
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from mac_ray.ablation.sweep import Budget, Search
from mac_ray.config import Config, Masking
from mac_ray.training.plan import Leg

# attributes of a trial: whom it is compared with; and after which percent of its run, 0 or where the masking changes
STRATUM, ALIKE_AFTER = "mac_ray.stratum", "mac_ray.alike_after"
SHARES = (25, 50)  # percent of the rest; before the first, every trial has its grace
# percent that a score may come before its rung, or two of one rung may be apart: steps are whole, so 24.9% of one run
# is 25.1% of another
NEAR = 2
KEPT = 2  # one of so many goes on


def percent_made(step: int, total: int) -> int:
    """Of a run, by which its val metrics are reported; 100 only of the whole."""
    return 100 if step == total else min(round(100 * step / total), 99)


def alike_after(config: Config, plan: Sequence[Leg]) -> int:
    """The percent of a run after which its stages see clips and captions as the last one does. How a ratio changes
    within a stage is not looked at. The legs of `plan` are those of the config's stages.
    """
    last = config.stage_masking(plan[-1].stage)

    def is_alike(leg: Leg) -> bool:
        own = config.stage_masking(leg.stage)
        return own == last or (_shows_everything(own) and _shows_everything(last))

    begun = min(leg.first for leg in takewhile(is_alike, reversed(plan)))
    return percent_made(begun, plan[-1].last)


def _shows_everything(masking: Masking) -> bool:
    return masking.hides_nothing and masking.video.strategy != "resize"


def rungs_after(begun: int) -> list[int]:
    """Where a trial is judged, in percent of its run."""
    return [round(begun + share * (100 - begun) / 100) for share in SHARES]


class StratifiedHalving(BasePruner):
    """ASHA's rule (Li et al. 2020): at each rung, the better half of what has reached it by the same share of its run
    goes on.

    Trials report their value under the percent of the run made. All that it goes by are these reports, so a search that
    is resumed judges as it would have.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        own = _at_last_rung(trial)
        if own is None or own.step != trial.last_step or own.step == 100:
            return False  # on its way to a rung: judged before, or not yet; or at the end
        others = [
            _at(other, own.rung)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.user_attrs.get(STRATUM) == trial.user_attrs.get(STRATUM)
        ]
        # runs of longer steps, or of longer stages, are scored after other shares of themselves
        peers = [other.value for other in others if other and abs(other.step - own.step) <= NEAR]
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        better = sum(sign * value > sign * own.value for value in peers)  # equals go on together
        return better >= math.ceil((len(peers) + 1) / KEPT)


class _Arrival(NamedTuple):
    """A trial's first report at a rung or after it."""

    rung: int
    step: int
    value: float


def _at(trial: FrozenTrial, rung: int) -> _Arrival | None:
    """Whichever rung it is of, what came before the trial's own masking changed says nothing."""
    first = max(rung - NEAR, _begun(trial) + 1)
    step = min((step for step in trial.intermediate_values if step >= first), default=None)
    return None if step is None else _Arrival(rung, step, trial.intermediate_values[step])


def _begun(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(ALIKE_AFTER, 0))  # an older study does not say


def _at_last_rung(trial: FrozenTrial) -> _Arrival | None:
    rungs = rungs_after(_begun(trial))
    return next((arrival for rung in reversed(rungs) if (arrival := _at(trial, rung))), None)


def stratum_of(config: Config, search: Search, budget: Budget) -> str:
    """The masking strategies of each stage and what the run may spend; the same for all if that is asked for."""
    if search.prune == "everywhere":
        return "all"
    maskings = [config.stage_masking(stage) for stage in config.stages]
    strategies = [[masking.video.strategy, masking.text.strategy] for masking in maskings]
    # under any other budget, epochs are what makes runs cost the same
    return json.dumps(
        [strategies, [stage.epochs for stage in config.stages] if budget.is_as_configured else "equal"]
    )
