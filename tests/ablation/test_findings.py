"""What a search reports: its best trials and front, found by a double loop here, and files that can be read again."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from mac_ray.ablation.findings import Chosen, Finding, find, front, importances, write_trials
from mac_ray.ablation.sweep import Choice, Conditional, Knob, Range, Search
from tests.ablation.trials import RATE, RATIO, SPACE, STRATEGY, Driver, write_run


def made(number: int, value: float, flops: float) -> Finding:
    return Finding(number, "COMPLETE", {}, value, flops, False, "")


def test_trial_whose_runs_an_older_study_does_not_name_has_no_test_score() -> None:
    assert Chosen(made(0, 50.0, 1e12), []).tested("t2v/R1") is None


@pytest.mark.parametrize("maximize", [True, False])
def test_front_is_what_nothing_else_is_as_good_and_as_cheap_as(maximize: bool) -> None:
    generator = np.random.default_rng(5)
    trials = [
        made(number, float(value), float(flops))
        for number, (value, flops) in enumerate(generator.integers(0, 8, (30, 2)))
    ]
    sign = 1 if maximize else -1
    values, costs = [sign * (trial.value or 0) for trial in trials], [trial.flops for trial in trials]
    beaten = {
        one
        for one in range(30)
        for other in range(30)
        if values[other] >= values[one]
        and costs[other] <= costs[one]
        and (values[other], costs[other]) != (values[one], costs[one])
    }
    expected = {(values[one], costs[one]) for one in range(30) if one not in beaten}
    found = front(trials, maximize)
    assert [(sign * (trial.value or 0), trial.flops) for trial in found] == sorted(expected)


def searched(driver: Driver) -> None:
    """The rate decides, the best one is 1e-3; the fifth trial fails."""
    while (proposal := driver.proposals.next()) is not None:
        config = proposal.runs[0].point.config
        score = 50 - 20 * abs(math.log10(config.optimizer.learning_rate) + 3)
        if proposal.number == 4:
            write_run(proposal.runs[0], "FAILED", reason="out of memory")
        else:
            write_run(proposal.runs[0], "FINISHED", [(100, score)], flops=1e12 * (1 + proposal.number % 3))
        driver.proposals.ended(proposal.number)


def test_of_trials_that_are_as_good_and_as_cheap_one_is_chosen(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=6, sampler="nsga2")
    driver = Driver(tmp_path, search)
    while (proposal := driver.proposals.next()) is not None:
        score, flops = ((40.0, 1e12), (40.0, 1e12), (50.0, 2e12))[proposal.number % 3]
        write_run(proposal.runs[0], "FINISHED", [(100, score)], flops=flops)
        driver.proposals.ended(proposal.number)
    chosen = [finding for finding in find(driver.study, search) if finding.chosen]
    assert sorted((finding.value, finding.flops) for finding in chosen) == [(40.0, 1e12), (50.0, 2e12)]


def test_search_reports_every_trial_with_the_best_first_and_chosen(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=24))
    searched(driver)
    findings = find(driver.study, Search(space=SPACE))
    assert sorted(finding.number for finding in findings) == list(range(24))
    values = [finding.value for finding in findings[:-1] if finding.value is not None]
    assert len(values) == 23
    assert values == sorted(values, reverse=True)
    assert [finding.number for finding in findings if finding.chosen] == [findings[0].number]
    assert (findings[-1].number, findings[-1].state, findings[-1].reason) == (4, "FAIL", "out of memory")

    write_trials(driver.sweep, findings, tmp_path)
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [finding.number for finding in findings]
    assert [float(row["val/t2v/R1"]) for row in rows[:-1]] == pytest.approx(values)
    assert float(rows[0][RATE]) == findings[0].values[RATE]
    assert {row[RATIO] == "" for row in rows} == {True, False}
    for plain, found in zip(json.loads((tmp_path / "trials.json").read_text()), findings, strict=True):
        assert (plain["trial"], plain["val/t2v/R1"]) == (found.number, found.value)
        assert (plain["values"], plain["command"]) == (found.values, found.command)


def test_knob_that_decides_is_the_most_important(tmp_path: Path) -> None:
    driver = Driver(tmp_path, Search(space=SPACE, trials=24))
    searched(driver)
    found = importances(driver.study, Search(space=SPACE))
    assert max(found, key=lambda path: found[path]) == RATE
    assert sum(found.values()) == pytest.approx(1)


def test_knob_that_conditions_leave_out_decides_nothing(tmp_path: Path) -> None:
    """A point is drawn as a whole, and where the strategy is none its ratio is left out."""
    space = {
        STRATEGY: Knob(domain=Choice(values=("none", "random"))),
        RATIO: Knob(domain=Range(low=0.1, high=0.9), only=Conditional(on=STRATEGY, among=("random",))),
        RATE: SPACE[RATE],
    }
    search = Search(space=space, trials=40, sampler="gp")
    driver = Driver(tmp_path, search)
    while (proposal := driver.proposals.next()) is not None:
        # what is drawn in silence would look as if it decided
        drawn = proposal.trial.params[RATIO]
        silent = proposal.trial.params[STRATEGY] == "none"
        write_run(proposal.runs[0], "FINISHED", [(100, 50.0 + 40 * drawn if silent else 10.0)])
        driver.proposals.ended(proposal.number)
    found = importances(driver.study, search)
    assert found[RATIO] < 0.1 < found[STRATEGY]


def test_values_that_are_all_the_same_have_no_importances(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=10)
    driver = Driver(tmp_path, search)
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FINISHED", [(100, 0.2)])
        driver.proposals.ended(proposal.number)
    assert importances(driver.study, search) == {}


def test_knob_alone_has_no_importance(tmp_path: Path) -> None:
    search = Search(space={RATIO: Knob(domain=Range(low=0.1, high=0.9))}, trials=10)
    driver = Driver(tmp_path, search)
    while (proposal := driver.proposals.next()) is not None:
        score = proposal.trial.params[RATIO]
        write_run(proposal.runs[0], "FINISHED", [(100, 50 * score)])
        driver.proposals.ended(proposal.number)
    assert importances(driver.study, search) == {}


def test_search_that_weighs_cost_chooses_its_front(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=16, sampler="nsga2")
    driver = Driver(tmp_path, search)
    searched(driver)
    findings = find(driver.study, search)
    chosen = {finding.number for finding in findings if finding.chosen}
    complete = [finding for finding in findings if finding.value is not None]
    assert chosen == {finding.number for finding in front(complete, maximize=True)}


def test_search_without_a_complete_trial_reports_the_failures(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=2)
    driver = Driver(tmp_path, search)
    while (proposal := driver.proposals.next()) is not None:
        write_run(proposal.runs[0], "FAILED", reason="out of memory")
        driver.proposals.ended(proposal.number)
    findings = find(driver.study, search)
    assert [finding.state for finding in findings] == ["FAIL", "FAIL"]
    assert importances(driver.study, search) == {}


def test_pruned_trial_says_when_it_was_stopped_and_with_what(tmp_path: Path) -> None:
    search = Search(space=SPACE, trials=4, prune="everywhere")
    driver = Driver(tmp_path, search)
    for score in (50.0, 10.0):
        proposal = driver.proposals.next()
        assert proposal is not None
        write_run(proposal.runs[0], "RUNNING", [(25, score)])
        driver.proposals.judge()
        if score == 10.0:
            write_run(proposal.runs[0], "KILLED")
            driver.proposals.ended(proposal.number)
    (pruned,) = find(driver.study, search)
    assert (pruned.state, pruned.value) == ("PRUNED", None)
    assert pruned.reason == "stopped at 25% of the run with 10.0, not among the better half of its kind"
