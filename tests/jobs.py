"""Commands as processes of their own: started, waited for, and ended with the test that started them."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import mlflow
import pytest
from mlflow.entities import Run

from mac_ray.pretrain import main
from mac_ray.tracking import progress
from mac_ray.training import checkpoint

FoundT = TypeVar("FoundT")

WITHIN_S = 400  # a loaded machine takes a while to import torch; two of these are within pytest's limit
PORTS = range(
    20_000, 32_000
)  # above those that `ray start` gives to workers, below those of anyone's sockets
# by the test at hand, by process id; with where it writes
STARTED: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}


def free_port() -> int:
    """That nobody else is given by the system before it is bound."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_for(
    found: Callable[[], FoundT],
    job: subprocess.Popen[bytes] | None = None,
    every_s: float = 0.02,
    within_s: float = WITHIN_S,
) -> FoundT:
    """What it finds at last. Fails when the job ends before."""
    deadline = time.monotonic() + within_s
    while not (what := found()):
        assert job is None or job.poll() is None, f"the job has ended with {job.returncode}: {log_of(job)}"
        assert time.monotonic() < deadline, f"not within {within_s} s: {log_of(job) if job else what}"
        time.sleep(every_s)
    return what


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """In a group of its own, so that all of it can be killed; a fixture ends it with its test."""
    path = folder / f"job{len(STARTED)}.log"
    with path.open("wb") as log:
        job = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    STARTED[job.pid] = job, path
    return job


def log_of(job: subprocess.Popen[bytes]) -> str:
    return STARTED[job.pid][1].read_text()


def finish(job: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its exit code and what it said."""
    return job.wait(WITHIN_S), log_of(job)


def kill(job: subprocess.Popen[bytes]) -> None:
    """With its group, to which Ray's workers do not belong."""
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def end_all() -> None:
    for job, _ in STARTED.values():
        kill(job)
    STARTED.clear()


# ---------------------------------------------------------------- python -m mac_ray.pretrain


def command(overrides: Sequence[str], *options: str) -> list[str]:
    return [sys.executable, "-m", "mac_ray.pretrain", *options, *overrides]


def run_job(
    overrides: Sequence[str], folder: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(overrides, *options),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def run_here(overrides: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """In this process, where another would only import the same again."""
    monkeypatch.chdir(folder)
    return main([*overrides, "--without-ray"])


def start_job(overrides: Sequence[str], folder: Path, *options: str) -> subprocess.Popen[bytes]:
    return start(command(overrides, *options), folder)


def saved_step(runs: Path) -> int:
    """Of the newest checkpoint of the one run there is; 0 without any."""
    folders = list(runs.glob("*/checkpoints"))
    newest = checkpoint.latest(folders[0]) if folders else None
    return int(newest.name.removeprefix("step_")) if newest else 0


def wait_for_checkpoint(runs: Path, job: subprocess.Popen[bytes], after: int) -> None:
    """Until the run has one of a step larger than `after`. Fails when the job ends before."""
    # a look takes some of a core from the job
    wait_for(lambda: saved_step(runs) > after, job, every_s=0.01)


# ---------------------------------------------------------------- its MLflow


def tracked(folder: Path) -> list[Run]:
    """All runs of the store in a folder."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mac_ray")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def wait_for_status(folder: Path, status: str) -> Run:
    """The one run in MLflow, once it has the status; its sender outlives a killed job."""

    def found() -> Run | None:
        # before the sender has made the run, opening the store would mean making its tables beside the sender
        sent = [entry for run in (folder / "runs").glob("*") for entry in progress.load(run).values()]
        runs = tracked(folder) if any(entry.run_id for entry in sent) else []
        return runs[0] if len(runs) == 1 and runs[0].info.status == status else None

    run = wait_for(found, every_s=0.5)
    assert run is not None
    return run
