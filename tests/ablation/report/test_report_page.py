"""The page as a text; what a browser makes of it is in test_browser.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mac_ray.ablation.record import SweepRecord
from mac_ray.ablation.report import write_report
from mac_ray.ablation.table import build_table
from mac_ray.tracking.progress import Progress, save
from tests.ablation.conftest import REASON
from tests.ablation.made import run_folder
from tests.parsed import Parsed


@pytest.fixture(scope="module")
def written(study: SweepRecord, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    save(run_folder(runs, "video.ratio=0", 0), "https://mlflow.example", Progress("7", "abc123"))
    context = SweepRecord(study.sweep, [], [], study.context).context
    context = type(context)(
        context.command, context.facts, "https://mlflow.example", "https://mlflow.example"
    )
    outcomes = study.outcomes()
    table = build_table(study.sweep, study.rows, outcomes)
    return write_report(tmp_path_factory.mktemp("report"), table, study.sweep, outcomes, context)


@pytest.fixture(scope="module")
def parsed(written: list[Path]) -> Parsed:
    return Parsed(written[0].read_text())


def test_every_file_that_is_named_was_written(written: list[Path]) -> None:
    names = {path.name for path in written if path.stat().st_size > 100}
    assert names >= {
        "report.html",
        "table.csv",
        "table.json",
        "table.md",
        "table.tex",
        "rows.png",
        "rows.svg",
    }
    assert len(names) == len(written)


def test_page_needs_nothing_from_elsewhere_and_is_small(written: list[Path], parsed: Parsed) -> None:
    assert written[0].stat().st_size < 6e6
    for tag, attributes in parsed.tags:
        assert tag not in ("link", "iframe")
        assert not (attributes.get("src") or "data:").startswith(("http", "/"))
    assert "@import" not in written[0].read_text()


def test_page_answers_the_question_with_data_and_origin(parsed: Parsed) -> None:
    words = " ".join(parsed.words)
    for said in (
        "Does masking cost <recall>?",
        "the best, 'video.ratio=0.6', has text-to-video R@1",
        REASON,
        "python sweeps/made.py --seeds 0 1 2",
        "c0ffee12",
        "0123abcd",
        "MAC (arXiv 2212.00986), Table 6",
    ):
        assert said in words
    assert not {"recall", "optimizer.learning_rate"} & {tag for tag, _ in parsed.tags}


def test_page_says_what_each_row_is_and_how_many_runs_a_fact_is_of(
    study: SweepRecord, parsed: Parsed, tmp_path: Path
) -> None:
    words = " ".join(parsed.words)
    assert "masking.video.ratio=0.6" in words
    assert "0123abcd (4 of 5 runs)" in words  # the failed one did not come to say it


def test_runs_link_to_mlflow(parsed: Parsed) -> None:
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a"]
    assert links == ["https://mlflow.example/#/experiments/7/runs/abc123?workflowType=machine_learning"]


def test_pictures_are_inside(parsed: Parsed) -> None:
    sources = [attributes["src"] for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 2 + 2  # masks of the finished rows; found by the best and the baseline
    assert all(source and source.startswith("data:image/webp;base64,") for source in sources)
    told = [attributes["alt"] for tag, attributes in parsed.tags if tag == "img"]
    assert told[0] == "What was hidden: video.ratio=0, seed 0"
    assert len(set(told)) == len(told)


def test_charts_have_their_place_and_their_colours_from_the_style(
    written: list[Path], parsed: Parsed
) -> None:
    content = written[0].read_text()
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', content, re.DOTALL)
    assert found is not None
    specs = json.loads(found[1])
    places = {attributes.get("id") for _, attributes in parsed.tags}
    assert set(specs) <= places
    assert {
        "rows",
        "training_samples",
        "training_flops",
        "training_seconds",
        "pareto_flops",
        "published",
    } <= set(specs)
    assert not re.search(r"#[0-9a-f]{6}", found[1])
