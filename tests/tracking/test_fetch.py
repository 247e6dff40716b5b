"""Finished runs brought back from real stores, held against the folders that they were sent from."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.outcome import Outcome, outcome_in
from mac_ray.ablation.plan import Point, Row
from mac_ray.ablation.reuse import Archive, NotGivenError
from mac_ray.ablation.tags import add_members, description
from mac_ray.config import Config, ConfigError
from mac_ray.tracking.fetch import fetch, finished_runs
from mac_ray.tracking.journal import FETCHED_NAME, Journal, status_of
from mac_ray.tracking.launch import send_rest
from mac_ray.tracking.sender import replay
from tests.ablation.conftest import SWEEP
from tests.ablation.made import ended_run, finished_run
from tests.jobs import free_port
from tests.tracking.mlflow_server import Server, points_in_journal, points_in_store, the_run

METRIC = "val/t2v/R1"


def planned(folder: Path) -> PlannedRun:
    return PlannedRun(Point(Row("row", {}), 0, Config()), folder.name, folder)


def sent_run(folder: Path, store: str, quality: float = 0.6) -> Path:
    finished_run(folder, 0, quality)
    replay(folder, store)
    return folder


def outcome_of(folder: Path) -> Outcome:
    return outcome_in(folder, "row", 0, folder.name)


@pytest.fixture
def heard() -> StringIO:
    """What was said to the person."""
    return StringIO()


def bring_back(uri: str, heard: StringIO, *folders: Path) -> None:
    Archive(uri, "made", Console(file=heard, width=200)).bring_back(map(planned, folders))


def test_run_brought_back_is_the_run_that_was_sent_but_for_its_checkpoints(
    store: str, tmp_path: Path, heard: StringIO
) -> None:
    folder = sent_run(tmp_path / "here" / "a-1", store)
    before, points, pictures = outcome_of(folder), points_in_journal(folder), folder / "pictures"
    files = {path.name: path.read_bytes() for path in (before.ranks, *pictures.iterdir())}
    history = list(before.history(METRIC))
    shutil.rmtree(tmp_path / "here")
    elsewhere = tmp_path / "there" / folder.name
    bring_back(store, heard, elsewhere)
    after = outcome_of(elsewhere)
    assert after == replace(before, folder=elsewhere)
    assert {
        path.name: path.read_bytes() for path in (after.ranks, *(elsewhere / "pictures").iterdir())
    } == files
    assert list(after.history(METRIC)) == history
    assert points_in_journal(elsewhere) == points
    assert "checkpoints are not" in (elsewhere / FETCHED_NAME).read_text()
    assert "fetched from there: 1 runs" in heard.getvalue()


def test_run_brought_back_and_sent_again_changes_nothing_in_mlflow(
    store: str, tmp_path: Path, heard: StringIO
) -> None:
    folder = sent_run(tmp_path / "a-1", store)
    points, run_id = points_in_store(store), the_run(store).info.run_id
    shutil.rmtree(folder)
    bring_back(store, heard, folder)
    assert str(replay(folder, store)) == "nothing was missing"
    replay(folder, store, from_the_start=True)
    assert points_in_store(store) == points
    assert (the_run(store).info.run_id, the_run(store).info.status) == (run_id, "FINISHED")


def test_study_of_others_that_a_fetched_run_is_put_into_is_found_and_their_folder_stays(
    store: str, tmp_path: Path, heard: StringIO
) -> None:
    """Its checkpoints are where it was trained, not where it was fetched to."""
    trained = sent_run(tmp_path / "theirs" / "a-1", store)
    fetched = tmp_path / "ours" / "a-1"
    bring_back(store, heard, fetched)
    study = tmp_path / "ours" / "sweep-masking-ratio-0123456789"
    add_members({fetched: "video 0.6"}, study)
    assert send_rest([fetched], store) is None
    search = re.search(r"``(tags.*)``", description(SWEEP, study, "python sweeps/masking_ratio.py"))
    assert search
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("made")
    assert experiment
    (found,) = client.search_runs([experiment.experiment_id], search[1])
    assert found.data.tags["mac_ray.folder"] == str(trained)
    assert found.info.status == "FINISHED"


def test_only_finished_runs_of_the_experiment_are_found_the_newest_first(store: str, tmp_path: Path) -> None:
    first = sent_run(tmp_path / "one" / "a-1", store)
    second = sent_run(tmp_path / "two" / "a-1", store)
    ended_run(tmp_path / "b-2", "FAILED", "out of memory")
    replay(tmp_path / "b-2", store)
    found = finished_runs(store, "made")
    assert {identity: [run.folder for run in runs] for identity, runs in found.items()} == {
        "a-1": [str(second), str(first)]
    }
    assert finished_runs(store, "another") == {}


def test_run_whose_artifacts_are_lost_is_left_to_be_trained_with_a_sentence(
    store: str, tmp_path: Path, heard: StringIO
) -> None:
    folder = sent_run(tmp_path / "a-1", store)
    older = sent_run(tmp_path / "older" / "b-2", store)
    sent_run(tmp_path / "newer" / "b-2", store)
    client = MlflowClient(tracking_uri=store)
    for identity, name in (("a-1", "ranks.parquet"), ("b-2", "scores.json")):
        newest = finished_runs(store, "made")[identity][0].run_id
        place = Path(client.get_run(newest).info.artifact_uri.removeprefix("file://")) / name
        assert place.is_file()
        place.write_bytes(place.read_bytes()[:20])
    kept = outcome_of(older)
    for gone in (folder, older):
        shutil.rmtree(gone)
    bring_back(store, heard, folder, older)
    assert status_of(folder) is None
    assert list(folder.iterdir()) == []
    assert "a-1 is finished in MLflow, but lacks its results there" in heard.getvalue()
    assert "it is trained again" in heard.getvalue()
    assert outcome_of(older) == kept  # of two, the one that is whole


def test_folder_that_was_begun_here_is_left_alone_and_named(
    store: str, tmp_path: Path, heard: StringIO
) -> None:
    sent_run(tmp_path / "there" / "a-1", store)
    ended_run(tmp_path / "a-1", "KILLED", "stopped on request")
    before = (tmp_path / "a-1" / "journal.jsonl").read_bytes()
    bring_back(store, heard, tmp_path / "a-1")
    assert (tmp_path / "a-1" / "journal.jsonl").read_bytes() == before
    said = " ".join(heard.getvalue().split())
    assert f"begun here, but MLflow has them finished: {tmp_path / 'a-1'}; delete" in said


def test_mlflow_that_does_not_answer_is_said_and_folders_count(
    tmp_path: Path, heard: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mac_ray.ablation.reuse.PAUSES_S", (0.1, 0.1))
    uri = f"http://127.0.0.1:{free_port()}"
    bring_back(uri, heard, tmp_path / "a-1")
    assert f"MLflow cannot be asked which runs are finished there ({uri}: " in heard.getvalue()
    assert "only folders count" in heard.getvalue()


def test_server_that_is_back_in_a_moment_is_asked_again(
    server: Server, tmp_path: Path, heard: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or all that it has would be trained again."""
    server.start()
    folder = sent_run(tmp_path / "a-1", server.uri)
    shutil.rmtree(folder)
    server.kill()
    waiting = SimpleNamespace(sleep=lambda _: server.start())
    monkeypatch.setattr("mac_ray.ablation.reuse.time", waiting)
    bring_back(server.uri, heard, folder)
    assert status_of(folder) == "FINISHED"


@pytest.fixture
def known_there(
    server: Server, tmp_path: Path, heard: StringIO, monkeypatch: pytest.MonkeyPatch
) -> tuple[Archive, Path]:
    """What was asked which runs the server has, and the folder of one that is there alone."""
    monkeypatch.setattr("mac_ray.ablation.reuse.PAUSES_S", (0.1, 0.1))
    server.start()
    folder = sent_run(tmp_path / "a-1", server.uri)
    shutil.rmtree(folder)
    archive = Archive(server.uri, "made", Console(file=heard, width=200))
    archive.look_up()
    return archive, folder


def test_server_that_goes_away_while_runs_are_fetched_is_waited_for_and_then_stops_the_sweep(
    server: Server, known_there: tuple[Archive, Path]
) -> None:
    """Or all that it has would be trained again."""
    archive, folder = known_there
    server.kill()
    with pytest.raises(ConfigError, match=r"a-1 is finished in MLflow, which does not give it now .*; start"):
        archive.bring_back([planned(folder)])
    assert status_of(folder) is None
    server.start()
    archive.bring_back([planned(folder)])
    assert status_of(folder) == "FINISHED"


def test_server_that_comes_to_refuse_is_one_that_does_not_give_now(
    server: Server, known_there: tuple[Archive, Path]
) -> None:
    """A search goes on without it, as what is under way must not be stopped."""
    archive, folder = known_there
    server.kill()
    server.start("--allowed-hosts", "mlflow.lab")
    with pytest.raises(NotGivenError, match="Invalid Host header"):
        archive.bring_back([planned(folder)])
    assert status_of(folder) is None


def test_folder_whose_run_begins_while_it_is_fetched_stays_as_it_is(
    store: str, tmp_path: Path, heard: StringIO
) -> None:
    sent_run(tmp_path / "there" / "a-1", store)
    folder = tmp_path / "a-1"
    archive = Archive(store, "made", Console(file=heard, width=200))
    known = archive.look_up()["a-1"][0]
    with Journal.open_or_create(folder, name="a-1", experiment="made", identity="a-1") as journal:
        journal.status("RUNNING")
        (folder / "config.yaml").write_text("its own")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    needed, welcome = [Path("scores.json")], [Path("config.yaml")]
    assert not fetch(store, known, folder, needed, welcome, lambda _: "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_database_that_is_not_there_is_not_made(tmp_path: Path, heard: StringIO) -> None:
    bring_back(f"sqlite:///{tmp_path}/mlflow.db", heard, tmp_path / "a-1")
    assert list(tmp_path.iterdir()) == []


def test_server_gives_runs_back_as_a_database_does(server: Server, tmp_path: Path, heard: StringIO) -> None:
    server.start()
    folder = sent_run(tmp_path / "a-1", server.uri)
    before = outcome_of(folder)
    shutil.rmtree(folder)
    bring_back(server.uri, heard, folder)
    assert outcome_of(folder) == before
