"""A search as a person runs it: a process of its own, killed and started again, with trials that are stopped early."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dashboards.report import main as report
from mac_ray.ablation.proposals import FAILURES_IN_A_ROW
from mac_ray.config import Config
from mac_ray.config.file import to_yaml
from mac_ray.errors import EXIT_FAILED
from mac_ray.tracking.journal import summarize
from tests.ablation.test_sweep_runs import finish_here, start_sweep, wait_for_checkpoints
from tests.jobs import finish, kill, tracked
from tests.runs import UNTRACKED

pytestmark = pytest.mark.ray

SWEEP = """
from mac_ray.ablation import Choice, Conditional, Knob, Range, Search, Sweep, main
STRATEGY = "masking.video.strategy"
SWEEP = Sweep(
    name="tiny-search",
    question="Does the search work?",
    base={base!r},
    metric="t2v/MnR",
    direction="minimize",
    seeds=(0,),
    search=Search(
        trials=6,
        prune="everywhere",
        space={{
            STRATEGY: Knob(domain=Choice(values=("none", "random"))),
            "masking.video.ratio": Knob(
                domain=Range(low=0.3, high=0.7), only=Conditional(on=STRATEGY, among=("random",))
            ),
            "optimizer.learning_rate": Knob(domain=Range(low=1e-4, high=1e-2, log=True)),
        }},
    ),
)
if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
"""
LONGER = [
    "stages.0.epochs=4",
    "stages.1.epochs=60",  # in which trials are judged
    "evaluation.every_epochs=8",
    "storage.checkpoint_every=20",
]


def study_in(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.jsonl")))
    return optuna.load_study(study_name=folder.name, storage=storage)


def test_search_killed_and_started_again_has_each_trial_once_in_the_state_of_its_run(
    tiny_overrides: list[str],
    tmp_path: Path,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "tiny_search.py"
    file.write_text(SWEEP.format(base=base))
    overrides = [*tiny_overrides, *LONGER]
    job = start_sweep(file, overrides, tmp_path)
    wait_for_checkpoints(job, tmp_path / "runs", 4)
    kill(job)

    code, output = finish(start_sweep(file, overrides, tmp_path))
    assert code == 0, output
    (folder,) = (tmp_path / "runs").glob("sweep-tiny-search-*")
    study = study_in(folder)
    states = {trial.number: trial.state.name for trial in study.trials}
    assert len(states) == 6
    assert set(states.values()) == {"COMPLETE", "PRUNED"}, output

    runs = tracked(tmp_path)
    (parent,) = (run for run in runs if run.info.run_name == "tiny-search (base, equal samples)")
    assert parent.info.status == "FINISHED"
    children = {int(run.data.tags["mac_ray.trial"]): run for run in runs if run is not parent}
    assert len(runs) == 7
    expected = {"COMPLETE": ("FINISHED", "false"), "PRUNED": ("KILLED", "true")}
    for number, state in states.items():
        run = children[number]
        assert (run.info.status, run.data.tags["mac_ray.pruned"]) == expected[state], (number, output)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        assert trial.value == pytest.approx(children[trial.number].data.metrics["val/t2v/MnR"])

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    shown = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert {"trials.csv", "report.html", "plots"} <= shown
    before = {path: path.read_text() for path in (tmp_path / "runs").glob("tiny-*/journal.jsonl")}
    assert len(before) == 6

    code, output = finish_here(file, overrides, monkeypatch, capsys)  # all is there
    assert code == 0, output
    assert {path: path.read_text() for path in before} == before
    assert summarize(folder).status == "FINISHED"

    assert report(["tiny-search", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.html").read_text() == (folder / "report.html").read_text()
    assert (tmp_path / "again" / "trials.csv").read_text() == (folder / "trials.csv").read_text()


def test_search_on_a_machine_that_lacks_a_clip_stops_and_spends_no_trial(
    tiny_overrides: list[str], tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    """Training comes to its end, and then a clip of the test split cannot be scored, for every trial alike."""
    (tmp_path / "base.yaml").write_text(to_yaml(copied_set(tmp_path / "set")))
    file = tmp_path / "tiny_search.py"
    # without pruning, which stops whichever comes second, and with one trial more than may fail in a row
    whole = SWEEP.format(base=str(tmp_path / "base.yaml"))
    file.write_text(
        whole.replace('prune="everywhere",', "").replace("trials=6", f"trials={FAILURES_IN_A_ROW + 1}")
    )
    clip = tmp_path / "set" / "test" / "000003.mp4"
    sound = clip.read_bytes()
    clip.write_bytes(b"not a video")

    overrides = [*tiny_overrides, UNTRACKED]
    code, output = finish(start_sweep(file, overrides, tmp_path))
    assert code == EXIT_FAILED, output
    said = " ".join(output.split())
    assert "trials that failed one after the other" in said
    assert "the last with: 1 of 8" in said
    assert "the same command tries them again" in said

    clip.write_bytes(sound)
    code, output = finish(start_sweep(file, overrides, tmp_path))
    assert code == 0, output
    (folder,) = (tmp_path / "runs").glob("sweep-tiny-search-*")
    study = study_in(folder)
    assert len(study.trials) == FAILURES_IN_A_ROW + 1
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}, output
