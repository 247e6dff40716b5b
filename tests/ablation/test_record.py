from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mac_ray.ablation.record import RecordError, SweepRecord, read_record
from mac_ray.ablation.sweep import Knob, Range, Search, Sweep
from mac_ray.tracking.journal import Journal
from mac_ray.training.folder import IN_NAME
from tests.ablation.conftest import SWEEP
from tests.ablation.made import finished_run, recorded


def test_record_read_back_is_the_same(study: SweepRecord, runs: Path) -> None:
    folder = runs / "sweep-made"
    folder.mkdir()
    study.write(folder)
    found = read_record(folder)
    assert (found.sweep, found.context) == (study.sweep, study.context)
    assert [(row.label, dict(row.values)) for row in found.rows] == [
        (row.label, dict(row.values)) for row in study.rows
    ]
    assert [outcome.status for outcome in found.outcomes()] == [
        outcome.status for outcome in study.outcomes()
    ]
    assert [outcome.status for outcome in found.outcomes()].count("FINISHED") == 4


@pytest.mark.parametrize(
    ("given", "kept", "is_sent"),
    [
        (
            "postgresql://me:hunter2@host/studies?sslpassword=hunter2&host=/run",
            "postgresql://me@host/studies?host=%2Frun",
            False,
        ),
        ("postgresql://host/studies", "postgresql://host/studies", True),
        ("sqlite:///studies.db", "sqlite:///studies.db", True),
    ],
)
def test_record_of_a_study_in_a_database_has_no_password_of_it(
    given: str, kept: str, is_sent: bool, study: SweepRecord, tmp_path: Path
) -> None:
    search = Search(space={"masking.video.ratio": Knob(domain=Range(low=0.1, high=0.9))}, storage=given)
    searched = replace(study, sweep=Sweep(name="s", question="q", base="base.yaml", search=search))
    folder = tmp_path / "sweep"
    with Journal.open_or_create(folder, name="s", experiment="e", identity="1") as journal:
        searched.keep(folder, journal)
    assert ("sweep.json" in (folder / "journal.jsonl").read_text()) == is_sent
    assert "hunter2" not in (folder / "sweep.json").read_text()
    assert read_record(folder).sweep.search == search.model_copy(update={"storage": kept})


def test_record_with_a_password_of_another_place_stays_on_this_machine(
    study: SweepRecord, tmp_path: Path
) -> None:
    asked = {"data.sets.mine.root": "s3://key:secret@bucket"}
    with Journal.open_or_create(tmp_path, name="s", experiment="e", identity="1") as journal:
        replace(study, sweep=study.sweep.model_copy(update={"overrides": asked})).keep(tmp_path, journal)
    assert "sweep.json" not in (tmp_path / "journal.jsonl").read_text()
    assert read_record(tmp_path).sweep.overrides == asked


def test_record_moved_together_with_its_runs_finds_them(runs: Path, tmp_path: Path) -> None:
    storage = tmp_path / "before"
    shutil.copytree(runs, storage)
    (storage / "sweep").mkdir()
    recorded(SWEEP, storage).write(storage / "sweep")
    storage.rename(tmp_path / "after")
    found = read_record(tmp_path / "after" / "sweep").outcomes()
    assert [outcome.status for outcome in found].count("FINISHED") == 4


def test_run_that_somebody_else_has_begun_under_another_name_is_found(runs: Path, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    shutil.copytree(runs, storage)
    identity = "0123456789abcdef"
    planned = replace(
        recorded(SWEEP, storage).runs[0],
        identity=identity,
        folder=storage / f"sweep.row-{identity[:IN_NAME]}",
    )
    study = replace(recorded(SWEEP, storage), runs=[planned])
    assert [(outcome.status, outcome.folder) for outcome in study.outcomes()] == [(None, planned.folder)]
    finished_run(storage / f"by-hand-{identity[:IN_NAME]}", planned.seed, 0.5)
    assert [outcome.status for outcome in study.outcomes()] == ["FINISHED"]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"sweep": {"name": "x"}, "rows": [], "runs": [], "context": {}}']
)
def test_record_that_is_none_says_so(content: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no sweep.json; name the folder of a sweep"):
        read_record(tmp_path)
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(RecordError, match=r"is no record of a sweep"):
        read_record(tmp_path)
