"""Trials of a search from draw to verdict, on a study in a real file: resumed, and told as what they are."""

import errno
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.proposals import Proposal
from mac_ray.ablation.pruning import STRATUM
from mac_ray.ablation.search import runs_of
from mac_ray.ablation.study import (
    FILE_NAME,
    LOCK_NAME,
    OWNER,
    POPULATION,
    TRIALS,
    begun,
    kept_study,
    open_study,
    told_of_storage,
)
from mac_ray.ablation.sweep import Choice, Knob, Search
from mac_ray.config import Config, ConfigError
from mac_ray.errors import NoRoomToTimeError, RunError, StorageError
from mac_ray.training.folder import IN_NAME, RunFolder
from mac_ray.training.plan import Leg
from tests.ablation.made import finished_run
from tests.ablation.trials import RATIO, SPACE, STEPS, STRATEGY, Driver, driven, sweep_of, write_run
from tests.tracking.postgresql_server import running_postgresql, what_is_missing

FEW = {STRATEGY: Knob(domain=Choice(values=("none", "random")))}


def test_trial_is_told_the_last_val_metric_averaged_over_seeds(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=1), seeds=(3, 5))
    proposal = driver.proposals.next()
    assert proposal is not None
    assert [run.point.config.seed for run in proposal.runs] == [3, 5]
    write_run(proposal.runs[0], "FINISHED", [(50, 40.0), (100, 20.0)])
    write_run(proposal.runs[1], "FINISHED", [(50, 10.0), (100, 30.0)])
    driver.proposals.ended(proposal.number)
    (trial,) = driver.study.trials
    assert (trial.state.name, trial.values) == ("COMPLETE", [25.0])
    assert driver.proposals.next() is None


def test_runs_of_trials_that_are_over_are_given_up_also_where_they_were_never_begun(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=2), seeds=(3, 5))
    first, second = driver.proposals.next(), driver.proposals.next()
    assert first is not None
    assert second is not None
    write_run(first.runs[0], "FAILED", reason="out of memory")
    assert not driver.given_up
    driver.proposals.ended(first.number)
    assert driver.given_up == first.identities


def test_nsga2_is_told_the_cost_as_well(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=1, sampler="nsga2"))
    proposal = driver.proposals.next()
    assert proposal is not None
    write_run(proposal.runs[0], "FINISHED", [(100, 20.0)], flops=7e12)
    driver.proposals.ended(proposal.number)
    assert driver.study.trials[0].values == [20.0, 7e12]
    assert [direction.name for direction in driver.study.directions] == ["MAXIMIZE", "MINIMIZE"]


def searched(
    folder: Path, search: Search, *, killed: bool
) -> list[tuple[dict[str, Any], str, list[float] | None]]:
    """Its trials at last, of which each is under way as a driver is killed."""
    driver = Driver(folder, search)
    while (proposal := driver.proposals.next()) is not None:
        if killed:
            number, driver = proposal.number, Driver(folder, search)
            proposal = driver.proposals.next()
            assert proposal is not None
            assert proposal.number == number
        rate = proposal.runs[0].point.config.optimizer.learning_rate
        write_run(proposal.runs[0], "FINISHED", [(100, 1000 * rate)])
        driver.proposals.ended(proposal.number)
    return [(trial.params, trial.state.name, trial.values) for trial in driver.study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_search_killed_again_and_again_ends_with_the_trials_of_an_undisturbed_one(
    tmp_path: Path, sampler: Any
) -> None:
    search = Search(space=SPACE, trials=14, sampler=sampler)
    undisturbed = searched(tmp_path / "a", search, killed=False)
    assert len(undisturbed) == 14
    assert searched(tmp_path / "b", search, killed=True) == undisturbed


@pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())
def test_search_in_postgresql_is_the_one_in_a_file(tmp_path: Path) -> None:
    in_file = Search(space=SPACE, trials=14)
    with running_postgresql() as url:
        there = searched(tmp_path / "a", Search(space=SPACE, trials=14, storage=url), killed=True)
    assert there == searched(tmp_path / "b", in_file, killed=False)


def test_trial_whose_draw_a_kill_cut_short_is_drawn_to_its_end(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=1)
    # of this seed the strategy has a ratio, which is yet to be drawn when the strategy is
    whole = Driver(tmp_path / "whole", search, seeds=(1,)).proposals.next()
    assert whole is not None
    assert RATIO in whole.trial.params
    lines = (tmp_path / "whole" / FILE_NAME).read_bytes().splitlines(keepends=True)
    (first,) = [
        number for number, line in enumerate(lines) if b'"param_name"' in line and STRATEGY.encode() in line
    ]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / FILE_NAME).write_bytes(b"".join(lines[: first + 1]) + b'{"op_code":5,"wor')
    (tmp_path / "cut" / LOCK_NAME).symlink_to("nowhere")
    driver = Driver(tmp_path / "cut", search, seeds=(1,))
    again = driver.proposals.next()
    assert again is not None
    assert again.trial.params == whole.trial.params
    assert driver.states() == ["RUNNING"]


def test_more_trials_continue_the_same_study(tmp_path: Path) -> None:
    for trials in (2, 3):
        driver = Driver(tmp_path, Search(space=SPACE, trials=trials))
        while (proposal := driver.proposals.next()) is not None:
            write_run(proposal.runs[0], "FINISHED", [(100, 1.0)])
            driver.proposals.ended(proposal.number)
        assert driver.states() == ["COMPLETE"] * trials


def test_trial_of_finished_runs_has_their_result_and_is_not_trained(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=FEW, trials=6))
    for strategy, score in (("none", 3.0), ("random", 4.0)):
        write_run(driver.plan(0, {STRATEGY: strategy})[0], "FINISHED", [(100, score)])
    assert driver.proposals.next() is None
    assert [(trial.state.name, trial.params[STRATEGY], trial.value) for trial in driver.study.trials] == [
        ("COMPLETE", trial.params[STRATEGY], 3.0 if trial.params[STRATEGY] == "none" else 4.0)
        for trial in driver.study.trials
    ]
    assert len(driver.states()) == 6


def test_trials_of_runs_under_way_wait_for_these_and_share_their_result(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=FEW, trials=8))
    proposals = []
    while (proposal := driver.proposals.next()) is not None:
        proposals.append(proposal)
    assert len(proposals) == 2
    for score, proposal in enumerate(proposals):
        write_run(proposal.runs[0], "FINISHED", [(100, float(score))])
        driver.proposals.ended(proposal.number)
    assert driver.states() == ["COMPLETE"] * 8
    scores = {proposal.trial.params[STRATEGY]: float(score) for score, proposal in enumerate(proposals)}
    assert [trial.value for trial in driver.study.trials] == [
        scores[trial.params[STRATEGY]] for trial in driver.study.trials
    ]


def test_combination_that_cannot_be_trained_fails_with_the_sentence_and_the_search_goes_on(
    tmp_path: Path,
) -> None:
    overrides = {"objectives.reconstruction": {}}  # needs something hidden
    driver = Driver(tmp_path, Search(space=FEW, trials=6), overrides=overrides)
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FINISHED", [(100, 1.0)])
        driver.proposals.ended(proposal.number)
    assert set(driver.states()) == {"COMPLETE", "FAIL"}
    for trial in driver.study.trials:
        assert (trial.state.name == "FAIL") == (trial.params[STRATEGY] == "none")
        assert ("hides nothing" in trial.user_attrs.get("mac_ray.reason", "")) == (trial.state.name == "FAIL")


def test_problem_of_the_machine_is_no_verdict_on_a_trial(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=3)
    driver = Driver(tmp_path, search)

    def plan(number: int, values: Mapping[str, Any]) -> list[PlannedRun]:
        raise ConfigError("this machine has no GPU")

    proposals = driver.planned_by(plan)
    with pytest.raises(ConfigError, match="no GPU"):
        proposals.next()
    again = Driver(tmp_path, search)
    drawn = [again.proposals.next() for _ in range(3)]
    assert [proposal.number for proposal in drawn if proposal] == [0, 1, 2]  # none is spent


@pytest.mark.parametrize("ends_well", [True, False])
def test_trial_whose_run_somebody_else_trains_is_handed_out_again_unless_they_finish_it(
    ends_well: bool, tmp_path: Path
) -> None:
    driver = Driver(tmp_path, Search(space=FEW, trials=4))
    theirs = driver.proposals.next()
    assert theirs
    with driven(theirs.runs[0].folder):
        driver.proposals.trained_elsewhere(theirs.number)
        other = driver.proposals.next()  # the others are trained meanwhile
        assert other
        assert other.identities != theirs.identities
        assert driver.proposals.next() is None
        write_run(other.runs[0], "FINISHED", [(100, 1.0)])
        driver.proposals.ended(other.number)
        assert driver.proposals.next() is None
        assert driver.proposals.has_some_waiting
        assert not driver.proposals.has_one_back()
        if ends_well:
            write_run(theirs.runs[0], "FINISHED", [(100, 7.0)], parent="another sweep")
    assert driver.proposals.has_one_back() != ends_well
    again = driver.proposals.next()
    if not ends_well:
        assert again is theirs
        write_run(theirs.runs[0], "FINISHED", [(100, 7.0)])
        driver.proposals.ended(theirs.number)
        again = driver.proposals.next()
    assert again is None
    assert not driver.proposals.has_some_waiting
    assert driver.states() == ["COMPLETE"] * 4  # with those that drew the same
    assert {trial.value for trial in driver.study.trials} == {1.0, 7.0}


def test_trial_whose_steps_cannot_be_timed_beside_others_waits_for_these(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=4))
    under_way: list[Proposal] = []

    def plan(number: int, values: Mapping[str, Any]) -> Sequence[PlannedRun]:
        if number == 2 and under_way:
            raise NoRoomToTimeError("a GPU's memory is not enough")
        return driver.plan(number, values)

    proposals = driver.planned_by(plan)
    while (proposal := proposals.next()) is not None:
        under_way.append(proposal)
    assert [proposal.number for proposal in under_way] == [0, 1]
    while under_way:
        assert proposals.has_some_waiting
        assert not proposals.has_one_back()
        assert proposals.next() is None
        write_run(under_way[0].runs[0], "FINISHED", [(100, 1.0)])
        proposals.ended(under_way.pop(0).number)
    assert proposals.has_one_back()
    drawn = [proposals.next(), proposals.next()]
    assert [proposal.number for proposal in drawn if proposal] == [2, 3]
    assert not proposals.has_some_waiting


def test_trials_whose_steps_cannot_be_timed_at_all_are_not_spent(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=8))

    def plan(number: int, values: Mapping[str, Any]) -> Sequence[PlannedRun]:
        raise NoRoomToTimeError("a GPU's memory is not enough")

    proposals = driver.planned_by(plan)
    assert proposals.next() is None
    assert "a GPU's memory is not enough" in proposals.stopped
    assert driver.states() == ["RUNNING"] * 3  # for the next start


def test_run_that_somebody_else_finishes_says_nothing_of_this_machine(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=3))
    theirs = driver.proposals.next()
    assert theirs
    with driven(theirs.runs[0].folder):
        driver.proposals.trained_elsewhere(theirs.number)
        while (proposal := driver.proposals.next()) is not None:
            write_run(proposal.runs[0], "FAILED", reason="no room on /runs", fault="machine")
            driver.proposals.ended(proposal.number)
        write_run(theirs.runs[0], "FINISHED", [(100, 7.0)], parent="another sweep")
    assert driver.proposals.next() is None
    assert "no room on /runs" in driver.proposals.stopped
    assert driver.states() == ["COMPLETE", "RUNNING", "RUNNING"]


def test_trial_whose_run_failed_is_failed_with_its_reason(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=3))
    ways: list[dict[str, Any]] = [
        {"status": "FAILED", "scores": [(50, 99.0)], "reason": "the loss is not finite"},
        {"status": "RUNNING", "scores": [(50, 99.0)]},  # its process died, but the next one's did not
        {"status": "FINISHED", "scores": [(100, float("nan"))]},
    ]
    for way in ways:
        proposal = driver.proposals.next()
        assert proposal is not None
        write_run(proposal.runs[0], **way)
        driver.proposals.ended(proposal.number)
    assert driver.states() == ["FAIL"] * 3
    assert [trial.values for trial in driver.study.trials] == [None] * 3
    reasons = [trial.user_attrs["mac_ray.reason"] for trial in driver.study.trials]
    assert reasons == ["the loss is not finite", "the process that trained it ended", "val/t2v/R1 is nan"]


def test_fault_of_the_machine_stops_the_search_and_its_trials_are_tried_again(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=8)

    def train(driver: Driver, ways: list[dict[str, Any]]) -> None:
        for way in ways:
            proposal = driver.proposals.next()
            assert proposal is not None
            write_run(proposal.runs[0], **way)
            driver.proposals.ended(proposal.number)

    sound: dict[str, Any] = {"status": "FINISHED", "scores": [(100, 1.0)]}
    full: dict[str, Any] = {"status": "FAILED", "reason": "no room on /runs", "fault": "machine"}
    driver = Driver(tmp_path, search)
    train(driver, [full, full, sound, full, full, full])
    assert driver.proposals.next() is None
    said = "trials that failed one after the other: 3, 4, 5, the last with: no room"
    assert driver.proposals.stopped.startswith(said)
    # the first two failed, and then one did not
    assert driver.states() == ["FAIL", "FAIL", "COMPLETE", *["RUNNING"] * 3]

    driver = Driver(tmp_path, search)
    assert driver.proposals.to_come == 5
    # new ones first; where others end well, it is the trial's own fault
    train(driver, [sound, sound, sound, full, sound])
    assert driver.proposals.next() is None
    assert not driver.proposals.stopped
    assert driver.states() == ["FAIL", "FAIL", "COMPLETE", "COMPLETE", "FAIL", *["COMPLETE"] * 3]


@pytest.mark.parametrize("new", [0, 2])
def test_trials_that_kill_their_process_each_time_do_not_stop_a_search_for_ever(
    tmp_path: Path, new: int
) -> None:
    """A recipe that takes too much main memory looks like a fault of the machine."""
    killed: dict[str, Any] = {"status": "FAILED", "reason": "out of memory", "fault": "machine"}
    sound: dict[str, Any] = {"status": "FINISHED", "scores": [(100, 1.0)]}
    for ways, stopped in (([killed] * 3, True), ([sound] * new + [killed] * 3, False)):
        driver = Driver(tmp_path, Search(space=SPACE, trials=3 + new))
        for way in ways:
            proposal = driver.proposals.next()
            assert proposal is not None
            write_run(proposal.runs[0], **way)
            driver.proposals.ended(proposal.number)
        assert driver.proposals.next() is None
        assert bool(driver.proposals.stopped) == stopped
    assert driver.states() == ["FAIL"] * 3 + ["COMPLETE"] * new


def test_trial_that_ends_well_beside_those_that_stopped_a_search_does_not_spend_them(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=8))
    proposals = [driver.proposals.next() for _ in range(4)]
    for proposal in proposals:
        assert proposal is not None
        way: dict[str, Any] = {"status": "FAILED", "reason": "no room on /runs", "fault": "machine"}
        if proposal.number == 3:
            way = {"status": "FINISHED", "scores": [(100, 1.0)]}
        write_run(proposal.runs[0], **way)
        driver.proposals.ended(proposal.number)
    assert driver.proposals.stopped
    assert driver.proposals.next() is None
    assert driver.states() == [*["RUNNING"] * 3, "COMPLETE"]


def test_trials_that_others_have_finished_say_nothing_of_this_machine(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=FEW, trials=6))
    write_run(driver.plan(0, {STRATEGY: "none"})[0], "FINISHED", [(100, 3.0)])
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FAILED", reason="no room on /runs", fault="machine")
        driver.proposals.ended(proposal.number)
    assert driver.proposals.stopped
    assert set(driver.states()) == {"RUNNING", "COMPLETE"}


def test_trial_that_failed_on_this_machine_has_the_result_of_who_trained_its_run_meanwhile(
    tmp_path: Path,
) -> None:
    driver = Driver(tmp_path, Search(space=FEW, trials=6))
    first = driver.proposals.next()
    assert first is not None
    write_run(first.runs[0], "FAILED", reason="node lost", fault="machine")
    driver.proposals.ended(first.number)
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FINISHED", [(100, 1.0)])
        driver.proposals.ended(proposal.number)
    # of four recipes at most, one trial or more of those after it have its own
    assert first.has_finished
    assert driver.states() == ["COMPLETE"] * 6


def test_faults_of_recipes_in_a_row_do_not_stop_a_search(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=6))
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FAILED", reason="the loss is not finite")
        driver.proposals.ended(proposal.number)
    assert driver.states() == ["FAIL"] * 6
    assert not driver.proposals.stopped


def test_machine_on_which_nothing_works_spends_no_trial_of_a_short_search(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=2))
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FAILED", reason="no data mount", fault="machine")
        driver.proposals.ended(proposal.number)
    assert driver.states() == ["RUNNING"] * 2
    assert "no data mount" in driver.proposals.stopped


def test_child_of_two_trials_has_what_they_have(tmp_path: Path) -> None:
    """Knobs with a condition are inherited as well, and not drawn at random for ever."""
    search = Search(space=SPACE, trials=40, sampler="nsga2")
    driver = Driver(tmp_path, search)
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FINISHED", [(100, float(proposal.number))])
        driver.proposals.ended(proposal.number)
    trials = driver.study.trials
    first, later = trials[:POPULATION], trials[POPULATION:]
    known = {trial.params[RATIO] for trial in first}
    inherited = [trial for trial in later if trial.params[RATIO] in known]
    assert len(inherited) > len(later) / 2


def advance(driver: Driver, strategy: str, score: float, ratio: float, step: int = STEPS // 2) -> bool:
    """Has a trial of this strategy come to a step with a score; whether its run is then asked to stop."""
    driver.study.enqueue_trial({STRATEGY: strategy, "masking.video.ratio": ratio})
    proposal = driver.proposals.next()
    assert proposal is not None
    write_run(proposal.runs[0], "RUNNING", [(step, score)])
    driver.proposals.judge()
    return RunFolder(proposal.runs[0].folder).stop_request.exists()


def test_worse_half_is_stopped_within_its_strategy_only(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=20, prune="same_strategy"))
    assert not advance(driver, "random", 30.0, 0.3)
    assert advance(driver, "random", 20.0, 0.4)
    assert not advance(driver, "tube", 10.0, 0.3)  # worse than both, but the first of its strategy
    assert not advance(driver, "random", 40.0, 0.5)
    assert advance(driver, "tube", 5.0, 0.4)
    assert len({trial.user_attrs[STRATUM] for trial in driver.study.trials}) == 2


@pytest.mark.parametrize(("every", "steps"), [(234, 936), (468, 1874), (312, 1250), (22, 90)])
def test_a_quarter_of_a_run_is_its_first_rung_also_where_steps_are_whole(
    tmp_path: Path, every: int, steps: int
) -> None:
    """Or runs whose steps come out a hair below it would be judged later than their peers."""
    driver = Driver(tmp_path, Search(space=SPACE, trials=20, prune="everywhere"), steps=steps)
    assert not advance(driver, "random", 30.0, 0.3, step=every)
    assert advance(driver, "random", 20.0, 0.4, step=every)


class WithTail(Driver):
    """Of runs whose clips and captions become whole, after half of them unless said otherwise."""

    masked = STEPS // 2

    def legs_of(self, config: Config) -> list[Leg]:
        masked, whole = config.stages
        return [
            Leg(masked, 0, 0, self.masked, self.masked, {}),
            Leg(whole, 1, self.masked, STEPS - self.masked, STEPS - self.masked, {}),
        ]


WITHOUT_WORDS = {"masking.text.strategy": "none"}


@pytest.mark.parametrize("strategy", ["random", "resize"])
def test_trial_is_judged_once_its_clips_are_whole_where_they_come_to_be(
    tmp_path: Path, strategy: str
) -> None:
    """Which ratio, or size, is ahead of another turns when clips become whole."""
    search = Search(
        space=SPACE | {STRATEGY: Knob(domain=Choice(values=("none", "random", "resize")))},
        trials=20,
        prune="same_strategy",
    )
    driver = WithTail(tmp_path, search, overrides=WITHOUT_WORDS)
    for step in (25, STEPS // 2):
        assert not advance(driver, strategy, 30.0, 0.3, step=step)
        assert not advance(driver, strategy, 20.0, 0.4, step=step)
    assert not advance(driver, strategy, 30.0, 0.7, step=75)
    assert advance(driver, strategy, 20.0, 0.8, step=75)
    # nothing is hidden of it at any time, so nothing changes
    assert not advance(driver, "none", 30.0, 0.3, step=25)
    assert advance(driver, "none", 20.0, 0.3, step=25)


def test_trial_of_whole_clips_is_not_compared_with_what_others_had_before_theirs_were(tmp_path: Path) -> None:
    driver = WithTail(tmp_path, Search(space=SPACE, trials=20, prune="everywhere"), overrides=WITHOUT_WORDS)
    for score in (30.0, 40.0):
        assert not advance(driver, "random", score, 0.3, step=25)
    assert not advance(driver, "none", 10.0, 0.3, step=25)
    assert advance(driver, "none", 5.0, 0.3, step=25)


def test_short_tail_is_not_judged_by_what_came_just_before_it(tmp_path: Path) -> None:
    class Short(WithTail):
        masked = 95

    driver = Short(tmp_path, Search(space=SPACE, trials=20, prune="same_strategy"), overrides=WITHOUT_WORDS)
    for step, is_stopped in ((95, False), (96, True)):
        assert not advance(driver, "random", 30.0, 0.3, step=step)
        assert advance(driver, "random", 20.0, 0.4, step=step) == is_stopped


def test_trial_is_compared_with_what_others_had_after_the_same_share_of_a_run(tmp_path: Path) -> None:
    """Steps of larger batches are scored after another share, and a later score is no match for an early one."""
    driver = Driver(tmp_path, Search(space=SPACE, trials=20, prune="everywhere"))
    assert not advance(driver, "random", 80.0, 0.3, step=95)
    assert not advance(driver, "random", 40.0, 0.4, step=67)
    assert not advance(driver, "random", 20.0, 0.5, step=50)
    assert advance(driver, "random", 19.0, 0.6, step=51)


def test_other_strategies_are_compared_where_that_is_asked_for(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=20, prune="everywhere"))
    assert not advance(driver, "random", 30.0, 0.3)
    assert advance(driver, "tube", 10.0, 0.3)


def test_run_that_another_sweep_trains_is_not_stopped(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=20, prune="everywhere"))
    assert not advance(driver, "random", 30.0, 0.3)
    proposal = driver.proposals.next()
    assert proposal is not None
    write_run(proposal.runs[0], "RUNNING", [(50, 1.0)], parent="key-of-another-sweep")
    driver.proposals.judge()
    assert not RunFolder(proposal.runs[0].folder).stop_request.exists()


def test_pruned_trial_is_pruned_and_never_complete_with_its_early_value(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=2, prune="everywhere")
    driver = Driver(tmp_path, search)
    good, bad = driver.proposals.next(), driver.proposals.next()
    assert good is not None
    assert bad is not None
    write_run(good.runs[0], "FINISHED", [(50, 30.0), (100, 35.0)])
    driver.proposals.ended(good.number)
    write_run(bad.runs[0], "RUNNING", [(50, 1.0)])
    driver.proposals.judge()
    assert RunFolder(bad.runs[0].folder).stop_request.exists()
    write_run(bad.runs[0], "KILLED", reason="stopped on request")
    driver.proposals.ended(bad.number)
    assert driver.states() == ["COMPLETE", "PRUNED"]
    assert driver.study.best_trial.number == good.number


def test_trial_pruned_as_the_driver_was_killed_is_not_trained_on(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=2, prune="everywhere")
    driver = Driver(tmp_path, search)
    for score in (30.0, 1.0):
        proposal = driver.proposals.next()
        assert proposal is not None
        write_run(proposal.runs[0], "RUNNING", [(50, score)])
        driver.proposals.judge()
    write_run(proposal.runs[0], "KILLED")
    driver = Driver(tmp_path, search)
    good = driver.proposals.next()
    assert good is not None
    assert driver.proposals.next() is None
    assert driver.states() == ["RUNNING", "PRUNED"]


def test_trial_that_may_go_on_is_not_stopped_on_its_way_by_better_ones(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=20, prune="everywhere"))
    assert not advance(driver, "random", 30.0, 0.3)
    first = driver.plan(0, driver.study.trials[0].params)[0]
    for number in range(3):
        assert not advance(driver, "tube", 40.0 + number, 0.1 * (number + 1))
    driver.proposals.judge()
    assert not RunFolder(first.folder).stop_request.exists()


def test_report_before_a_kill_is_judged_after_it(tmp_path: Path) -> None:
    """Between what the study is told and what the pruner makes of it, a driver may be killed."""
    search = Search(space=SPACE, trials=2, prune="everywhere")
    driver = Driver(tmp_path, search)
    assert not advance(driver, "random", 30.0, 0.3)
    driver.study.enqueue_trial({STRATEGY: "random", "masking.video.ratio": 0.4})
    proposal = driver.proposals.next()
    assert proposal is not None
    write_run(proposal.runs[0], "RUNNING", [(50, 1.0)])
    proposal.trial.report(1.0, 50)
    driver = Driver(tmp_path, search)
    assert [driver.proposals.next() is not None for _ in range(2)] == [True, True]
    driver.proposals.judge()
    assert RunFolder(proposal.runs[0].folder).stop_request.exists()


def test_condemned_trial_is_pruned_also_where_another_sweep_goes_on_with_its_run(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=2, prune="everywhere"))
    assert not advance(driver, "random", 30.0, 0.3)
    assert advance(driver, "random", 20.0, 0.4)
    trial = driver.study.trials[1]
    write_run(driver.plan(1, trial.params)[0], "RUNNING", parent="key-of-another-sweep")
    driver.proposals.ended(1)
    assert driver.states() == ["RUNNING", "PRUNED"]


def test_corrupt_study_is_refused_with_its_line(tmp_path: Path) -> None:
    search = Search(space=FEW)
    Driver(tmp_path, search).proposals.next()
    path = tmp_path / FILE_NAME
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "}" + lines[1], *lines[2:]]) + "\n")
    with pytest.raises(ConfigError, match=r"study\.jsonl, line 2 .*restore"):
        Driver(tmp_path, search)
    path.write_text('{"a": 1}\n')
    with pytest.raises(ConfigError, match=r"study\.jsonl, line 1 is no record of a study's journal; restore"):
        Driver(tmp_path, search)
    path.write_text('{"op_code": 0}\n')
    with pytest.raises(ConfigError, match=r"study\.jsonl is no journal of a study"):
        Driver(tmp_path, search)


def test_study_that_was_emptied_is_refused_where_there_were_trials(tmp_path: Path) -> None:
    search = Search(space=FEW)
    (tmp_path / FILE_NAME).touch()
    driver = Driver(tmp_path, search)  # a driver may have been killed before its first record
    driver.proposals.next()
    (tmp_path / FILE_NAME).write_text("")  # as a full disk leaves it
    (tmp_path / TRIALS).write_text("[]")
    Driver(tmp_path, search)
    (tmp_path / FILE_NAME).write_text("")
    (tmp_path / TRIALS).write_text('[{"number": 0}]')
    with pytest.raises(
        ConfigError, match=r"study\.jsonl holds nothing, though there were trials; restore it"
    ):
        Driver(tmp_path, search)


def test_study_in_the_folder_of_a_sweep_whose_journal_was_lost_goes_on(tmp_path: Path) -> None:
    search = Search(space=FEW)
    Driver(tmp_path, search).proposals.next()
    again = Driver(tmp_path, search, key="key-of-the-new-journal")
    assert again.states() == ["RUNNING"]
    assert again.study.user_attrs[OWNER] == "key-of-the-new-journal"


def test_study_of_another_space_is_refused_by_name(tmp_path: Path) -> None:
    Driver(tmp_path, Search(space=FEW)).proposals.next()
    with pytest.raises(ConfigError, match=r"sweep-s .* another space.* another name"):
        Driver(tmp_path, Search(space=SPACE))


def test_study_in_a_database_is_found_again_and_apart_from_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    search = Search(space=FEW, storage=url)
    Driver(tmp_path / "a", search).proposals.next()
    assert Driver(tmp_path / "b", search).states() == ["RUNNING"]
    other = open_study(sweep_of(search), search, "sweep-other", tmp_path, "another key")
    assert not other.trials
    assert set(optuna.get_all_study_names(url)) == {"sweep-s", "sweep-other"}


def test_database_that_is_not_there_is_not_made_by_looking_for_a_study(tmp_path: Path) -> None:
    search = Search(space=FEW, storage=f"sqlite:///{tmp_path / 'studies.db'}")
    assert kept_study(sweep_of(search), search, "sweep-s", tmp_path) is None
    assert not (tmp_path / "studies.db").exists()
    Driver(tmp_path / "a", search)
    assert kept_study(sweep_of(search), search, "sweep-s", tmp_path) is not None


def test_study_of_the_same_sweep_in_another_folder_is_not_taken_over(tmp_path: Path) -> None:
    """Its trials under way are not those of a driver that was killed."""
    search = Search(space=FEW, storage=f"sqlite:///{tmp_path / 'studies.db'}")
    first = Driver(tmp_path / "a", search)
    first.proposals.next()
    with pytest.raises(
        ConfigError, match=r"the study sweep-s in .* in another folder of runs, or in one .*; start it with"
    ):
        Driver(tmp_path / "b", search, key="key-of-another-folder")
    assert first.states() == ["RUNNING"]


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////nowhere/at/all.db", "postgresql://u:secret@127.0.0.1:1/x"]
)
def test_database_that_cannot_be_opened_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.storage") as caught:
        Driver(tmp_path, Search(space=FEW, storage=url))
    assert "secret" not in str(caught.value)


def test_database_without_its_driver_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a driver that is not installed .*; install it") as caught:
        Driver(tmp_path, Search(space=FEW, storage="mssql+pymssql://u:secret@host/x"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "is_of_the_study"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (PermissionError(errno.EACCES, "Permission denied", f"runs/sweep-s/{FILE_NAME}"), True),
        (PermissionError(errno.EACCES, "Permission denied", "runs/sweep-s/plots/front.svg"), False),
        (StorageError("clip.mp4 has not been read for five minutes"), False),
    ],
)
def test_study_is_blamed_for_what_befell_its_own_file(error: OSError, is_of_the_study: bool) -> None:
    search = Search(space=FEW)
    with (
        pytest.raises(RunError if is_of_the_study else type(error)),
        told_of_storage(sweep_of(search), search),
    ):
        raise error


def test_runs_of_trials_are_found_by_what_the_study_knows_of_them(tmp_path: Path) -> None:
    """To plan each anew would read the weights that models start from again."""
    search = Search(space=SPACE, trials=3)
    driver = Driver(tmp_path / "sweep", search)
    planned = [proposal.runs[0] for _ in range(3) if (proposal := driver.proposals.next())]
    elsewhere = tmp_path / f"other-{planned[1].identity[:IN_NAME]}"
    finished_run(elsewhere, 0, 0.6)
    found = runs_of(begun(driver.study), driver.sweep, search, tmp_path)
    assert [run.identity for run in found] == [run.identity for run in planned]
    assert [run.row.partition(":")[0] for run in found] == ["trial 0", "trial 1", "trial 2"]
    assert found[1].folder == elsewhere
    assert found[0].folder.name == f"s.trial_0.seed=0-{planned[0].identity[:IN_NAME]}"


def test_database_of_another_version_of_optuna_is_refused_with_what_optuna_says(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    search = Search(space=FEW, storage=f"sqlite:///{file}")
    Driver(tmp_path / "a", search)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("update alembic_version set version_num = 'v2.4.0.a'")
    with pytest.raises(
        ConfigError, match=r"are of another version of Optuna \(.*\); upgrade them, a copy first"
    ):
        Driver(tmp_path / "a", search)
