"""What MLflow missed of the runs of a sweep."""

from pathlib import Path

import mlflow
import pytest
from rich.console import Console

from mac_ray.ablation.parent import send_rest
from mac_ray.tracking import progress
from mac_ray.tracking.sender import replay
from tests.ablation.made import finished_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("whole", "begun", "never sent")]
    for seed, folder in enumerate(folders):
        finished_run(folder, seed, 0.5)
    return folders


def test_what_mlflow_missed_is_sent_and_what_it_never_had_is_not(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    whole, begun, never = runs
    replay(whole, uri)
    progress.save(begun, uri, progress.Progress(problem="connection refused"))
    assert [progress.is_behind(folder, uri) for folder in runs] == [False, True, False]
    send_rest([*runs, begun, tmp_path / "not started"], uri, Console())
    assert [progress.is_behind(folder, uri) for folder in runs] == [False, False, False]
    found = mlflow.MlflowClient(uri).search_runs(["1"])
    assert {(run.info.run_name, run.info.status) for run in found} == {
        ("whole", "FINISHED"),
        ("begun", "FINISHED"),
    }
    assert never.name not in capsys.readouterr().out


def test_mlflow_that_is_still_away_is_a_sentence_with_the_command(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "http://127.0.0.1:9"
    for folder in runs[:2]:
        progress.save(folder, uri, progress.Progress(problem="connection refused"))
    send_rest(runs, uri, Console())
    said = " ".join(capsys.readouterr().out.split())
    assert "MLflow does not have all of 2 runs" in said
    assert "tracking replay" in said


def test_without_mlflow_nothing_is_sent(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    send_rest(runs, None, Console())
    assert capsys.readouterr().out == ""
