"""What MLflow missed of the runs of a sweep."""

from pathlib import Path

import mlflow
import pytest

from mac_ray.tracking import progress
from mac_ray.tracking.journal import PARENT_TAG, Journal
from mac_ray.tracking.launch import send_rest
from mac_ray.tracking.sender import replay
from tests.ablation.made import finished_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("whole", "begun", "never sent")]
    for seed, folder in enumerate(folders):
        finished_run(folder, seed, 0.5)
    return folders


def test_what_mlflow_missed_of_finished_runs_is_sent_and_what_it_never_had_too(
    runs: list[Path], tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    whole, begun, _ = runs
    replay(whole, uri)
    progress.save(begun, uri, progress.Progress(problem="connection refused"))
    assert [progress.is_behind(folder, uri) for folder in runs] == [False, True, False]
    with Journal.open_or_create(tmp_path / "killed", name="k", experiment="e", identity="k") as journal:
        journal.status("KILLED", "interrupted")  # untracked, for whoever goes on with it
    assert send_rest([*runs, begun, tmp_path / "killed", tmp_path / "not started"], uri) is None
    assert [progress.is_behind(folder, uri) for folder in runs] == [False, False, False]
    found = mlflow.MlflowClient(uri).search_runs(["1"])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [
        ("begun", "FINISHED"),
        ("never sent", "FINISHED"),
        ("whole", "FINISHED"),
    ]


def test_run_that_failed_before_it_was_driven_is_sent_with_its_sweep(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name, parent in (("ours", "a"), ("theirs", "b")):
        with Journal.open_or_create(tmp_path / name, name=name, experiment="e", identity=name) as journal:
            journal.tags({PARENT_TAG: parent})
            journal.status("FAILED", "the data is not there")
    assert send_rest([tmp_path / "ours", tmp_path / "theirs", tmp_path / "not begun"], uri, "a") is None
    (found,) = mlflow.MlflowClient(uri).search_runs(["1"])
    assert (found.info.run_name, found.info.status) == ("ours", "FAILED")


def test_mlflow_that_is_still_away_is_a_sentence_with_the_command(runs: list[Path]) -> None:
    uri = "http://127.0.0.1:9"
    for folder in runs[:2]:
        progress.save(folder, uri, progress.Progress(problem="connection refused"))
    said = send_rest(runs[:2], uri)
    assert said is not None
    assert "MLflow does not have all of 2 runs" in said
    assert "tracking replay" in said


def test_finished_run_in_a_folder_that_cannot_be_written_is_said_and_keeps_no_other_back(
    runs: list[Path], tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (runs[0] / "mlflow.json.new").mkdir()  # where how much was sent is to be written
    said = send_rest(runs, uri)
    assert said is not None
    assert "MLflow does not have all of a run" in said
    found = mlflow.MlflowClient(uri).search_runs(["1"])
    assert {"begun", "never sent"} <= {run.info.run_name for run in found}


def test_mlflow_that_is_away_is_not_asked_for_every_run(tmp_path: Path) -> None:
    uri = "http://127.0.0.1:9"
    folders = [tmp_path / str(seed) for seed in range(5)]
    for seed, folder in enumerate(folders):
        finished_run(folder, seed, 0.5)
        progress.save(folder, uri, progress.Progress(problem="connection refused"))
    said = send_rest(folders, uri)
    assert said is not None
    assert "MLflow does not have all of 5 runs" in said
    assert [bool(progress.load(folder)[uri].tried) for folder in folders] == [True] * 3 + [False] * 2


def test_without_mlflow_nothing_is_sent(runs: list[Path]) -> None:
    assert send_rest(runs, None) is None
