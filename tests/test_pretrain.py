"""The main job as a person runs it: a process of its own, killed, stopped, misused, and started again."""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
import pytest

from mac_ray.config import file as config_file
from mac_ray.pretrain import main, note_start
from mac_ray.tracking.journal import DRIVER_TAG, PARENT_TAG, Journal, read, status_of, summarize
from mac_ray.tracking.process import wait_for_lock
from mac_ray.tracking.sender import LOCK_NAME, replay
from mac_ray.training import checkpoint
from mac_ray.training.folder import RunFolder
from mac_ray.training.start import parameters, prepare
from tests.jobs import (
    WITHIN_S,
    kill,
    run_here,
    run_job,
    saved_step,
    start_job,
    wait_for,
    wait_for_checkpoint,
    wait_for_status,
)
from tests.runs import TINY, TINY_STEPS, UNTRACKED, the_run, weights_and_metrics
from tests.training.test_first_weights import image_vit


@dataclass(frozen=True)
class Finished:
    """A run that nobody disturbed."""

    folder: Path  # it ran in
    output: str
    left: list[list[str]]  # commands of processes that were there when it had ended


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    storage = [f"storage.runs={folder / 'runs'}", f"storage.cache={shared_cache}"]
    done = run_job([*TINY, *storage], folder, "--without-ray")
    assert done.returncode == 0, done.stdout + done.stderr
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in argument for argument in process.info["cmdline"] or ())
    ]
    return Finished(folder, done.stdout, left)


def test_pretrain_killed_again_and_again_ends_as_if_untouched(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so long that it is not done before it is killed
    overrides = [*tiny_overrides, "stages.0.epochs=20", "storage.checkpoint_every=1", UNTRACKED]
    reached = 0
    for _ in range(3):  # at the first checkpoint, then right after a later one, wherever the job then is
        job = start_job(overrides, tmp_path, "--without-ray")
        wait_for_checkpoint(tmp_path / "runs", job, after=reached)
        kill(job)
        saved = saved_step(tmp_path / "runs")
        assert saved > 0
        reached = saved + 2
        assert status_of(the_run(tmp_path / "runs")) == "RUNNING"  # nobody was left to say otherwise
    assert run_here(overrides, tmp_path, monkeypatch) == 0
    elsewhere = [*overrides, f"storage.runs={tmp_path / 'untouched'}"]
    assert run_here(elsewhere, tmp_path, monkeypatch) == 0
    untouched = weights_and_metrics(the_run(tmp_path / "untouched"))
    assert weights_and_metrics(the_run(tmp_path / "runs")) == untouched


def test_pretrain_terminated_saves_first_and_continues_in_the_same_mlflow_run(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*tiny_overrides, "stages.0.epochs=200", "storage.checkpoint_every=1000"]
    job = start_job(overrides, tmp_path, "--without-ray")
    wait_for(
        lambda: any("train/loss" in str(record) for record in journal_records(tmp_path / "runs")),
        job,
        every_s=0.01,
    )
    job.send_signal(signal.SIGTERM)
    assert job.wait(WITHIN_S) == 130
    run = the_run(tmp_path / "runs")
    assert checkpoint.latest(run / "checkpoints") is not None
    assert status_of(run) == "KILLED"
    killed = wait_for_status(tmp_path, "KILLED")

    assert run_here(overrides, tmp_path, monkeypatch) == 0
    finished = wait_for_status(tmp_path, "FINISHED")
    assert finished.info.run_id == killed.info.run_id
    _, metrics = weights_and_metrics(run)
    assert (
        finished.data.metrics["shapes_one_caption/t2v/R1"]
        == metrics["shapes_one_caption/t2v/R1", max(step for _, step in metrics)]
    )


def journal_records(runs: Path) -> list[dict[str, object]]:
    return [record for path in runs.glob("*/journal.jsonl") for record in read(path)]


def test_pretrain_of_a_run_that_is_being_trained_leaves_it_alone(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*tiny_overrides, "stages.0.epochs=2000", UNTRACKED]
    job = start_job(overrides, tmp_path, "--without-ray")
    wait_for_checkpoint(tmp_path / "runs", job, after=0)
    run = the_run(tmp_path / "runs")
    before = [record for record in read(run / "journal.jsonl") if record["kind"] in ("status", "tags")]
    assert main([*overrides, "--without-ray"]) == 2
    assert f"the run in {run} is being trained; let it end, or stop it" in capsys.readouterr().out
    after = [record for record in read(run / "journal.jsonl") if record["kind"] in ("status", "tags")]
    assert after == before
    job.send_signal(signal.SIGTERM)
    assert job.wait(WITHIN_S) == 130
    assert status_of(run) == "KILLED"


def test_pretrain_killed_is_failed_in_mlflow_not_running(tiny_overrides: list[str], tmp_path: Path) -> None:
    # so long that it has surely not ended by the time that MLflow has made its tables and shows it
    overrides = [*tiny_overrides, "stages.0.epochs=2000", "storage.checkpoint_every=1"]
    job = start_job(overrides, tmp_path, "--without-ray")
    wait_for_checkpoint(tmp_path / "runs", job, after=0)
    wait_for_status(tmp_path, "RUNNING")
    kill(job)
    wait_for_status(tmp_path, "FAILED")


def test_pretrain_logs_to_mlflow_what_it_promises(finished: Finished) -> None:
    run = wait_for_status(finished.folder, "FINISHED")
    assert len(run.data.metrics) <= 60
    for name in (
        "train/loss",
        "train/learning_rate",
        "train/samples_per_second",
        "train/step_seconds",
        "train/data_wait",
        "cost/visible_tokens",
        "cost/flops",
        "val/t2v/R1",
        "shapes_one_caption/t2v/R1",
        "shapes_one_caption/Rsum",
    ):
        assert name in run.data.metrics, name
    assert run.data.params["stages.0.masking.video.ratio"] == "0.6"
    assert {"data.shapes", "version.torch", "git.commit"} <= run.data.tags.keys()
    client = mlflow.MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    artifacts |= {file.path for file in client.list_artifacts(run.info.run_id, "pictures")}
    assert {
        "config.yaml",
        "ranks.parquet",
        "scores.json",
        "pictures/masked_clips.png",
        "pictures/retrieved.png",
    } <= artifacts
    for part in ("R@10", "chance", "mlflow ui"):
        assert part in finished.output


def test_finished_run_keeps_no_copy_of_the_weights_it_began_from(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    given = [f"model.video.pretrained={tmp_path}/vit.safetensors", f"storage.runs={tmp_path}/runs", UNTRACKED]
    for _ in range(2):  # the second time it has finished before
        assert main([*tiny_overrides, *given, "--without-ray"]) == 0
        run = RunFolder(the_run(tmp_path / "runs"))
        assert status_of(run.path) == "FINISHED"
        assert checkpoint.latest(run.checkpoints)
        assert not run.initial.exists()


def test_pretrain_finished_before_shows_the_result_and_trains_nothing(
    tiny_overrides: list[str],
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = finished.folder / "runs"
    records = len(journal_records(runs))
    monkeypatch.chdir(finished.folder)
    assert main([*tiny_overrides, f"storage.runs={runs}", "--without-ray"]) == 0
    again = capsys.readouterr().out
    assert "already finished" in again
    table = re.compile(r"│ R@1 .*")
    assert table.findall(again) == table.findall(finished.output) != []
    assert len(journal_records(runs)) == records


def test_pretrain_says_once_and_before_training_which_mask_nothing_sees(
    tiny_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["objectives.contrastive=null", "objectives.language={}", "stages.1.objectives={}"]
    assert main([*tiny_overrides, *given, UNTRACKED, "--without-ray"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("stages.0 hides words") == 1
    assert shown.index("stages.0 hides words") < shown.index("R@10")
    assert "stages.1 hides" not in shown


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_pretrain_with_an_unreachable_tracking_server_finishes_and_says_how_to_send_later(
    tiny_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("MLFLOW_TRACKING_URI", address)
        code = main([*tiny_overrides, "--without-ray"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "mac_ray.tracking replay" in shown
    run = the_run(tmp_path / "runs")
    os.close(wait_for_lock(run / LOCK_NAME))  # which the sender that was killed has for a moment longer
    assert status_of(run) == "FINISHED"
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay(run, store)
    tracked_run = wait_for_status(tmp_path, "FINISHED")
    points = mlflow.MlflowClient(store).get_metric_history(tracked_run.info.run_id, "train/loss")
    assert sorted(point.step for point in points) == [2, 4, 6, 8, 10, TINY_STEPS]


def test_pretrain_dry_run_prints_the_resolved_config_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["masking.video.ratio=0.75", "--dry-run"]) == 0
    assert "ratio: 0.75" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("masking.video.ratoi=0.5", ["masking.video.ratoi", "ratio"]),
        ("stages.0.batch_size=64", ["stages.0.batch_size", "64", "26", "lower"]),
        ("tracking.uri=ftp://somewhere", ["tracking.uri", "ftp"]),
        ("stages.0.name=fine-tune (MSR-VTT)", ["stages.0.name", "fine-tune (MSR-VTT)", "of letters, digits"]),
        ("data.sets.own={kind: manifest, path: nowhere.parquet}", []),
        ("stages.0.data=[own]", ["own"]),
    ],
)
def test_pretrain_with_bad_input_ends_with_one_sentence_before_it_starts(
    tiny_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    words: list[str],
) -> None:
    if not words:  # a set that does not exist, and a stage that draws from it
        tiny_overrides, override = [*tiny_overrides, override], "stages.0.data=[own]"
        words = ["nowhere.parquet", "mac_ray.prepare"]
    monkeypatch.chdir(tmp_path)
    assert main([*tiny_overrides, override, "--without-ray"]) == 2
    message = error_of(capsys.readouterr().out)
    for word in words:
        assert word in message
    assert journal_records(tmp_path / "runs") == []


def test_run_that_a_person_goes_on_with_is_no_longer_driven_by_its_sweep(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    """Which would stop it as a trial that it has condemned."""
    run = prepare(config_file.load(None, tiny_overrides), tmp_path, tmp_path, lambda *_: None)
    for more_tags, driver in (({PARENT_TAG: "key"}, "key"), ({}, "")):
        note_start(run, more_tags)
        with Journal(run.folder.path) as journal:
            assert (journal.tag(DRIVER_TAG), journal.tag(PARENT_TAG)) == (driver, "key")


def test_run_begun_by_code_that_derived_other_numbers_goes_on(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    options = [*tiny_overrides, UNTRACKED]
    run = prepare(config_file.load(None, options), tmp_path, tmp_path, lambda *_: None)
    counted = "derived.masked.forward_gflops"
    with Journal.open_or_create(
        run.folder.path, name=run.name, experiment="mac_ray", identity=run.identity
    ) as journal:
        journal.parameters(parameters(run) | {counted: "of old"})
    assert main([*options, "--without-ray"]) == 0
    with Journal(run.folder.path) as journal:
        assert journal.parameters_given[counted] == "of old"


def error_of(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("error: "))


def test_pretrain_as_a_command_with_bad_input_ends_with_a_sentence_and_no_traceback(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    override = "model.text.tokenizer=/nowhere"
    done = run_job([*tiny_overrides, override], tmp_path, "--without-ray", HF_HUB_OFFLINE="1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in ("/nowhere", "tokenizer.json"):
        assert word in error_of(done.stdout)
    assert journal_records(tmp_path / "runs") == []


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (
            OSError(28, "No space left on device"),
            1,
            "No space left on device; mend that, and the same command goes",
        ),
    ],
)
def test_pretrain_that_ends_before_it_trains_is_a_sentence(
    error: BaseException,
    code: int,
    sentence: str,
    tiny_overrides: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As while the clips of a set are made."""

    def prepare(*_: object) -> None:
        raise error

    monkeypatch.setattr("mac_ray.pretrain.prepare", prepare)
    assert main([*tiny_overrides, UNTRACKED]) == code
    assert sentence in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (OSError(28, "No space left on device"), "FAILED")]
)
def test_run_that_ends_as_it_starts_does_not_stay_running(
    error: BaseException,
    status: str,
    tiny_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while the sender of an actor's run is started, whose process lives on."""

    def tags(_: object) -> None:
        raise error

    overrides = [*tiny_overrides, f"storage.runs={tmp_path / 'runs'}", UNTRACKED, "--without-ray"]
    with monkeypatch.context() as failing:
        failing.setattr("mac_ray.pretrain.tags", tags)
        assert main(overrides) != 0
    (run,) = (tmp_path / "runs").glob("*-*")
    assert summarize(run).status == status
    assert summarize(run).tags.get("mac_ray.fault") == ("machine" if status == "FAILED" else None)
    assert main(overrides) == 0
    assert (summarize(run).status, summarize(run).tags.get("mac_ray.fault", "")) == ("FINISHED", "")


def test_where_data_are_is_not_sent_with_a_password(tiny_overrides: list[str], tmp_path: Path) -> None:
    rest = [f"storage.runs={tmp_path / 'runs'}", UNTRACKED, "--without-ray"]
    unused = "data.sets.other={kind: manifest, path: m.parquet, root: 's3://key:sesame@bucket/clips'}"
    assert main([*tiny_overrides, unused, *rest]) == 0
    (run,) = (tmp_path / "runs").glob("*-*")
    assert "sesame" in (run / "config.yaml").read_text()
    assert "config.yaml" not in [record.get("path") for record in read(run / "journal.jsonl")]


def test_pretrain_with_storage_that_cannot_be_written_names_it(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*tiny_overrides, f"storage.runs={tmp_path / 'file' / 'runs'}", "--without-ray"]) == 2
    assert "storage.runs" in error_of(capsys.readouterr().out)


def test_pretrain_leaves_no_process_behind(finished: Finished) -> None:
    assert finished.left == []
