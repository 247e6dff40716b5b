from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mac_ray.tracking import progress, sender
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.mlflow import RefusedError, TrackedRun, UnavailableError
from mac_ray.tracking.sender import destinations, replay
from tests.tracking.mlflow_server import Server, points_in_journal, points_in_store, the_run

Opener = Callable[[], Journal]


def write_a_run(journal: Journal, steps: range = range(30)) -> None:
    journal.status("RUNNING")
    journal.parameters({"seed": "0", "note": "x" * 7000, "empty": ""})
    journal.tags({"mac_ray.protocol": "one_caption", "empty": ""})
    for step in steps:
        journal.metrics(step, {"loss": 1 / (1 + step), "msrvtt_1ka/t2v/R1": float(step)})


def everything_of_the_run(store: str) -> str:
    # as text, where a NaN equals itself
    return json.dumps(the_run(store).to_dictionary(), sort_keys=True)


def num_rows(store: str) -> int:
    """Points in the database, counted without MLflow."""
    with sqlite3.connect(store.removeprefix("sqlite:///")) as database:
        return int(database.execute("SELECT COUNT(*) FROM metrics").fetchone()[0])


def test_replay_brings_everything_into_the_store(open_journal: Opener, store: str) -> None:
    with open_journal() as journal:
        write_a_run(journal)
        journal.metrics(30, {"gradient_norm": float("nan"), "loss": 0.5})
        table = journal.run_directory / "eval" / "ranks.parquet"
        table.parent.mkdir()
        table.write_bytes(b"ranks")
        journal.artifact(table, "msrvtt_1ka")
        journal.status("FINISHED")
    records = [json.loads(line) for line in journal.path.read_text().splitlines()]

    replay(journal.run_directory, store)

    run = the_run(store)
    assert points_in_store(store) == points_in_journal(journal.run_directory)
    assert run.data.params == {"seed": "0", "note": "x" * 6000, "empty": ""}
    assert run.data.tags["mac_ray.protocol"] == "one_caption"
    assert run.data.tags["mac_ray.key"] == journal.key
    assert run.data.tags["mac_ray.identity"] == "1d" * 32
    assert run.info.run_name == "shapes-0"
    assert (run.info.status, run.info.start_time, run.info.end_time) == (
        "FINISHED",
        records[0]["time"],
        records[-1]["time"],
    )
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "team/masks"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"  # opens on runs and charts
    artifacts = Path(store.removeprefix("sqlite:///")).parent / "mlartifacts" / run.info.run_id / "artifacts"
    assert (artifacts / "msrvtt_1ka" / "ranks.parquet").read_bytes() == b"ranks"
    assert [file.path for file in client.list_artifacts(run.info.run_id, "msrvtt_1ka")] == [
        "msrvtt_1ka/ranks.parquet"
    ]


@pytest.mark.parametrize("from_the_start", [False, True])
def test_replay_done_twice_adds_nothing(open_journal: Opener, store: str, from_the_start: bool) -> None:
    with open_journal() as journal:
        write_a_run(journal)
        journal.metrics(30, {"gradient_norm": float("nan"), "loss": float("inf")})
        journal.status("KILLED", "pruned")
    replay(journal.run_directory, store)
    before, rows = everything_of_the_run(store), num_rows(store)
    sent = replay(journal.run_directory, store, from_the_start=from_the_start)
    assert rows == num_rows(store) == 62
    assert everything_of_the_run(store) == before
    assert (sent.records == 0) is not from_the_start


def test_sender_outlives_a_disk_that_is_full_for_a_while(
    open_journal: Opener, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it notes of itself lies where checkpoints do."""
    with open_journal() as journal:
        write_a_run(journal)
        journal.status("FINISHED")
    keep, calls = progress.save, []

    def save(folder: Path, uri: str, found: progress.Progress) -> None:
        calls.append(found)
        if 3 <= len(calls) <= 4:
            raise OSError(28, "No space left on device")
        keep(folder, uri, found)

    monkeypatch.setattr(progress, "save", save)
    monkeypatch.setattr(sender, "SHORTEST_PAUSE_S", 0.01)
    assert sender.send(journal.run_directory, store, patience_s=60)
    assert len(calls) > 4
    assert points_in_store(store) == points_in_journal(journal.run_directory)


def test_replay_whose_progress_was_not_stored_adds_nothing(open_journal: Opener, store: str) -> None:
    with open_journal() as journal:
        write_a_run(journal)
        journal.status("FINISHED")
    replay(journal.run_directory, store)
    (journal.run_directory / "mlflow.json").unlink()
    replay(journal.run_directory, store)
    assert points_in_store(store) == points_in_journal(journal.run_directory)
    assert num_rows(store) == 60


def test_replay_to_a_second_store_makes_the_same_run_there(
    open_journal: Opener, store: str, empty_database: Path, tmp_path: Path
) -> None:
    second = f"sqlite:///{tmp_path}/second.db"
    shutil.copy(empty_database, tmp_path / "second.db")
    with open_journal() as journal:
        write_a_run(journal)
        journal.status("FINISHED")
    for uri in (store, second):
        replay(journal.run_directory, uri)
    assert points_in_store(second) == points_in_store(store)
    assert the_run(second).data.tags["mac_ray.key"] == the_run(store).data.tags["mac_ray.key"]
    assert destinations(journal.run_directory, None) == [store, second]


def test_replay_to_a_store_that_lost_its_data_sends_the_whole_run_again(
    open_journal: Opener, store: str, empty_database: Path, tmp_path: Path
) -> None:
    replaced = tmp_path / "replaced.db"
    with open_journal() as journal:
        write_a_run(journal)
        journal.status("FINISHED")
    uri = f"sqlite:///{replaced}"
    replay(journal.run_directory, store)
    entries = progress.load(journal.run_directory)
    shutil.copy(empty_database, replaced)
    progress.save(journal.run_directory, uri, entries[store])  # as if that had been at this address
    replay(journal.run_directory, uri)
    assert points_in_store(uri) == points_in_journal(journal.run_directory)
    assert the_run(uri).info.status == "FINISHED"


def test_replay_of_a_resumed_run_goes_on_under_the_same_id(open_journal: Opener, store: str) -> None:
    with open_journal() as journal:
        write_a_run(journal, range(20))
        journal.status("FAILED", "worker lost")
    replay(journal.run_directory, store)
    failed = the_run(store)
    assert (failed.info.status, failed.data.tags["mac_ray.reason"]) == ("FAILED", "worker lost")
    with open_journal() as journal:
        write_a_run(journal, range(10, 30))
        replay(journal.run_directory, store)
        resumed = the_run(store)
        assert (resumed.info.status, resumed.info.run_id) == ("RUNNING", failed.info.run_id)
        assert "mac_ray.reason" not in resumed.data.tags
        journal.status("FINISHED")
    replay(journal.run_directory, store)
    assert the_run(store).info.status == "FINISHED"
    assert points_in_store(store) == points_in_journal(journal.run_directory)
    assert num_rows(store) == 60


def test_replay_of_more_than_one_call_can_carry_brings_everything(
    open_journal: Opener, server: Server, store: str
) -> None:
    server.start()  # the limits are the server's
    parameters = {f"parameter_{index}": "\N{GREEK SMALL LETTER ALPHA}" * 7000 for index in range(110)}
    tags = {f"tag_{index}": "\N{GREEK SMALL LETTER ALPHA}" * 9000 for index in range(30)}
    with open_journal() as journal:
        journal.status("RUNNING")
        journal.parameters(parameters)
        journal.tags(tags)
        for step in range(2):
            journal.metrics(step, {f"metric_{index}": float(index) for index in range(1200)})
        journal.status("FINISHED")
    replay(journal.run_directory, server.uri)
    run = the_run(store)
    assert num_rows(store) == 2400
    assert run.data.params == {key: value[:6000] for key, value in parameters.items()}
    assert tags.keys() <= run.data.tags.keys()


def test_run_is_finished_there_once_its_files_are(
    open_journal: Opener, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a sweep elsewhere would find it without results, and train it again."""
    with open_journal() as journal:
        write_a_run(journal)
        (journal.run_directory / "scores.txt").write_text("50.0")
        journal.artifact(journal.run_directory / "scores.txt")
        journal.status("FINISHED")
    upload, then = TrackedRun.upload, []

    def seen(run: TrackedRun, file: Path, folder: str) -> None:
        then.append(the_run(store).info.status)
        upload(run, file, folder)

    monkeypatch.setattr(TrackedRun, "upload", seen)
    replay(journal.run_directory, store)
    assert set(then) == {"RUNNING"}
    assert the_run(store).info.status == "FINISHED"


def test_replay_artifact_that_is_gone_holds_up_nothing_else(open_journal: Opener, store: str) -> None:
    with open_journal() as journal:
        write_a_run(journal)
        for name in ("gone.txt", "here.txt"):
            (journal.run_directory / name).write_text(name)
            journal.artifact(journal.run_directory / name)
        (journal.run_directory / "gone.txt").unlink()
        journal.status("FINISHED")
    with pytest.raises(UnavailableError, match=r"gone\.txt"):
        replay(journal.run_directory, store)
    run = the_run(store)
    assert run.info.status == "FINISHED"
    client = MlflowClient(tracking_uri=store)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["here.txt"]
    (journal.run_directory / "gone.txt").write_text("back")
    replay(journal.run_directory, store)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"here.txt", "gone.txt"}


def test_replay_into_a_deleted_experiment_is_refused_by_name(open_journal: Opener, store: str) -> None:
    client = MlflowClient(tracking_uri=store)
    client.delete_experiment(client.create_experiment("team/masks"))
    with open_journal() as journal:
        write_a_run(journal)
        with pytest.raises(RefusedError, match=r"'team/masks' .* was deleted"):
            replay(journal.run_directory, store)


def test_replay_into_an_experiment_that_was_renamed_goes_on_with_the_run_there(
    open_journal: Opener, store: str
) -> None:
    client = MlflowClient(tracking_uri=store)
    with open_journal() as journal:
        write_a_run(journal)
        replay(journal.run_directory, store)
        run, points = the_run(store), points_in_store(store)
        client.rename_experiment(run.info.experiment_id, "team/better name")
        journal.metrics(31, {"loss": 0.1})
        replay(journal.run_directory, store)
    assert the_run(store).info.run_id == run.info.run_id
    assert len(points_in_store(store)) == len(points) + 1
    assert client.get_experiment_by_name("team/masks") is None


def test_replay_into_a_database_without_its_driver_is_refused(open_journal: Opener) -> None:
    with open_journal() as journal:
        write_a_run(journal)
        with pytest.raises(RefusedError, match=r"mssql://127\.0\.0\.1/x") as refused:
            replay(journal.run_directory, "mssql://user:secret@127.0.0.1/x")
    assert "secret" not in str(refused.value)
    assert "secret" not in (journal.run_directory / "mlflow.json").read_text()


def test_replay_while_the_run_lives_leaves_it_running(open_journal: Opener, store: str) -> None:
    with open_journal() as journal:
        write_a_run(journal)
        replay(journal.run_directory, store)
        assert the_run(store).info.status == "RUNNING"


def test_replay_destination_gets_its_password_back_from_the_environment(
    open_journal: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "http://user:secret@host:5000"
    with open_journal() as journal:
        progress.save(journal.run_directory, full, progress.Progress())
        progress.save(journal.run_directory, "http://other:5000", progress.Progress())
        monkeypatch.setenv("MLFLOW_TRACKING_URI", full)
        assert destinations(journal.run_directory, None) == [full, "http://other:5000"]
        assert destinations(journal.run_directory, "http://given") == ["http://given"]
