"""The page and files of a search's report, against the trials they were made of."""

from __future__ import annotations

import csv
import html
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mac_ray.ablation.budget import with_epochs
from mac_ray.ablation.plan import Point, Row, command_of, config_of
from mac_ray.ablation.report import write_search_report
from mac_ray.ablation.report.search_page import SearchReport, search_verdict
from mac_ray.ablation.sweep import Budget, Search
from mac_ray.config import file as config_file
from tests.ablation.search_made import REASON, made_search
from tests.ablation.trials import SPACE, sweep_of

TABLES = ["report.html", "trials.csv", "trials.json", "chosen.md", "chosen.tex"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SearchReport:
    return made_search(tmp_path_factory.mktemp("s") / "s", Search(space=SPACE, trials=24, prune="everywhere"))


@pytest.fixture(scope="module")
def written(report: SearchReport, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_search_report(tmp_path_factory.mktemp("report"), report)


def test_report_has_the_page_all_trials_and_each_chart_as_a_file(written: list[Path]) -> None:
    charts = ("pareto", "trials", "importances")
    expected = [f"{name}.{kind}" for name in charts for kind in ("svg", "png")]
    assert [path.name for path in written] == [*TABLES, *expected]
    for path in written:
        if path.suffix == ".png":
            assert np.asarray(Image.open(path).convert("L")).std() > 5  # something is drawn
    with written[1].open() as file:
        assert len(list(csv.DictReader(file))) == 24


def test_page_says_what_was_chosen_why_trials_ended_and_keeps_markup_out(
    report: SearchReport, written: list[Path]
) -> None:
    page = written[0].read_text()
    best = report.findings[0]
    assert f"Trial {best.number} has the best validation text-to-video R@1, {best.value:.1f}" in page
    assert html.escape(REASON) in page
    assert REASON not in page
    assert "stopped at 25% of the run with 1.0" in page
    assert "Of 24 trials: 22 complete, 1 stopped early, 1 failed." in page
    assert html.escape(report.chosen[0].finding.command) in page
    assert "Test scores are of shapes_one_caption, 60 samples." in page
    assert "So far," not in page
    head = re.search(r"<h2>Trials</h2>.*?</thead>", page, re.DOTALL)
    assert head
    assert re.findall(r"<button>(.*?)</button>", head[0])[:4] == [
        "trial",
        "state",
        "validation text-to-video R@1",
        "FLOPs",
    ]


def test_page_shows_what_was_hidden_from_chosen_trials_and_what_the_best_and_the_cheapest_found(
    tmp_path: Path,
) -> None:
    found = made_search(tmp_path / "s", Search(space=SPACE, trials=20, sampler="nsga2"))
    labels = [html.escape(one.finding.label) for one in found.chosen]
    assert len(labels) > 2
    page = write_search_report(tmp_path, found)[0].read_text()
    for title, shown in (("What was hidden", labels), ("What was found", [labels[0], labels[-1]])):
        part = page.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]
        assert re.findall(r"<strong>(.*?), seed 0</strong>", part) == shown


def test_search_that_is_not_over_says_so_and_one_trial_is_no_choice(report: SearchReport) -> None:
    best = [finding for finding in report.findings if finding.chosen]
    said = " ".join(search_verdict(replace(report, findings=best)))
    assert "So far, 1 of 24 trials have ended." in said
    assert "lucky" not in said
    assert "The best of" in " ".join(search_verdict(report))


def test_test_scores_of_a_part_of_the_split_are_said_to_be(report: SearchReport) -> None:
    (one,) = report.chosen
    part = [replace(outcome, coverage=(50, 60)) for outcome in one.outcomes]
    said = " ".join(search_verdict(replace(report, chosen=[replace(one, outcomes=part)])))
    assert "All chosen runs scored 50 of 60 test samples, which is easier" in said


def test_trials_that_were_compared_but_trained_otherwise_are_said_to_be(report: SearchReport) -> None:
    """Also those that are not chosen: by them the choice was made."""
    other = replace(report.compared[0], precision="bf16", code="937f232")
    compared = [replace(outcome, precision="fp32") for outcome in report.compared] + [other]
    said = " ".join(search_verdict(replace(report, compared=compared)))
    assert "different precisions" in said
    assert "different versions of the code" in said
    assert "different" not in " ".join(search_verdict(report))


def test_trials_that_took_more_of_what_was_to_be_equal_are_said_to_have(report: SearchReport) -> None:
    (one,) = report.compared
    others = [replace(one, row=f"trial {n}", costs=one.costs | {"seconds": 100.0 * n}) for n in (1, 2)]
    timed = replace(report, sweep=report.sweep.model_copy(update={"budget": Budget(equal="seconds")}))
    said = " ".join(search_verdict(replace(timed, compared=others)))
    assert "Trials were to take equal seconds, but took from 100 to 200." in said
    machines = [
        replace(outcome, device=device) for outcome, device in zip(others, ("H200", "CPU"), strict=True)
    ]
    assert "Do not compare seconds" in " ".join(search_verdict(replace(timed, compared=machines)))
    assert "equal seconds" not in " ".join(search_verdict(replace(report, compared=others)))
    assert "Trials were to take" not in " ".join(search_verdict(replace(timed, compared=others[:1])))


def test_front_of_a_search_that_weighs_cost_is_told_from_cheap_to_dear(tmp_path: Path) -> None:
    found = made_search(tmp_path / "s", Search(space=SPACE, trials=20, sampler="nsga2"))
    assert len(found.chosen) > 1
    costs = [one.finding.flops for one in found.chosen]
    answer = search_verdict(found)[0]
    cheap, dear = found.chosen[costs.index(min(costs))], found.chosen[costs.index(max(costs))]
    assert answer.startswith(f"{len(found.chosen)} trials trade")
    assert cheap.finding.flops < dear.finding.flops
    for one in (cheap, dear):
        said = (
            f"{one.finding.value:.1f} for {one.finding.flops / 1e12:.0f}T FLOPs (trial {one.finding.number})"
        )
        assert said in answer


def test_files_for_papers_have_a_line_for_each_chosen_trial_with_its_test_score(tmp_path: Path) -> None:
    found = made_search(tmp_path / "s", Search(space=SPACE, trials=20, sampler="nsga2"))
    write_search_report(tmp_path, found)
    shown, latex = (tmp_path / "chosen.md").read_text(), (tmp_path / "chosen.tex").read_text()
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(lines) - 2 == len(rows) - 1 == len(found.chosen) > 1
    for one, line, row in zip(found.chosen, lines[2:], rows[1:], strict=True):
        scored = one.tested(found.sweep.metric)
        assert scored
        assert line.startswith(f"| {one.finding.number}: ")
        assert row.startswith(f"{one.finding.number}: ")
        assert f"| {scored[0]:.1f} {scored[1]} |" in line
        assert f"& {scored[0]:.1f} {scored[1]} &" in row
    assert search_verdict(found)[0] in shown


def test_search_without_a_complete_trial_has_a_page_that_says_so(
    report: SearchReport, tmp_path: Path
) -> None:
    failed = [finding for finding in report.findings if finding.value is None]
    nothing = replace(report, findings=failed, chosen=[], importances={})
    written = write_search_report(tmp_path, nothing)
    assert [path.name for path in written] == TABLES
    assert "No trial is complete, so there is nothing to choose yet." in written[0].read_text()


@pytest.mark.parametrize("factor", [1.0, 1.7])
def test_command_of_a_point_trains_the_same_run(factor: float) -> None:
    values = {
        "masking.video.strategy": "none",
        "objectives.reconstruction": None,
        "objectives.language": {},
        "objectives.language.weight": 1e-05,
        "masking.text.ratio": 0.15,
        "stages.1.masking": {},
    }
    sweep = sweep_of(Search(space=SPACE), overrides={"evaluation.every_epochs": 2.5})
    config = config_of(sweep, values, 3)
    config = config if factor == 1.0 else with_epochs(config, factor)
    words = shlex.split(command_of(sweep, Point(Row("row", values), 3, config)))
    assert words[:4] == ["python", "-m", "mac_ray.pretrain", "configs/ablation.yaml"]
    loaded = config_file.load(words[3], words[4:])
    assert loaded.identity({}, {}) == config.identity({}, {})
    assert ("stages.0.epochs" in str(words)) == (factor != 1.0)


def test_command_of_a_point_finds_the_base_from_where_the_sweep_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = sweep_of(Search(space=SPACE))
    words = shlex.split(command_of(sweep, Point(Row("row", {}), 0, config_of(sweep, {}, 0))))
    assert Path(words[3]).is_file()
