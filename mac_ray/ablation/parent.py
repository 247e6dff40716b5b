"""A sweep as a run of its own, under which MLflow shows the runs it trains: tracked from a journal like any other."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from mac_ray.ablation.report import PAGE_NAME
from mac_ray.ablation.sweep import Sweep
from mac_ray.console import say
from mac_ray.errors import RunError, in_one_line
from mac_ray.tracking.address import replay_command
from mac_ray.tracking.environment import tame_mlflow
from mac_ray.tracking.journal import SWEEP_TAG, Journal, Status
from mac_ray.tracking.launch import start_sender, wait
from mac_ray.tracking.progress import how_to_open, is_behind

QUESTION_TAG = "mac_ray.question"
AnswerT = TypeVar("AnswerT")


def as_parent(
    sweep: Sweep, journal: Journal, uri: str | None, console: Console, work: Callable[[], tuple[AnswerT, str]]
) -> AnswerT | None:
    """Do the work of a sweep and track how it ended; its answer, or None when it was interrupted.

    `work` returns the answer and what there is to say of it, such as failures; what it raises is raised. `uri` is
    MLflow's, of resolve_uri, or None without it.
    """
    folder = journal.run_directory
    journal.status("RUNNING")
    journal.tags({SWEEP_TAG: sweep.name, QUESTION_TAG: sweep.question})
    sender = start_sender(folder, uri) if uri else None
    status: Status = "FAILED"
    reason = "the driver was ended"
    answer = None
    try:
        answer, reason = work()
        status = "FINISHED"
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted from the keyboard"
    except RunError as error:
        reason = str(error)
        raise
    except Exception as error:
        reason = in_one_line(error)
        raise
    finally:
        journal.status(status, reason)
    if sender and uri and (missing := wait(sender, folder, uri)):
        sender.terminate()
        say(console, missing)
    if status != "FINISHED":
        say(console, f"sweep {sweep.name} is {status}: {reason}; the same command goes on with it", "red")
    return answer


def say_where(folder: Path, uri: str | None, console: Console) -> None:
    """Where a sweep that has ended is to be seen."""
    say(console, f"report: {folder / PAGE_NAME}")
    if uri:
        say(console, f"in MLflow: {how_to_open(uri, folder)}")


def send_rest(folders: Iterable[Path], uri: str | None, console: Console) -> None:
    """What the MLflow at `uri` missed of ended runs while it was away; says what it still lacks.

    A run's own sender ends with the run, so that nothing is at work on it any more when somebody replays it.
    """
    behind = [folder for folder in dict.fromkeys(folders) if is_behind(folder, uri)] if uri else []
    if not uri or not behind:
        return
    tame_mlflow()
    from mac_ray.tracking.mlflow import RefusedError, UnavailableError
    from mac_ray.tracking.sender import replay

    try:
        for folder in behind:
            replay(folder, uri)
    except (RefusedError, UnavailableError) as error:
        left = sum(is_behind(folder, uri) for folder in behind)
        say(
            console,
            f"MLflow does not have all of {left} runs ({error}); their journals do, and the same "
            f"command, or `{replay_command(folder, uri)}` for each, sends the rest",
            "yellow",
        )
