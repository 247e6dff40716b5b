"""Runs under a parent in a real store, in whatever order their senders come."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from mac_ray.tracking.journal import Journal
from mac_ray.tracking.mlflow import TrackedRun
from mac_ray.tracking.sender import replay

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes the journal of a finished run, under `parent` if given; returns the run's folder."""

    def written(name: str, parent: str = "") -> Path:
        folder = tmp_path / name
        with Journal.open_or_create(folder, name=name, experiment="studies", identity=name) as journal:
            journal.status("RUNNING")
            if parent:
                journal.tags({"mac_ray.parent": parent})
            journal.metrics(1, {"t2v/R1": 10.0})
            journal.status("FINISHED")
        return folder

    return written


def key_of(folder: Path) -> str:
    with Journal(folder) as journal:
        return journal.key


def runs_by_name(store: str) -> dict[str, Run]:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("studies")
    found = client.search_runs([experiment.experiment_id])
    named = {run.info.run_name: run for run in found}
    assert len(named) == len(found), "no run is there twice"
    return named


def children_shown_below(store: str, parent: str) -> set[str]:
    """As MLflow's interface finds them."""
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("studies")
    run_id = runs_by_name(store)[parent].info.run_id
    found = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    return {run.info.run_name for run in found}


def test_parent_opened_again_leaves_children_alone_that_are_below_it(
    write: Writer, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand, each would cost a request."""
    parent = write("sweep")
    replay(write("child", parent=key_of(parent)), store)
    put, asked = TrackedRun._put_below, []

    def counted(run: TrackedRun, *given: str) -> None:
        asked.append(given)
        put(run, *given)

    monkeypatch.setattr(TrackedRun, "_put_below", counted)
    for _ in range(3):
        replay(parent, store)
    assert len(asked) == 1


@pytest.mark.parametrize("first_sent", ["parent", "child"])
def test_replay_of_parent_and_child_in_either_order_shows_one_below_the_other(
    write: Writer, store: str, first_sent: str
) -> None:
    parent = write("sweep")
    child, stranger = write("child", parent=key_of(parent)), write("stranger")
    order = [parent, child] if first_sent == "parent" else [child, parent]
    for folder in (*order, stranger):
        replay(folder, store)
    assert children_shown_below(store, "sweep") == {"child"}
    assert runs_by_name(store).keys() == {"sweep", "child", "stranger"}
    assert "mlflow.parentRunId" not in runs_by_name(store)["sweep"].data.tags


def test_replay_of_a_child_whose_parent_never_comes_leaves_it_whole_and_alone(
    write: Writer, store: str
) -> None:
    replay(write("orphan", parent="5e" * 16), store)
    runs = runs_by_name(store)
    assert runs.keys() == {"orphan"}
    assert "mlflow.parentRunId" not in runs["orphan"].data.tags
    assert (runs["orphan"].info.status, runs["orphan"].data.metrics) == ("FINISHED", {"t2v/R1": 10.0})


def test_replay_of_a_family_at_once_brings_all_together_under_one_parent(write: Writer, store: str) -> None:
    parent = write("sweep")
    children = [write(f"child {number}", parent=key_of(parent)) for number in range(4)]
    with ThreadPoolExecutor(max_workers=5) as threads:
        list(threads.map(lambda folder: replay(folder, store), [*children[:2], parent, *children[2:]]))
    assert children_shown_below(store, "sweep") == {f"child {number}" for number in range(4)}
    assert len(runs_by_name(store)) == 5


def test_replay_of_a_run_taken_over_by_another_sweep_moves_it_there(write: Writer, store: str) -> None:
    first, second = write("first"), write("second")
    child = write("child", parent=key_of(first))
    for folder in (first, second, child):
        replay(folder, store)
    with Journal(child) as journal:
        journal.tags({"mac_ray.parent": key_of(second)})
    replay(child, store)
    assert children_shown_below(store, "first") == set()
    assert children_shown_below(store, "second") == {"child"}


def test_replay_of_a_parent_that_was_deleted_brings_it_back_with_its_children(
    write: Writer, store: str
) -> None:
    parent = write("sweep")
    child = write("child", parent=key_of(parent))
    for folder in (parent, child):
        replay(folder, store)
    MlflowClient(tracking_uri=store).delete_run(runs_by_name(store)["sweep"].info.run_id)
    replay(parent, store)
    assert children_shown_below(store, "sweep") == {"child"}
