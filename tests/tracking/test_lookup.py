"""From the id of a run in MLflow to its folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mac_ray.tracking.journal import Journal
from mac_ray.tracking.lookup import RunNotFoundError, folder_of_run
from mac_ray.tracking.mlflow import FOLDER_TAG
from mac_ray.tracking.sender import replay
from tests.tracking.mlflow_server import Server, the_run

Opener = Callable[[], Journal]


def send(open_journal: Opener, store: str) -> tuple[Path, str]:
    """The folder of a run and its id."""
    with open_journal() as journal:
        journal.status("RUNNING")
        journal.status("FINISHED")
    replay(journal.run_directory, store)
    return journal.run_directory, the_run(store).info.run_id


def test_id_of_a_run_leads_to_its_folder(
    open_journal: Opener, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run_id = send(open_journal, store)
    assert folder_of_run(run_id, store, tmp_path) == folder
    # as training resolves it: from the environment, and mlflow.db where the command is given
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert folder_of_run(run_id, None, tmp_path) == folder
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert folder_of_run(run_id, None, Path(store.removeprefix("sqlite:///")).parent) == folder


def test_run_that_moved_is_found_after_a_replay(open_journal: Opener, store: str, tmp_path: Path) -> None:
    folder, run_id = send(open_journal, store)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(RunNotFoundError, match=f"{folder}, which is not on this machine; give a copy"):
        folder_of_run(run_id, store, tmp_path)
    replay(moved, store)
    assert folder_of_run(run_id, store, tmp_path) == moved


def test_run_sent_without_its_folder_is_named_with_the_remedy(
    open_journal: Opener, store: str, tmp_path: Path
) -> None:
    _, run_id = send(open_journal, store)
    MlflowClient(tracking_uri=store).delete_tag(run_id, FOLDER_TAG)
    with pytest.raises(RunNotFoundError, match=r"does not say where .* mac_ray.tracking replay"):
        folder_of_run(run_id, store, tmp_path)


def test_unknown_run_and_missing_database_are_one_sentence(store: str, tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"has no run 0{32}; copy the id"):
        folder_of_run("0" * 32, store, tmp_path)
    with pytest.raises(RunNotFoundError, match=r"no MLflow database .*mlflow\.db .* --tracking-uri"):
        folder_of_run("0" * 32, None, tmp_path)
    assert not (tmp_path / "mlflow.db").exists()
    with pytest.raises(RunNotFoundError, match="is a folder"):
        folder_of_run("0" * 32, "runs", tmp_path)


def test_server_that_does_not_answer_is_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=f"{server.uri}: cannot find run 0"):
        folder_of_run("0" * 32, server.uri, tmp_path)
