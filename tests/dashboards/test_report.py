"""The command that makes a report again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.report import main
from mac_ray.ablation.record import Context, SweepRecord, folder_name
from mac_ray.ablation.sweep import Choice, Knob, Search, Sweep
from tests.ablation.made import make_runs, recorded

SWEEP = Sweep(
    name="two-rows",
    question="q",
    base="configs/ablation.yaml",
    variants={"none": {}, "tube": {}},
    seeds=(0,),
)


def test_report_is_made_again_by_folder_and_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / folder_name("two-rows", "1a2b3c4d5e6f")
    folder.mkdir()
    recorded(SWEEP, tmp_path).write(folder)
    assert main([str(folder)]) == 0
    assert "No run has finished" in (folder / "report.html").read_text()
    make_runs(SWEEP, tmp_path, {"none": 0.5, "tube": 0.6}, {})
    capsys.readouterr()
    other = tmp_path / folder_name("three-rows", "1a2b3c4d5e6f")
    other.mkdir()
    (other / "sweep.json").write_text("of another version")  # and of no concern here
    assert main(["two-rows", "--runs", str(tmp_path), "--out", str(tmp_path / "elsewhere")]) == 0
    assert "tube" in capsys.readouterr().out
    assert "No run has finished" in (folder / "report.html").read_text()
    assert "No run has finished" not in (tmp_path / "elsewhere" / "report.html").read_text()


def test_sweep_that_is_not_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere", "--runs", str(tmp_path)]) == 2
    assert "there is neither a folder nowhere nor a sweep of that name" in capsys.readouterr().out.replace(
        "\n", " "
    )


def test_search_without_a_trial_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"masking.video.strategy": Knob(domain=Choice(values=("random", "tube")))}
    searched = Sweep(
        name="s", question="q", base="configs/ablation.yaml", search=Search(trials=2, space=space)
    )
    SweepRecord(searched, [], [], Context("python sweeps/search.py")).write(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert "has no trial yet to report of" in capsys.readouterr().out.replace("\n", " ")
