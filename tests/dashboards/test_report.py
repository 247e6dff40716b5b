"""The command that makes a report again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow.tracking import MlflowClient

from dashboards.report import main
from mac_ray.ablation.record import Context, SweepRecord, folder_name
from mac_ray.ablation.sweep import Budget, Choice, Knob, Search, Sweep
from mac_ray.tracking.sender import replay
from tests.ablation.made import ended_run, finished_run, make_runs, recorded
from tests.ablation.trials import SPACE, Driver, write_run
from tests.tracking.mlflow_server import the_run
from tests.tracking.postgresql_server import PASSWORD, running_postgresql, what_is_missing

SWEEP = Sweep(
    name="two-rows",
    question="q",
    base="configs/ablation.yaml",
    variants={"none": {}, "tube": {}},
    seeds=(0,),
)


HOLDING = """
import sys
from pathlib import Path
from mac_ray.tracking.journal import Journal
with Journal(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def begun(runs: Path) -> Path:
    """The folder of the sweep, with the record of what it is to train."""
    folder = runs / folder_name("two-rows", "1a2b3c4d5e6f")
    folder.mkdir()
    recorded(SWEEP, runs).write(folder)
    return folder


def test_report_is_made_again_by_folder_and_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(tmp_path)
    assert main([str(folder)]) == 0
    assert "No run has finished" in (folder / "report.html").read_text()
    make_runs(SWEEP, tmp_path, {"none": 0.5, "tube": 0.6}, {})
    capsys.readouterr()
    other = tmp_path / folder_name("three-rows", "1a2b3c4d5e6f")
    other.mkdir()
    (other / "sweep.json").write_text("of another version")  # and of no concern here
    longer = tmp_path / folder_name("two-rows", "5e6f1a2b3c4d")
    longer.mkdir()
    at_other_cost = SWEEP.model_copy(update={"budget": Budget(equal="seconds")})
    recorded(at_other_cost, tmp_path).write(longer)
    os.utime(longer / "sweep.json", (1, 1))
    assert main(["two-rows", "--runs", str(tmp_path), "--out", str(tmp_path / "elsewhere")]) == 0
    said = capsys.readouterr().out
    assert "tube" in said
    assert f"two-rows (ablation, equal samples): {tmp_path / 'elsewhere' / 'report.html'}" in said
    assert f"an older one, two-rows (ablation, equal seconds): {longer}" in said
    assert "No run has finished" in (folder / "report.html").read_text()
    assert "No run has finished" not in (tmp_path / "elsewhere" / "report.html").read_text()


def test_report_made_again_is_attached_to_the_run_of_its_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    folder = begun(tmp_path)
    record = recorded(SWEEP, tmp_path)
    replace(record, context=replace(record.context, tracking=store)).write(folder)
    assert main([str(folder)]) == 0
    assert not (tmp_path / "mlflow.db").exists()  # where nobody has sent anything
    ended_run(folder, "FINISHED", "")
    replay(folder, store)
    assert main([str(folder), "--out", str(tmp_path / "elsewhere")]) == 0
    run = the_run(store)
    client = MlflowClient(tracking_uri=store)
    assert not client.list_artifacts(run.info.run_id)
    at_work = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(at_work, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout
        driver.stdout.readline()
        assert main([str(folder)]) == 0
        driver.communicate()
    assert driver.returncode == 0
    assert not client.list_artifacts(run.info.run_id)
    monkeypatch.chdir(tmp_path)
    assert main([folder.name]) == 0
    assert {"report.html", "table.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_report_of_a_sweep_whose_journal_is_corrupt_is_written_and_not_attached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(tmp_path)
    record = recorded(SWEEP, tmp_path)
    (tmp_path / "mlflow.db").touch()
    there = replace(record.context, tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    replace(record, context=there).write(folder)
    (folder / "journal.jsonl").write_text("[not a record\n")
    assert main([str(folder)]) == 0
    assert (folder / "report.html").is_file()
    assert "is not attached to the run of the sweep" in " ".join(capsys.readouterr().out.split())


def test_report_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(tmp_path)
    (tmp_path / "notes.html").write_text("of somebody")
    assert main([str(folder), "--out", str(tmp_path / "notes.html")]) == 2
    assert "give --out, a folder that can be" in " ".join(capsys.readouterr().out.split())


def test_picture_that_was_cut_short_costs_no_report(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    make_runs(SWEEP, tmp_path, {"none": 0.5, "tube": 0.6}, {})
    for picture in tmp_path.glob("*/pictures/masked_clips.png"):
        picture.write_bytes(picture.read_bytes()[:200])
    assert main([str(folder)]) == 0
    assert (folder / "table.csv").is_file()


def test_sweep_that_is_not_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere", "--runs", str(tmp_path)]) == 2
    assert "there is neither a folder nowhere nor a sweep of that name" in capsys.readouterr().out.replace(
        "\n", " "
    )


def test_storage_of_a_sweep_that_is_no_search_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(begun(tmp_path)), "--storage", "sqlite:///studies.db"]) == 2
    assert "--storage is given, but sweep two-rows is no search" in capsys.readouterr().out


def test_report_of_what_cannot_be_read_does_not_blame_where_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(tmp_path)
    make_runs(SWEEP, tmp_path, {"none": 0.5, "tube": 0.6}, {})
    journal = next(tmp_path.glob("*/journal.jsonl"))
    journal.unlink()
    journal.mkdir()
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "what the report is made of cannot be read (IsADirectoryError" in said
    assert "--out" not in said


def searched(folder: Path, search: Search) -> Driver:
    """Of three trials, the last with the best score; `folder` is the sweep's."""
    driver = Driver(folder, search, study=folder.name)
    while (proposal := driver.proposals.next()) is not None:
        (run,) = proposal.runs
        write_run(run, "FINISHED", [(100, 10.0 * proposal.number)])
        finished_run(folder.parent / f"other-{run.identity[:10]}", 0, 0.6)
        driver.proposals.ended(proposal.number)
    return driver


def test_report_of_a_search_is_made_again_wherever_its_folders_were_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base config is not needed, nor are the data: a job's folder is gone when it has ended."""
    runs = tmp_path / "runs"
    folder = runs / folder_name("s", "1a2b3c4d5e6f")
    runs.mkdir()
    gone = searched(folder, Search(trials=3, space=SPACE)).sweep.model_copy(update={"base": "gone.yaml"})
    SweepRecord(gone, [], [], Context("python sweeps/search.py")).write(folder)
    moved = tmp_path / "elsewhere"
    runs.rename(moved)
    monkeypatch.chdir(tmp_path)
    assert main(["s", "--runs", str(moved)]) == 0
    assert "Trial 2 has the best validation" in " ".join(capsys.readouterr().out.split())
    latest = moved / "latest"
    latest.symlink_to(folder.name)
    assert main([str(latest)]) == 0
    assert "Trial 2 has the best validation" in " ".join(capsys.readouterr().out.split())
    page = (moved / folder.name / "report.html").read_text()
    assert "On the test split, where nothing was chosen, it has" in page
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())
def test_report_of_a_search_in_a_database_with_a_password_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / folder_name("s", "1a2b3c4d5e6f")
    with running_postgresql() as url:
        driver = searched(folder, Search(trials=3, space=SPACE, storage=url))
        SweepRecord(driver.sweep, [], [], Context("python sweeps/search.py")).write(folder)
        assert main([str(folder)]) == 2
        said = " ".join(capsys.readouterr().out.split())
        assert "cannot be opened" in said
        assert "give --storage, the full address" in said
        assert main([str(folder), "--storage", "sqlite:///other.db"]) == 2
        assert "was begun in postgresql://127.0.0.1" in " ".join(capsys.readouterr().out.split())
        assert main([str(folder), "--storage", url]) == 0
        assert "Trial 2 has the best validation" in " ".join(capsys.readouterr().out.split())
    kept = "".join(path.read_text() for path in folder.glob("*.*"))
    assert "postgresql://mac@127.0.0.1" in kept
    assert not any(password in kept for password in (PASSWORD, quote(PASSWORD, safe="")))


def test_search_without_a_trial_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"masking.video.strategy": Knob(domain=Choice(values=("random", "tube")))}
    searched = Sweep(
        name="s", question="q", base="configs/ablation.yaml", search=Search(trials=2, space=space)
    )
    SweepRecord(searched, [], [], Context("python sweeps/search.py")).write(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert "has no trial yet to report of" in capsys.readouterr().out.replace("\n", " ")
