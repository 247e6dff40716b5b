"""Sweeps as a person runs them: processes of their own, killed, started again, with runs that fail."""

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest

from mac_ray.ablation import main
from mac_ray.ablation.execute import WAIT_FOR_ANOTHER_S
from mac_ray.bench.engine import begun_and_ended
from mac_ray.config import file as config_file
from mac_ray.cores import usable_cores
from mac_ray.tracking.journal import read, status_of, summarize
from mac_ray.training import checkpoint
from tests.jobs import finish, kill, start, start_job, tracked, wait_for
from tests.runs import UNTRACKED, weights_and_metrics
from tests.training.whole_runs import open_journal, trained

pytestmark = pytest.mark.ray

SWEEP = """
from mac_ray.ablation import Sweep, main
SWEEP = Sweep(
    name={name!r},
    question="Does the engine work?",
    base={base!r},
    variants={variants!r},
    seeds=(0,),
)
if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
"""
RATIOS = {f"video {ratio}": {"masking.video.ratio": ratio} for ratio in (0.0, 0.5, 0.75)}


def write_sweep(
    folder: Path, base: str, variants: dict[str, dict[str, object]], name: str = "tiny-ratio"
) -> Path:
    file = folder / f"{name}.py"
    file.write_text(SWEEP.format(name=name, base=base, variants=variants))
    return file


def arguments_of(overrides: list[str]) -> list[str]:
    """For a sweep, which names its runs."""
    return [override for override in overrides if not override.startswith("name=")]


def start_sweep(file: Path, overrides: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return start([sys.executable, str(file), *arguments_of(overrides)], folder)


def finish_here(
    file: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """In this process, where nothing is left to train."""
    monkeypatch.chdir(file.parent)
    code = main(runpy.run_path(str(file))["SWEEP"], arguments_of(arguments))
    return code, capsys.readouterr().out


def tables_below(runs: Path) -> list[dict[str, Any]]:
    """Of each sweep there."""
    return [json.loads(path.read_text()) for path in runs.glob("sweep-*/table.json")]


def without_seconds(runs: Path) -> dict[str, Any]:
    """The table of the one sweep there."""
    (table,) = tables_below(runs)
    for row in table["rows"]:
        del row["costs"]["seconds"], row["cost_ratios"]["seconds"]
    return table


def wait_for_checkpoints(job: subprocess.Popen[bytes], runs: Path, count: int) -> None:
    """Until so many checkpoints of runs are there. Fails when the job ends before."""
    wait_for(lambda: len(list(runs.glob("tiny*/checkpoints/step_*"))) >= count, job, every_s=0.05)


def steps_saved(runs: Path) -> int:
    """Of all runs together, each up to its newest checkpoint."""
    newest = (checkpoint.latest(folder) for folder in runs.glob("tiny*/checkpoints"))
    return sum(int(saved.name.removeprefix("step_")) for saved in newest if saved)


def kill_an_actor(job: subprocess.Popen[bytes], runs: Path) -> None:
    """That trains, once it or another has saved something more. Fails when the job ends before."""
    wait_for(lambda: actors_of(job), job)  # until then, something may be saved by those of an earlier job
    before = steps_saved(runs)
    wait_for(lambda: steps_saved(runs) > before and actors_of(job), job)[0].kill()


def actors_of(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Tune's."""
    actors = []
    for process in psutil.Process(job.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if any("ImplicitFunc.train" in word for word in process.cmdline()):
                actors.append(process)
    return actors


def runs_below(folder: Path) -> dict[str, Path]:
    """The run folders by the row they stand for."""
    found = {}
    for journal in folder.glob("tiny-*.*/journal.jsonl"):
        tags = [record["values"] for record in read(journal) if record["kind"] == "tags"]
        row = next(values["mac_ray.row"] for values in tags if "mac_ray.row" in values)
        assert row not in found, "it was begun a second time"
        found[row] = journal.parent
    return found


def test_sweep_killed_and_started_again_ends_as_if_run_by_hand_and_trains_nothing_twice(
    tiny_overrides: list[str],
    tmp_path: Path,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = [*tiny_overrides, "stages.0.epochs=40", UNTRACKED]
    file = write_sweep(tmp_path, base, RATIOS)
    job = start_sweep(file, overrides, tmp_path)
    wait_for_checkpoints(job, tmp_path / "runs", 1)
    kill(job)

    job = start_sweep(file, overrides, tmp_path)
    kill_an_actor(job, tmp_path / "runs")  # which Tune replaces
    code, output = finish(job)
    assert code == 0, output
    resumed = runs_below(tmp_path / "runs")
    assert resumed.keys() == RATIOS.keys()
    lines = {row: (run / "journal.jsonl").read_text() for row, run in resumed.items()}

    code, output = finish_here(file, overrides, monkeypatch, capsys)  # all is there
    assert code == 0, output
    assert "3 runs, 0 to go with 0 FLOPs of training" in output
    assert {row: (run / "journal.jsonl").read_text() for row, run in resumed.items()} == lines

    for row, changes in RATIOS.items():
        asked = [f"{key}={value}" for key, value in changes.items()]
        by_hand = trained(config_file.load(None, [*overrides, *asked]), tmp_path / "by_hand")
        assert weights_and_metrics(by_hand.folder.path) == weights_and_metrics(resumed[row]), row
        with open_journal(by_hand) as journal:
            journal.status("FINISHED")
    undisturbed = [*overrides, f"storage.runs={tmp_path / 'by_hand'}"]
    code, output = finish_here(file, undisturbed, monkeypatch, capsys)
    assert code == 0, output
    assert without_seconds(tmp_path / "by_hand") == without_seconds(tmp_path / "runs")


def test_sweep_with_a_run_that_fails_finishes_the_others_and_says_so(
    tiny_overrides: list[str], tmp_path: Path, base: str
) -> None:
    variants = {
        "good": {},
        "bad": {"optimizer.learning_rate": 1e30, "optimizer.clip_norm": None},
    }
    file = write_sweep(tmp_path, base, variants)
    code, output = finish(start_sweep(file, tiny_overrides, tmp_path))
    assert code == 1, output
    assert "not finite" in " ".join(output.replace("│", " ").split())  # in a cell, wherever that breaks lines
    runs = runs_below(tmp_path / "runs")
    assert {row: status_of(run) for row, run in runs.items()} == {"good": "FINISHED", "bad": "FAILED"}
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    named = {run.info.run_name: run for run in tracked(tmp_path)}
    parent = named["tiny-ratio (base, equal samples)"]
    assert {"table.json", "report.html"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    children = [run for run in named.values() if run is not parent]
    assert {run.info.run_name: run.data.tags["mac_ray.row"] for run in children} == {
        "tiny-ratio/good/seed=0": "good",
        "tiny-ratio/bad/seed=0": "bad",
    }
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    # the line that the sweep's own page has
    search = re.search(r"``(tags.*)``", parent.data.tags["mlflow.note.content"])
    assert search
    found = client.search_runs([parent.info.experiment_id], search[1])
    assert {run.info.run_id for run in found} == {run.info.run_id for run in children}


def test_run_that_somebody_else_trains_is_waited_for_last_and_one_that_is_given_up_says_why(
    tiny_overrides: list[str], tmp_path: Path, base: str
) -> None:
    overrides = [*tiny_overrides, "cluster.max_failures=0", UNTRACKED]
    variants = {"theirs": {"masking.video.ratio": 0.75}, "ours": {"stages.0.epochs": 2000}}
    other = start_job([*overrides, "masking.video.ratio=0.75"], tmp_path, "--without-ray")
    theirs = wait_for(lambda: next((tmp_path / "runs").glob("tiny-*/journal.jsonl"), None), other).parent
    wait_for(lambda: status_of(theirs) == "RUNNING", other)
    other.send_signal(signal.SIGSTOP)
    job = start_sweep(write_sweep(tmp_path, base, variants), overrides, tmp_path)
    wait_for(lambda: list((tmp_path / "runs").glob("tiny-ratio.ours*/checkpoints/step_*")), job)
    # the other's has yet to find that theirs is being trained, and would be given up as well
    wait_for(lambda: len(actors := actors_of(job)) == 1 and actors, job)[0].kill()
    (ours,) = (tmp_path / "runs").glob("tiny-ratio.ours*")
    wait_for(lambda: status_of(ours) == "FAILED", job)
    wait_for(lambda: not actors_of(job), job)  # which would hold what the run that is waited for may need
    time.sleep(WAIT_FOR_ANOTHER_S)
    assert job.poll() is None
    other.send_signal(signal.SIGCONT)
    code, output = finish(job)
    assert code == 1, output
    assert status_of(theirs) == "FINISHED"
    assert summarize(ours).status == "FAILED"
    assert summarize(ours).reason.startswith("ActorDiedError")
    (table,) = (tmp_path / "runs").glob("sweep-*/table.json")
    rows = {row["label"]: row for row in json.loads(table.read_text())["rows"]}
    assert rows["theirs"]["metrics"]
    assert "ActorDiedError" in rows["ours"]["problems"][0]["reason"]


def test_sweep_whose_runs_have_several_workers_trains_them_on_ray_train(
    tiny_overrides: list[str], tmp_path: Path, base: str
) -> None:
    """One after the other, as a run takes all cores: none waits for workers that another holds."""
    rows = {"one": {}, "other": {"masking.video.ratio": 0.75}}
    asked = ["cluster.workers=2", f"cluster.cpus_per_worker={max(1, usable_cores() // 2)}", UNTRACKED]
    code, output = finish(start_sweep(write_sweep(tmp_path, base, rows), [*tiny_overrides, *asked], tmp_path))
    assert code == 0, output
    runs = runs_below(tmp_path / "runs")
    assert {row: status_of(run) for row, run in runs.items()} == dict.fromkeys(rows, "FINISHED")
    assert all(list(run.glob("ray/attempt_*")) for run in runs.values())
    (_, ended), (began, _) = sorted(
        begun_and_ended(list(read(run / "journal.jsonl"))) for run in runs.values()
    )
    assert ended <= began


def test_sweep_dry_run_lists_runs_and_costs_and_trains_nothing(
    tiny_overrides: list[str],
    tmp_path: Path,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_sweep(tmp_path, base, RATIOS)
    code, output = finish_here(file, [*tiny_overrides, "--dry-run"], monkeypatch, capsys)
    assert code == 0, output
    for row in RATIOS:
        assert row in output
    assert "3 runs, " in output
    assert re.search(r"about [\d.]+ (s|min).* of training here, .* by a few steps timed just now", output)
    few = ["cluster.cpus_per_worker=4000", "--rows", "video 0.5", "--dry-run"]
    code, output = finish_here(file, [*tiny_overrides, *few], monkeypatch, capsys)
    assert code == 0, output
    assert "video 0.75" not in output
    assert "how long that takes is not known: a run does not fit: a worker needs 4000 CPUs" in output
    code, output = finish_here(file, [*tiny_overrides, "--rows", "video 0.4"], monkeypatch, capsys)
    assert code == 2
    assert "--rows names 'video 0.4', but the rows of sweep tiny-ratio are 'video 0.0', 'video 0.5'" in output
    assert not list((tmp_path / "runs").glob("*/journal.jsonl"))


def test_row_is_trained_alone_and_the_rest_by_two_sweeps_at_once_each_run_once(
    tiny_overrides: list[str], tmp_path: Path, base: str
) -> None:
    """Both have all rows in their tables, and in MLflow each run is there once."""
    files = [write_sweep(tmp_path, base, RATIOS, name) for name in ("tiny-ratio", "tiny-again")]
    code, output = finish(start_sweep(files[0], [*tiny_overrides, "--rows", "video 0.75"], tmp_path))
    assert code == 0, output
    (table,) = tables_below(tmp_path / "runs")
    assert [row["label"] for row in table["rows"]] == list(RATIOS)
    assert [row["label"] for row in table["rows"] if row["metrics"]] == ["video 0.75"]
    assert sorted(runs_below(tmp_path / "runs")) == ["video 0.75"]

    jobs = [start_sweep(file, tiny_overrides, tmp_path) for file in files]
    for code, output in map(finish, jobs):
        assert code == 0, output
    runs = runs_below(tmp_path / "runs")
    assert sorted(runs) == list(RATIOS)
    for run in runs.values():
        statuses = [record["status"] for record in read(run / "journal.jsonl") if record["kind"] == "status"]
        assert statuses == ["RUNNING", "FINISHED"]
    one, other = tables_below(tmp_path / "runs")
    assert [row["label"] for row in one["rows"] if row["metrics"]] == list(RATIOS)
    assert one["rows"] == other["rows"]
    # the sender of a run may still be at it
    wait_for(lambda: all(run.info.status == "FINISHED" for run in tracked(tmp_path)))
    assert len(tracked(tmp_path)) == len(files) + len(RATIOS)
    rows = [run.data.tags["mac_ray.row"] for run in tracked(tmp_path) if "mac_ray.row" in run.data.tags]
    assert sorted(rows) == list(RATIOS)


def test_sweep_that_is_terminated_is_killed_as_from_the_keyboard_and_says_how_to_go_on(
    tiny_overrides: list[str], tmp_path: Path, base: str
) -> None:
    """SIGTERM is made a Ctrl-C, so both are seen here; in the background of a shell, which ignores SIGINT there."""
    # no more than train at once: what Tune then stops, it counts as ended
    file = write_sweep(tmp_path, base, dict(list(RATIOS.items())[:2]))
    asked = arguments_of([*tiny_overrides, "stages.0.epochs=200", UNTRACKED])
    job = start(["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, str(file), *asked], tmp_path)
    wait_for_checkpoints(job, tmp_path / "runs", 4)
    job.terminate()
    code, output = finish(job)
    assert code == 130, output
    assert "goes on with it" in output
    (sweep,) = (tmp_path / "runs").glob("sweep-*")
    assert status_of(sweep) == "KILLED"
    # of what has finished, which is nothing
    assert {
        row["label"]: row["metrics"] for row in json.loads((sweep / "table.json").read_text())["rows"]
    } == {
        "video 0.0": {},
        "video 0.5": {},
    }
    sent = [record["path"] for record in read(sweep / "journal.jsonl") if record["kind"] == "artifact"]
    assert {"report.html", "table.json"} <= set(sent)


def test_sweep_whose_run_folders_are_gone_takes_finished_runs_from_mlflow_and_has_to_train_what_was_lost_there(
    tiny_overrides: list[str],
    tmp_path: Path,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = dict(list(RATIOS.items())[:2])
    file = write_sweep(tmp_path, base, rows)
    code, output = finish(start_sweep(file, tiny_overrides, tmp_path))
    assert code == 0, output
    (table,) = (tmp_path / "runs").glob("sweep-*/table.json")
    expected = table.read_text()
    shutil.rmtree(tmp_path / "runs")

    elsewhere = [*tiny_overrides, f"storage.runs={tmp_path / 'elsewhere'}"]
    for overrides, runs in ((tiny_overrides, tmp_path / "runs"), (elsewhere, tmp_path / "elsewhere")):
        code, output = finish_here(file, overrides, monkeypatch, capsys)
        assert code == 0, output
        assert "fetched from there: 2 runs" in output
        assert runs_below(runs).keys() == rows.keys()
        assert not list(runs.glob("*/checkpoints"))  # nothing was trained
        (table,) = runs.glob("sweep-*/table.json")
        assert table.read_text() == expected

    shutil.rmtree(tmp_path / "runs")
    (lost, *_) = sorted((tmp_path / "mlartifacts").glob("*/artifacts/ranks.parquet"))
    lost.unlink()
    code, output = finish_here(file, [*tiny_overrides, "--dry-run"], monkeypatch, capsys)
    assert code == 0, output
    assert "2 runs, 0 to go" in output
    assert not list((tmp_path / "runs").glob("*/journal.jsonl"))
    code, output = finish_here(file, tiny_overrides, monkeypatch, capsys)
    assert code == 0, output
    assert "fetched from there: 1 runs" in output
    assert "it is trained again" in output
    assert "2 runs, 1 to go" in output

    found = tracked(tmp_path)
    (parent,) = (run for run in found if "mac_ray.row" not in run.data.tags)  # of all three folders
    below = [run.data.tags["mlflow.parentRunId"] for run in found if run is not parent]
    assert below == [parent.info.run_id] * 3  # and the one that was trained again
