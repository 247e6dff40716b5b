"""`python -m mac_ray.tracking`, as a person runs it after a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mac_ray.tracking.journal import Journal
from mac_ray.tracking.sender import replay
from tests.tracking.mlflow_server import the_run

CRASH = """
import sys
from pathlib import Path
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.sender import replay
for folder in sys.argv[2:]:
    journal = Journal.open_or_create(Path(folder), name="crashed", experiment="a", identity="b")
    journal.status("RUNNING")
    journal.metrics(1, {"loss": 1.0})
    replay(journal.run_directory, sys.argv[1])
"""


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mac_ray.tracking", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_reap_fails_the_runs_whose_process_is_gone_and_no_others(store: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    crashed, elsewhere = runs / "sweep" / "crashed", runs / "elsewhere"
    subprocess.run([sys.executable, "-c", CRASH, store, str(crashed), str(elsewhere)], check=True)
    journal = elsewhere / "journal.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        if record["kind"] == "status":
            record["writer"]["host"] = "another-host"
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    (runs / "corrupt").mkdir()
    (runs / "corrupt" / "journal.jsonl").write_text("nonsense\n")
    (runs / "another" / "journal.jsonl").mkdir(
        parents=True
    )  # which cannot be read, like one of somebody else
    with Journal.open_or_create(runs / "alive", name="alive", experiment="a", identity="b") as alive:
        alive.status("RUNNING")
        replay(alive.run_directory, store)
        reaped = command("reap", runs)

    client = MlflowClient(tracking_uri=store)
    found = client.search_runs([client.get_experiment_by_name("a").experiment_id])
    status = {run.data.tags["mac_ray.key"]: run.info.status for run in found}
    keys = {
        folder: json.loads((folder / "journal.jsonl").read_text().splitlines()[0])["key"]
        for folder in (crashed, elsewhere, runs / "alive")
    }
    assert status == {keys[crashed]: "FAILED", keys[elsewhere]: "RUNNING", keys[runs / "alive"]: "RUNNING"}
    assert "another-host" in reaped.stdout
    assert reaped.returncode == 1  # for the journal that nobody can read
    assert "line 1 is no record" in reaped.stderr
    assert f"{runs / 'another'}: IsADirectoryError" in reaped.stderr
    assert "Traceback" not in reaped.stderr


def test_replay_command_says_what_it_sent_and_then_that_nothing_was_missing(
    store: str, tmp_path: Path
) -> None:
    with Journal.open_or_create(tmp_path / "run", name="run", experiment="a", identity="b") as journal:
        journal.status("RUNNING")
        journal.metrics(1, {"loss": 1.0, "accuracy": 0.5})
        journal.status("FINISHED")
    first = command("replay", tmp_path / "run", "--uri", store)
    assert (first.returncode, "2 points" in first.stdout, "FINISHED" in first.stdout) == (0, True, True)
    assert the_run(store).info.status == "FINISHED"
    second = command("replay", tmp_path / "run")  # to wherever the run was sent
    assert (second.returncode, second.stdout.strip().endswith("nothing was missing")) == (0, True)


def test_folder_in_which_nothing_can_be_noted_is_a_sentence(store: str, tmp_path: Path) -> None:
    with Journal.open_or_create(tmp_path / "run", name="run", experiment="a", identity="b") as journal:
        journal.status("RUNNING")
        journal.status("FINISHED")
    (tmp_path / "run/mlflow.json.new").mkdir()
    said = command("replay", tmp_path / "run", "--uri", store)
    assert said.returncode == 1
    assert "IsADirectoryError" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("replay", "empty"), "holds no journal.jsonl"),
        (("replay", "claimed"), "has not begun"),
        (("reap", "rusn"), "there is no folder"),
    ],
)
def test_command_on_a_folder_without_a_run_is_one_sentence(
    asked: tuple[str, str], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "claimed").mkdir()
    (tmp_path / "claimed" / "journal.jsonl").touch()
    refused = command(asked[0], tmp_path / asked[1], "--uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("mlflow.json"))
