"""Runs on Ray Train on this machine: killed workers and drivers, clusters of two nodes, submitted jobs."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.ray_train import most_with_enough
from mac_ray.tracking.journal import WORKERS_TAG, status_of, summarize
from mac_ray.training.start import PreparedRun, prepare
from tests.jobs import (
    WITHIN_S,
    command,
    finish,
    free_port,
    log_of,
    run_job,
    saved_step,
    start,
    start_job,
    tracked,
    wait_for,
    wait_for_checkpoint,
    wait_for_status,
)
from tests.runs import TINY, UNTRACKED, Point, the_run, weights_and_metrics
from tests.training.whole_runs import trained_on

pytestmark = pytest.mark.ray

WeightsAndMetrics = tuple[dict[str, str], dict[Point, float]]
LONGER = ["stages.0.epochs=40", "storage.checkpoint_every=2", "cluster.workers=2"]
ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).parent / "ray")


@contextmanager
def node(*arguments: str, unseen: Path | None = None) -> Iterator[psutil.Process]:
    """A node of one CPU as `ray start` makes it; its processes are below the one that is yielded. It has a folder of
    its own where the others see `unseen`.

    `ray stop` would end those of other clusters too, and jobs that are told of no cluster join the one that was
    last started in their folder. An agent that finds its fixed default port taken, by another test's, goes on
    without HTTP and takes no jobs.
    """
    start = [
        RAY,
        "start",
        *arguments,
        "--num-cpus=1",
        "--dashboard-agent-listen-port=0",
        "--disable-usage-stats",
    ]
    if unseen is not None:
        mounted = f'mount -t tmpfs none {unseen} && exec "$@"'
        start = ["unshare", "--mount", "sh", "-c", mounted, "sh", *start]
    with (
        TemporaryDirectory(dir="/tmp", prefix="ray_", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [*start, "--block"],
            env=os.environ | {"RAY_TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        parent = psutil.Process(process.pid)
        try:
            assert process.stdout is not None
            told = ""
            while "Ray runtime started" not in told:
                line = process.stdout.readline()
                assert line, told
                told += line
            yield parent
        finally:
            kill(parent)


def kill(parent: psutil.Process) -> None:
    """With everything below it."""
    for process in [*parent.children(recursive=True), parent]:
        with suppress(psutil.NoSuchProcess):  # it may have ended with another
            process.kill()


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """A cluster of one CPU as `ray start --head` makes it, tokens included: its address and its dashboard's."""
    monkeypatch.setenv(
        "RAY_health_check_period_ms", "1000"
    )  # whether nodes are alive; each look has its 10 s
    # the head asks for a token by default, its clients send one only when told to
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    port, dashboard = free_port(), free_port()
    ports = {"port": port, "dashboard-port": dashboard, "ray-client-server-port": free_port()}
    with node("--head", *(f"--{name}={number}" for name, number in ports.items())):
        yield f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"


def workers_of(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Ray's processes lie about in sessions of their own; these are below the job's."""
    workers = []
    for process in psutil.Process(job.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may have ended meanwhile
            if "RayTrainWorker" in " ".join(process.cmdline()):
                workers.append(process)
    return workers


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> WeightsAndMetrics:
    """What LONGER leaves on two ranks without Ray that nobody disturbs, whatever its checkpoints."""
    config = config_file.load(None, [*TINY, *LONGER, f"storage.cache={shared_cache}"])
    run = trained_on(2, config, tmp_path_factory.mktemp("untouched") / "runs")
    return weights_and_metrics(run.folder.path)


def test_ray_train_with_a_worker_killed_ends_as_if_untouched(
    tiny_overrides: list[str], tmp_path: Path, untouched: WeightsAndMetrics
) -> None:
    overrides = [*tiny_overrides, *LONGER]
    job = start_job(overrides, tmp_path)
    wait_for_checkpoint(tmp_path / "runs", job, after=0)
    victims = workers_of(job)
    assert len(victims) == 2
    victims[0].kill()
    wait_for(lambda: set(workers_of(job)) - set(victims), job)  # that go on, before all is done
    assert job.wait(WITHIN_S) == 0, log_of(job)
    assert {worker.pid for worker in victims}.isdisjoint(psutil.pids())
    wait_for_status(tmp_path, "FINISHED")
    assert weights_and_metrics(the_run(tmp_path / "runs")) == untouched


def test_ray_train_with_the_driver_killed_then_terminated_continues_under_the_same_mlflow_run(
    tiny_overrides: list[str], tmp_path: Path, untouched: WeightsAndMetrics
) -> None:
    overrides = [*tiny_overrides, *LONGER, "storage.checkpoint_every=7"]
    job = start_job(overrides, tmp_path)
    wait_for_checkpoint(tmp_path / "runs", job, after=0)
    left = workers_of(job)
    job.kill()
    job.wait()
    for (
        worker
    ) in left:  # that would train on for as long as Ray lets them, and leave the next job nothing to do
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    failed = wait_for_status(tmp_path, "FAILED")

    job = start_job(overrides, tmp_path)
    wait_for_checkpoint(tmp_path / "runs", job, after=saved_step(tmp_path / "runs"))
    job.send_signal(signal.SIGTERM)
    assert job.wait(WITHIN_S) == 130, log_of(job)
    assert status_of(the_run(tmp_path / "runs")) == "KILLED"

    done = run_job(overrides, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert wait_for_status(tmp_path, "FINISHED").info.run_id == failed.info.run_id
    assert weights_and_metrics(the_run(tmp_path / "runs")) == untouched


def test_ray_train_interrupted_from_the_keyboard_is_killed_and_says_how_to_go_on(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    job = start_job([*tiny_overrides, *LONGER, "stages.0.epochs=400", UNTRACKED], tmp_path)
    wait_for_checkpoint(tmp_path / "runs", job, after=0)
    job.send_signal(signal.SIGINT)
    assert job.wait(WITHIN_S) == 130, log_of(job)
    assert status_of(the_run(tmp_path / "runs")) == "KILLED"
    assert "the same command continues it" in log_of(job)


def test_ray_train_with_what_one_worker_cannot_go_on_from_ends_with_its_sentence(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    for path in sorted((tmp_path / "set" / "train").glob("*.mp4"))[1:]:
        path.write_bytes(b"")
    (tmp_path / "config.yaml").write_text(config_file.to_yaml(config))
    done = run_job(["config.yaml", "cluster.workers=2", "data.max_bad_share=0.999", UNTRACKED], tmp_path)
    assert done.returncode == 1
    assert re.search(
        r"is FAILED: \d+ (samples drawn one for another cannot|of the .* could not) be", done.stdout
    )
    assert "gave up" not in done.stdout


def test_ray_train_takes_no_more_workers_by_itself_than_a_batch_is_enough_for(
    tiny_overrides: list[str],
) -> None:
    pieces = ["stages.0.batch_size=8", "stages.0.accumulate=2"]
    assert most_with_enough(6, prepared_by_hand([*tiny_overrides, *pieces])) == 4
    assert most_with_enough(6, prepared_by_hand([*tiny_overrides, *pieces, "objectives.matching={}"])) == 2
    assert most_with_enough(6, prepared_by_hand([*tiny_overrides, "stages.0.accumulate=8"])) == 1


def prepared_by_hand(overrides: list[str]) -> PreparedRun:
    return prepare(config_file.load(None, overrides), Path.cwd(), Path.cwd(), lambda *_: None)


def test_ray_train_with_more_workers_than_the_cluster_has_waits_then_says_what_is_missing(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    too_much = ["cluster.workers=2", "cluster.cpus_per_worker=250", "cluster.start_timeout_s=3"]
    done = run_job([*tiny_overrides, *too_much, UNTRACKED], tmp_path)
    assert done.returncode == 1
    assert "waiting up to 3 s" in done.stdout
    assert "2 workers need 250 CPUs each, and the cluster has room for 0" in done.stdout
    assert "Traceback" not in done.stdout
    assert status_of(the_run(tmp_path / "runs")) == "FAILED"


def test_ray_train_on_two_nodes_trains_one_run_together(
    tiny_overrides: list[str], tmp_path: Path, head: tuple[str, str], untouched: WeightsAndMetrics
) -> None:
    address, _ = head
    with node(f"--address={address}"):
        done = run_job([*tiny_overrides, *LONGER, UNTRACKED], tmp_path, RAY_ADDRESS=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights_and_metrics(the_run(tmp_path / "runs")) == untouched


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a folder")
def test_ray_train_with_a_node_that_does_not_see_the_runs_ends_before_it_trains(
    tiny_overrides: list[str], tmp_path: Path, head: tuple[str, str]
) -> None:
    address, _ = head
    runs = tmp_path / "runs"
    runs.mkdir()
    with node(f"--address={address}", unseen=runs):
        done = run_job([*tiny_overrides, "cluster.workers=2", UNTRACKED], tmp_path, RAY_ADDRESS=address)
    assert done.returncode == 1, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert f"storage.runs is {runs}, but what is called so on {socket.gethostname()} is another" in said
    assert status_of(the_run(runs)) == "FAILED"
    assert not list(runs.glob("*/checkpoints/step_*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a folder")
def test_sweep_started_where_a_node_has_no_such_folder_ends_before_it_trains(
    tiny_overrides: list[str], tmp_path: Path, head: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = head
    monkeypatch.setenv("RAY_ADDRESS", address)
    study = tmp_path / "home/study"
    study.mkdir(parents=True)
    own = [override for override in tiny_overrides if not override.startswith("name=")]
    sweep = [sys.executable, str(ROOT / "sweeps/masked_modality.py"), *own, UNTRACKED, "--rows", "neither"]
    with node(f"--address={address}", unseen=study.parent):
        code, told = finish(start(sweep, study))
    assert code == 1, told
    said = " ".join(told.split())
    assert f"from {study}, where the sweep was started, and there is no such folder on" in said
    assert not list((tmp_path / "runs").glob("*/checkpoints/step_*"))


def test_ray_train_elastic_goes_on_with_the_workers_left_when_a_node_dies(
    tiny_overrides: list[str], tmp_path: Path, head: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = head
    monkeypatch.setenv("RAY_ADDRESS", address)
    # the dead node counts as alive for a while, and is waited for in vain: by default for a minute
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
    with node(f"--address={address}") as second:
        overrides = [*tiny_overrides, *LONGER, "cluster.workers=[1, 2]", UNTRACKED]
        job = start_job(overrides, tmp_path)
        wait_for_checkpoint(tmp_path / "runs", job, after=3)
        kill(second)
        assert job.wait(WITHIN_S) == 0, log_of(job)
    assert status_of(the_run(tmp_path / "runs")) == "FINISHED"
    workers = summarize(the_run(tmp_path / "runs")).tags[WORKERS_TAG]
    assert workers == "2 workers of 1 thread, then 1 worker of 1 thread"
    metrics = weights_and_metrics(the_run(tmp_path / "runs"))[1]
    last = max(step for _, step in metrics)
    assert last == 40 * 26 // 8 + 3
    assert metrics["cost/samples", last] == last * 8  # each step made once, whoever made it


def test_ray_job_submitted_trains_and_its_run_is_in_mlflow(
    tiny_overrides: list[str], tmp_path: Path, head: tuple[str, str]
) -> None:
    submit = [
        RAY,
        "job",
        "submit",
        f"--address={head[1]}",
        f"--working-dir={ROOT}",
        "--",
        *command([*tiny_overrides, f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]),
    ]
    deadline = time.monotonic() + WITHIN_S
    while True:
        submitted = subprocess.run(
            submit, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
        # Ray says so, and to try again later, until the agent of a node that has just started is up
        if "No available agent" not in submitted.stderr or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "R@10" in submitted.stdout
    assert wait_for_status(tmp_path, "FINISHED").data.metrics["shapes_one_caption/coverage"] == 1.0
    assert len(tracked(tmp_path)) == 1
