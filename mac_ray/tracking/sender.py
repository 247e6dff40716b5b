"""Feeds MLflow from a journal: live beside a run, or afterwards by hand, with the same code.

A run whose process has ended without a last status is FAILED in MLflow once everything it wrote is there;
the journal itself is left as it is, because only the run appends to it. A server that does not answer is
tried again every 1 to 30 s while the run lives, and for a bounded time afterwards; one that refuses is tried again
only where it took what was sent before, and while the run lives.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from mac_ray.errors import in_one_line
from mac_ray.tracking import progress
from mac_ray.tracking.address import ENVIRONMENT_NAME, public, resolve_uri
from mac_ray.tracking.journal import FILE_NAME, JournalError, Record, Summary, read_from, summarize
from mac_ray.tracking.mlflow import (
    METRICS_PER_CALL,
    Point,
    RefusedError,
    RunLostError,
    TrackedRun,
    UnavailableError,
)
from mac_ray.tracking.process import try_lock, wait_for_lock

LOCK_NAME = "sender.lock"
POLL_S = 0.5
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

logger = logging.getLogger(__name__)


@dataclass
class Sent:
    """What one delivery sent, including what MLflow already had and was sent again."""

    points: int = 0
    records: int = 0
    artifacts: int = 0
    status: str = ""

    def __str__(self) -> str:
        if not (self.records or self.artifacts or self.status):
            return "nothing was missing"
        status = f", status {self.status}" if self.status else ""
        return f"{self.records} records with {self.points} points, {self.artifacts} artifacts{status}"


class Delivery:
    """Brings one MLflow up to the end of one journal. The caller holds the run's sender lock."""

    def __init__(self, run_directory: Path, uri: str, *, from_the_start: bool = False) -> None:
        self.run_directory = run_directory
        self.uri = uri
        self.summary = Summary()
        self.progress = progress.load(run_directory).get(public(uri), progress.Progress())
        self._journal = run_directory / FILE_NAME
        # a line may have been sent, and then not have been stored
        if from_the_start or not _begins_a_line(self._journal, self.progress.offset):
            self.progress = replace(self.progress, offset=0, uploads=())
        self.sent = Sent()
        self._read = 0  # bytes of the journal that the summary holds
        self._run: TrackedRun | None = None
        self._read_on()
        self._note("")

    def attempt(self) -> bool:
        """Send what MLflow lacks. Whether the run has ended and MLflow has all of it.

        Raises UnavailableError or RefusedError, after noting why in mlflow.json.
        """
        try:
            # Judged before the rest is read, so that a process found dead has nothing more to say.
            writer = self.summary.writer if self.summary.is_abandoned else None
            self._read_on()
            if not self.summary.key:
                return False
            abandoned = writer is not None and writer == self.summary.writer and self.summary.is_abandoned
            run = self._opened()
            unsent = read_from(self._journal, self.progress.offset)
            for chunk, end in _chunks(takewhile(lambda item: item[1] <= self._read, unsent)):
                self._send(run, chunk, end)
            if writer is not None and abandoned and self.progress.status != "FAILED":
                reason = f"process {writer.pid} on {writer.host} ended without a last word"
                run.set_status("FAILED", reason, self.summary.updated)
                self._keep(status="FAILED")
                self.sent.status = "FAILED"
            self._upload(run)
        except RunLostError as error:
            self._run = None
            self._note(str(error))
            raise
        except (UnavailableError, RefusedError) as error:
            self._note(str(error))
            raise
        if self.progress.problem:
            self._note("")
        return abandoned or self.summary.has_ended

    def run_has_ended(self) -> bool:
        """As far as the journal and the process tell, without asking MLflow."""
        self._read_on()
        return self.summary.has_ended or self.summary.is_abandoned

    def _read_on(self) -> None:
        for record, end in read_from(self._journal, self._read):
            self.summary.add(record)
            self._read = end

    def _opened(self) -> TrackedRun:
        if self._run is None:
            self._run = TrackedRun(self.uri, self.summary, self.run_directory, self.progress.run_id)
            if self._run.run_id != self.progress.run_id:  # new there, or its database was: it gets all
                self._keep(offset=0, status="", uploads=())
            self._keep(run_id=self._run.run_id, experiment_id=self._run.experiment_id)
        return self._run

    def _send(self, run: TrackedRun, chunk: Sequence[Record], end: int) -> None:
        parameters: dict[str, str] = {}
        tags: dict[str, str] = {}
        points: list[Point] = []
        uploads = list(self.progress.uploads)
        status = self.progress.status
        for record in chunk:
            match record["kind"]:
                case "parameters":
                    parameters |= record["values"]
                case "tags":
                    tags |= record["values"]
                case "metrics":
                    points += _points(record)
                case "artifact":
                    uploads.append((record["path"], record["folder"]))
        run.log(parameters, tags, points)
        self._keep(uploads=tuple(dict.fromkeys(uploads)))
        last = chunk[-1]
        if last["kind"] == "status":
            if last["status"] == "FINISHED":
                # others fetch what has finished; where files cannot be sent now, that is told all the same
                with suppress(UnavailableError):
                    self._upload(run)
            status = self.sent.status = last["status"]
            run.set_status(last["status"], last["reason"], last["time"])
        self._keep(offset=end, status=status)
        self.sent.points += len(points)
        self.sent.records += len(chunk)

    def _upload(self, run: TrackedRun) -> None:
        failures = []
        for path, folder in self.progress.uploads:
            try:
                run.upload(self.run_directory / path, folder)
            except UnavailableError as error:
                failures.append(error)  # the others may do
                continue
            self._keep(uploads=tuple(upload for upload in self.progress.uploads if upload != (path, folder)))
            self.sent.artifacts += 1
        if failures:
            raise failures[0]

    def _note(self, problem: str) -> None:
        self._keep(problem=problem, tried=time.time_ns() // 1_000_000)

    def _keep(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)
        progress.save(self.run_directory, self.uri, self.progress)


def send(run_directory: Path, uri: str, patience_s: float) -> bool:
    """Follow the journal until the run has ended; then keep trying for `patience_s`. Whether all was sent.

    Waits for its turn when another sender is at work: that one may be about to leave.
    """
    lock = wait_for_lock(run_directory / LOCK_NAME)
    try:
        return _follow(Delivery(run_directory, uri), patience_s)
    finally:
        os.close(lock)


def _follow(delivery: Delivery, patience_s: float) -> bool:
    command = progress.replay_command(delivery.run_directory, delivery.uri)
    pause_s = SHORTEST_PAUSE_S
    give_up: float | None = None
    began_with, has_succeeded = delivery.summary.writer, False
    while True:
        try:
            if delivery.attempt():
                logger.info("%s has the whole run: %s", public(delivery.uri), delivery.sent)
                return True
            has_succeeded, pause_s = True, SHORTEST_PAUSE_S
            time.sleep(POLL_S)
            continue
        except (RefusedError, UnavailableError) as error:
            problem: Exception = error
        except OSError as error:  # of the small file in the run's folder, on a disk that is full or away
            problem = UnavailableError(f"what is sent cannot be noted ({in_one_line(error)})")
        has_ended = delivery.run_has_ended()
        if delivery.summary.writer != began_with:
            logger.error("%s; whoever resumed the run has started another sender", problem)
            return False
        # a server or a proxy that is being replaced refuses for a while what it took before
        if isinstance(problem, RefusedError) and (has_ended or not has_succeeded):
            logger.error("%s; mend that, then run `%s`", problem, command)
            return False
        if has_ended and give_up is None:
            give_up, pause_s = time.monotonic() + patience_s, SHORTEST_PAUSE_S
        if give_up is not None and time.monotonic() > give_up:
            logger.error("%s; giving up, `%s` sends the rest", problem, command)
            return False
        logger.warning("%s; trying again in %.0f s", problem, pause_s)
        _pause(delivery, pause_s, has_ended)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def replay(run_directory: Path, uri: str, *, from_the_start: bool = False) -> Sent:
    """Send once what the MLflow at `uri` lacks of a run, and return what that was.

    Raises UnavailableError or RefusedError; the latter too while a sender is at work on the run. Raises
    JournalError when the directory holds no run.
    """
    if not (run_directory / FILE_NAME).exists():
        raise JournalError(f"{run_directory} holds no {FILE_NAME}; name the folder of a run")
    if not summarize(run_directory).key:
        raise JournalError(f"the run in {run_directory} has not begun; start it, and it is sent as it goes")
    lock = try_lock(run_directory / LOCK_NAME)
    if lock is None:
        raise RefusedError(
            "a sender is at work on this run; let it send what is missing, or end it with kill -9"
        )
    try:
        delivery = Delivery(run_directory, uri, from_the_start=from_the_start)
        delivery.attempt()
        return delivery.sent
    finally:
        os.close(lock)


def destinations(run_directory: Path, uri: str | None) -> list[str]:
    """The full URIs to replay a run to: the given one, else all it was sent to, else the default.

    One that was stored without its password gets it back from MLFLOW_TRACKING_URI.
    """
    known = [] if uri else list(progress.load(run_directory))
    if not known:
        return [resolve_uri(uri, Path.cwd())]
    full = os.environ.get(ENVIRONMENT_NAME, "").rstrip("/")
    return [full if public(full) == name else name for name in known]


def _begins_a_line(journal: Path, offset: int) -> bool:
    with journal.open("rb") as file:
        file.seek(max(offset - 1, 0))
        return offset == 0 or file.read(1) == b"\n"


def _chunks(records: Iterator[tuple[Record, int]]) -> Iterator[tuple[list[Record], int]]:
    """Groups worth one call each, with the journal offset of their end. A status ends its group."""
    chunk: list[Record] = []
    points = end = 0
    for record, end in records:
        chunk.append(record)
        points += len(record["values"]) if record["kind"] == "metrics" else 0
        if record["kind"] == "status" or points >= METRICS_PER_CALL:
            yield chunk, end
            chunk, points = [], 0
    if chunk:
        yield chunk, end


def _points(record: Record) -> list[Point]:
    return [
        Point(key, float(value), record["time"], record["step"]) for key, value in record["values"].items()
    ]


def _pause(delivery: Delivery, seconds: float, has_ended: bool) -> None:
    """Sleep, but try at once when the run ends meanwhile: its driver is waiting for an answer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and (has_ended or not delivery.run_has_ended()):
        time.sleep(POLL_S)
