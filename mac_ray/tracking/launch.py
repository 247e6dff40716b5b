"""The driver's side of the sender: start it, and wait for it a little when the run has ended.

The sender is a process of its own session, not a thread: it costs training no import and no interpreter
lock, and it lives on when the driver is killed, so that it can say so in MLflow.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import mac_ray
from mac_ray.tracking import progress
from mac_ray.tracking.address import ENVIRONMENT_NAME, public, replay_command
from mac_ray.tracking.journal import status_of

LOG_NAME = "sender.log"
POLL_S = 0.2


def start_sender(run_directory: Path, uri: str) -> subprocess.Popen[bytes]:
    """Start the process that feeds MLflow at `uri` (of `resolve_uri`) from the run's journal.

    The journal's last status must be RUNNING: it names the process whose end means a crash.
    A sender that finds another one at work on the run waits for its turn.
    """
    if status_of(run_directory) != "RUNNING":
        raise ValueError(
            f"the journal in {run_directory} does not say RUNNING; append that before the sender starts"
        )
    source = str(Path(mac_ray.__file__).resolve().parents[1])
    search_path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    with (run_directory / LOG_NAME).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mac_ray.tracking", "send", str(run_directory.absolute())],
            env=os.environ | {"PYTHONPATH": search_path, ENVIRONMENT_NAME: uri},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C and a kill of the driver's group do not reach it
        )


def wait(
    process: subprocess.Popen[bytes], run_directory: Path, uri: str, timeout_s: float = 60.0
) -> str | None:
    """After the run's last status: wait until MLflow has everything. None when it does.

    Otherwise, after `timeout_s` or as soon as an attempt made meanwhile has failed, one sentence for the
    user. The sender is left at work and keeps trying for a while.
    """
    begun = time.time()
    while process.poll() is None:
        sent = progress.load(run_directory).get(public(uri), progress.Progress())
        if sent.problem and sent.tried >= begun * 1000:
            return _incomplete(run_directory, uri, sent.problem)
        if time.time() - begun > timeout_s:
            return _incomplete(run_directory, uri, f"not everything was sent within {timeout_s:.0f} s")
        time.sleep(POLL_S)
    if process.returncode == 0:
        return None
    sent = progress.load(run_directory).get(public(uri), progress.Progress())
    log = run_directory / LOG_NAME
    return _incomplete(
        run_directory, uri, sent.problem or f"the sender ended with code {process.returncode}, see {log}"
    )


def _incomplete(run_directory: Path, uri: str, problem: str) -> str:
    return (
        f"MLflow does not have all of this run yet ({problem}); the journal does, and "
        f"`{replay_command(run_directory, uri)}` sends the rest"
    )
