"""A sweep as a run of its own, under which MLflow shows the runs it trains: tracked from a journal like any other."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from mac_ray.ablation.record import SweepRecord
from mac_ray.ablation.report import PAGE_NAME
from mac_ray.ablation.tags import BASE_TAG, DESCRIPTION_TAG, EQUAL_TAG, QUESTION_TAG, description
from mac_ray.config import Config, ConfigError
from mac_ray.errors import RunError, in_one_line
from mac_ray.interrupts import sigterm_interrupts
from mac_ray.pretrain import tracking_uri
from mac_ray.terminal import say
from mac_ray.tracking.address import ENVIRONMENT_NAME, public, sqlite_file
from mac_ray.tracking.journal import FILE_NAME, SWEEP_TAG, BusyError, Journal, JournalError, Status
from mac_ray.tracking.launch import send_rest, start_sender, wait
from mac_ray.tracking.progress import how_to_open

AnswerT = TypeVar("AnswerT")


def as_parent(
    record: SweepRecord,
    journal: Journal,
    uri: str | None,
    console: Console,
    work: Callable[[], tuple[AnswerT, str]],
) -> AnswerT | None:
    """Do the work of a sweep and track how it ended; its answer, or None when it was interrupted.

    `work` returns the answer and what there is to say of it, such as failures; what it raises is raised. `uri` is
    MLflow's, of resolve_uri, or None without it.
    """
    folder, sweep = journal.run_directory, record.sweep
    journal.status("RUNNING")
    sender = answer = None
    status: Status = "FAILED"
    reason = "the driver was ended"
    try:
        journal.tags(
            {
                SWEEP_TAG: sweep.name,
                QUESTION_TAG: sweep.question,
                BASE_TAG: sweep.base,
                EQUAL_TAG: sweep.budget.equal,
            }
        )
        if journal.tag(DESCRIPTION_TAG) is None:  # once, as people may write theirs over it
            journal.tags({DESCRIPTION_TAG: description(sweep, folder, record.context.command)})
        sender = start_sender(folder, uri) if uri else None
        with sigterm_interrupts():
            answer, reason = work()
        status = "FINISHED"
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted from the keyboard or by SIGTERM"
    except RunError as error:
        reason = str(error)
        raise
    except Exception as error:
        reason = in_one_line(error)
        raise
    finally:
        journal.status(status, reason)
    if sender and uri and (missing := wait(sender, folder, uri)):
        sender.kill()
        say(console, missing)
    if status != "FINISHED":
        say(console, f"sweep {sweep.name} is {status}: {reason}; the same command goes on with it", "red")
    return answer


@contextmanager
def reported(report: Callable[[], object]) -> Iterator[None]:
    """Around training: where it is interrupted or cannot go on, there is a report of what has finished."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        with suppress(Exception):  # why it ended is said next, and no other trouble instead
            report()
        raise


def keep_files(journal: Journal, paths: Iterable[Path]) -> None:
    """Of a report, in the sweep's folder and those below it."""
    for path in paths:
        within = path.absolute().parent.relative_to(journal.run_directory)
        journal.artifact(path, "" if within == Path() else within.as_posix())


def attach(folder: Path, paths: Iterable[Path], tracking: str) -> str | None:
    """Files of a report that was made again to the sweep's run in MLflow, whose public URI is `tracking`; a sentence
    about what could not be sent. While the sweep is under way, its driver does that at the end.
    """
    given = os.environ.get(ENVIRONMENT_NAME, "").rstrip("/")
    uri = given if given and public(given) == tracking else tracking
    file = sqlite_file(uri) if uri else None
    if not uri or (file is not None and not file.is_file()) or not (folder / FILE_NAME).exists():
        return None
    try:
        with Journal(folder) as journal:
            keep_files(journal, paths)
        return send_rest([folder], uri)
    except BusyError:
        return None
    except (JournalError, OSError) as error:  # as in a folder of somebody else
        return f"the report is not attached to the run of the sweep in MLflow ({in_one_line(error)})"


def say_where(folder: Path, uri: str | None, console: Console) -> None:
    """Where a sweep that has ended is to be seen."""
    say(console, f"report: {folder / PAGE_NAME}")
    if uri:
        say(console, f"in MLflow: {how_to_open(uri, folder)}")


def uri_of(config: Config, here: Path) -> str | None:
    """Of the MLflow that a sweep and its runs are sent to; None without.

    Raises ConfigError, also for a password, as a sweep keeps what it was asked for in its folder, and so does Tune.
    """
    given = config.tracking.uri
    if config.tracking.enabled and given is not None and public(given) != given:
        raise ConfigError(
            f"tracking.uri {public(given)!r} was given with what may be a password, and a sweep keeps what it was "
            "asked for in its folder; leave it out, and set MLFLOW_TRACKING_URI instead"
        )
    return tracking_uri(config, here)
