"""The driver's side of the sender: start it, wait for it a little when the run has ended, send what it could not.

The sender is a process that belongs to nobody, not a thread and no child: it costs training no import and no
interpreter lock, and it lives on when the driver is killed, so that it can say so in MLflow. Ray ends the children of
its workers, and those of a job that is stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import mac_ray
from mac_ray.tracking import progress
from mac_ray.tracking.address import ENVIRONMENT_NAME, public
from mac_ray.tracking.environment import tame_mlflow
from mac_ray.tracking.journal import PARENT_TAG, status_of, summarize
from mac_ray.tracking.process import Process

LOG_NAME = "sender.log"
WAIT_S = 60.0  # for MLflow, when a run has ended
POLL_S = 0.2
AWAY_AFTER = 3  # runs in a row that could not be sent
# Of sh, which ends and leaves its child to the system: runs what it is given, with $0 as its log, and prints its pid.
# SIGTERM is ignored: a scheduler that ends a job sends it to every process, and this one has yet to tell of the end.
ORPHANED = """trap '' TERM; "$@" >>"$0" 2>&1 </dev/null & echo $!"""


def start_sender(run_directory: Path, uri: str) -> Process:
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
    folder = run_directory.absolute()
    send = [sys.executable, "-m", "mac_ray.tracking", "send", str(folder)]
    shell = subprocess.run(
        ["/bin/sh", "-c", ORPHANED, str(folder / LOG_NAME), *send],
        env=os.environ | {"PYTHONPATH": search_path, ENVIRONMENT_NAME: uri},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C and a kill of the driver's group do not reach it
        check=True,
    )
    return Process.of(int(shell.stdout))


def wait(sender: Process, run_directory: Path, uri: str, timeout_s: float = WAIT_S) -> str | None:
    """After the run's last status: wait until MLflow has everything. None when it does.

    Otherwise one sentence for the user: after `timeout_s`, or as soon as an attempt made meanwhile has failed of a
    sender that never reached MLflow. The sender is left at work and keeps trying for a while.
    """
    begun = time.time()
    while not sender.is_gone():
        sent = progress.load(run_directory).get(public(uri), progress.Progress())
        if sent.problem and not sent.run_id and sent.tried >= begun * 1000:
            return _incomplete(run_directory, uri, sent.problem)
        if time.time() - begun > timeout_s:
            problem = sent.problem or f"not everything was sent within {timeout_s:.0f} s"
            return _incomplete(run_directory, uri, problem)
        time.sleep(POLL_S)
    sent = progress.load(run_directory).get(public(uri), progress.Progress())
    if sent.run_id and not sent.problem and not progress.is_behind(run_directory, uri):
        return None
    return _incomplete(
        run_directory, uri, sent.problem or f"the sender has ended, see {run_directory / LOG_NAME}"
    )


def _is_to_be_sent(folder: Path, uri: str, parent: str) -> bool:
    """A run whose sender this MLflow was too much for; or that has finished and is not there at all, as it was trained
    without tracking, or for another; or that this parent started, and that failed before it was driven."""
    if public(uri) in progress.load(folder):
        return progress.is_behind(folder, uri)
    status = status_of(folder)
    if status == "FAILED":
        return bool(parent) and summarize(folder).tags.get(PARENT_TAG) == parent
    return status == "FINISHED"


def send_rest(folders: Iterable[Path], uri: str | None, parent: str = "") -> str | None:
    """What the MLflow at `uri` lacks of ended runs, as it was away or not asked; a sentence about what it still lacks.

    Of the children of `parent`, also those that ended before they had a sender.

    A run's own sender ends soon after the run, so that nothing is at work on it any more when somebody replays it. A
    server that is away for some runs in a row is not asked for the others: it may take minutes to say nothing.
    """
    if not uri:
        return None
    behind = [folder for folder in dict.fromkeys(folders) if _is_to_be_sent(folder, uri, parent)]
    if not behind:
        return None
    tame_mlflow()
    from mac_ray.tracking.mlflow import RefusedError, UnavailableError
    from mac_ray.tracking.sender import replay

    left: list[tuple[Path, Exception]] = []
    away = 0  # in a row
    for number, folder in enumerate(behind):
        try:
            replay(folder, uri)
            away = 0
        # the others may do; OSError: in a folder of somebody else, who may have sent it
        except (RefusedError, UnavailableError, OSError) as error:
            left.append((folder, error))
            away = away + 1 if isinstance(error, UnavailableError) else 0
            if away == AWAY_AFTER:
                left += [(untried, error) for untried in behind[number + 1 :]]
                break
    if not left:
        return None
    folder, problem = left[0]
    runs, each = ("a run", "") if len(left) == 1 else (f"{len(left)} runs", " for each")
    return (
        f"MLflow does not have all of {runs} ({problem}); their journals do, and the same command, or "
        f"`{progress.replay_command(folder, uri)}`{each}, sends the rest"
    )


def _incomplete(run_directory: Path, uri: str, problem: str) -> str:
    return (
        f"MLflow does not have all of this run yet ({problem}); the journal does, and "
        f"`{progress.replay_command(run_directory, uri)}` sends the rest"
    )
