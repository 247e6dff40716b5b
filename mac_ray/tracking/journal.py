"""The journal of a run: every metric, parameter, tag, artifact and status, one fsynced JSON line each.

It is the truth about a run; MLflow is fed from it. Only the process that coordinates the run appends.
What is already there is not written again, so a resumed run that repeats the steps since its checkpoint
leaves one point per metric and step. Imports no mlflow, torch or ray.
"""

from __future__ import annotations

import errno
import json
import math
import os
import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from mac_ray.files import sync_directory
from mac_ray.tracking.process import Process, try_lock

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Record = dict[str, Any]

FILE_NAME = "journal.jsonl"
LOCK_NAME = "journal.lock"
FETCHED_NAME = "FETCHED.md"  # beside a journal that was fetched from MLflow, without the run's checkpoints
# A dead process may hold the journal until Ray has stopped it too, a dead node until NFS lets go of its locks, in 90 s.
PATIENCE_S = 120
KINDS = ("run", "parameters", "tags", "metrics", "artifact", "status")
# What MLflow takes as the name of a metric, a parameter or a tag. A name it refuses would hold up
# everything behind it, so it is refused here, where the line that made it is on the stack.
NAME = re.compile(r"[/\w.\- :]{1,250}")
# Its value is the key of another run of the same experiment, under which MLflow shows this one.
PARENT_TAG = "mac_ray.parent"
# the same of what trains the run now, or trained it last; empty where a person does
DRIVER_TAG = "mac_ray.driver"
SWEEP_TAG = "mac_ray.sweep"  # the name of the sweep a run belongs to
DEVICE_TAG = "device"  # what the first worker trains on; its seconds are only as comparable as this
WORKERS_TAG = "workers"  # how many, and threads of each on CPUs, which decides seconds as well
# of a run that failed: "recipe" where it would fail wherever it is tried, else "machine"
FAULT_TAG = "mac_ray.fault"
PRUNED_TAG = "mac_ray.pruned"  # of a run of a search, "true" where that has stopped it early
PRECISION_TAG = "precision"  # that it computes in, fp32 or bf16, which may be left to the device
LONGEST_STATUS = 16_384  # bytes of the end that are looked at; where they are too few, all of it is read
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class JournalError(ValueError):
    """A journal that cannot be read or must not be written, in one sentence."""


class BusyError(JournalError):
    """Another process writes the journal, or trains the run; that it ends may be waited for."""


@dataclass
class Summary:
    """What a journal says, after the records given to `add`."""

    key: str = ""  # such as a uuid: how the run is found again on any MLflow server
    name: str = ""
    experiment: str = ""
    identity: str = ""  # hash of what is trained
    created: int = 0  # ms since 1970
    updated: int = 0  # ms since 1970, of the last record
    status: Status | None = None
    reason: str = ""
    writer: Process | None = None  # who last said RUNNING
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    steps: dict[str, set[int]] = field(default_factory=dict)  # by metric
    latest: dict[str, tuple[int, float]] = field(default_factory=dict)  # by metric, of the largest step

    def add(self, record: Record) -> None:
        self.updated = record["time"]
        match record["kind"]:
            case "run":
                self.key, self.name = record["key"], record["name"]
                self.experiment, self.identity = record["experiment"], record["identity"]
                self.created = record["time"]
            case "parameters":
                self.parameters.update(record["values"])
            case "tags":
                self.tags.update(record["values"])
            case "metrics":
                step = record["step"]
                for key, value in record["values"].items():
                    self.steps.setdefault(key, set()).add(step)
                    if key not in self.latest or step >= self.latest[key][0]:
                        self.latest[key] = (step, float(value))
            case "status":
                self.status, self.reason = record["status"], record["reason"]
                if self.status == "RUNNING":
                    self.writer = Process(**record["writer"])

    @property
    def has_ended(self) -> bool:
        """The last status is one to end with."""
        return self.status not in (None, "RUNNING")

    @property
    def is_abandoned(self) -> bool:
        """The last status is RUNNING, and the process that said so has ended without another word."""
        return self.status == "RUNNING" and self.writer is not None and self.writer.is_gone()


class Journal:
    """Appends to the journal of one run. One per run at a time, from one thread.

    Opening cuts off a last line that a kill left half written, and reads what is already there.
    Every method raises OSError when the line cannot be stored, after taking back what was written of it.
    """

    def __init__(self, run_directory: Path) -> None:
        """Open the journal of an existing run. Raises JournalError when there is none or it is in use."""
        self.run_directory = run_directory.absolute()
        self.path = self.run_directory / FILE_NAME
        if not self.path.exists():
            raise JournalError(f"{run_directory} holds no {FILE_NAME}; begin one with Journal.open_or_create")
        lock = try_lock(self.run_directory / LOCK_NAME)
        if lock is None:
            writer = summarize(run_directory).writer
            who = f"process {writer.pid} on {writer.host}" if writer else "another process"
            raise BusyError(f"the run in {run_directory} is being written by {who}; let it end, or stop it")
        with ExitStack() as held:
            held.callback(os.close, lock)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND)
            held.callback(os.close, self._descriptor)
            os.ftruncate(self._descriptor, _complete_size(self.path))
            self._known = summarize(run_directory)
            self._held = held.pop_all()

    @classmethod
    def open_or_create(
        cls, run_directory: Path, *, name: str, experiment: str, identity: str, key: str | None = None
    ) -> Journal:
        """Open the run's journal, or begin it; the directory is made when missing. `key` is for what is the same run in
        MLflow also where its directory was lost and is made anew.

        Raises JournalError when the directory holds a run of another identity.
        """
        run_directory.mkdir(parents=True, exist_ok=True)
        (run_directory / FILE_NAME).touch()
        journal = cls(run_directory)
        known = journal._known
        if not known.key:
            sync_directory(run_directory)
            key = key or uuid.uuid4().hex
            journal._append("run", key=key, name=name, experiment=experiment, identity=identity)
        elif known.identity != identity:
            journal.close()
            raise JournalError(
                f"{run_directory} holds run {known.name!r} of identity {known.identity[:12]}, not "
                f"{identity[:12]}; give the changed config another directory"
            )
        return journal

    @property
    def key(self) -> str:
        return self._known.key

    @property
    def parameters_given(self) -> Mapping[str, str]:
        return self._known.parameters

    def tag(self, name: str) -> str | None:
        """The value that holds; None where the tag was never given."""
        return self._known.tags.get(name)

    def has_metric(self, name: str, step: int) -> bool:
        return step in self._known.steps.get(name, ())

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values that this step does not have yet. NaN and infinities are kept."""
        fresh = {
            key: float(value) for key, value in values.items() if step not in self._known.steps.get(key, ())
        }
        for key in fresh:
            _require_name("metric", key)
        if fresh:
            self._append("metrics", step=int(step), values={key: storable(fresh[key]) for key in fresh})

    def parameters(self, values: Mapping[str, str]) -> None:
        """Append parameters. They are set once: ValueError when one is given another value."""
        known = self._known.parameters
        for key, value in values.items():
            _require_name("parameter", key)
            if known.get(key, value) != value:
                raise ValueError(
                    f"parameter {key} of the run in {self.run_directory} is {known[key]!r} and cannot become "
                    f"{value!r}; a run with other parameters is another run"
                )
        self._append_fresh("parameters", values, known)

    def tags(self, values: Mapping[str, str]) -> None:
        """Append tags. The last value given to a tag holds."""
        for key in values:
            _require_name("tag", key)
        self._append_fresh("tags", values, self._known.tags)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file inside the run directory, to be shown by MLflow under `folder`.

        Recording it again after it was rewritten sends it again. ValueError when it lies elsewhere.
        """
        absolute = path.absolute()
        if not absolute.is_relative_to(self.run_directory):
            raise ValueError(
                f"artifact {path} is not inside the run directory {self.run_directory}; write it there"
            )
        if not absolute.is_file():
            raise FileNotFoundError(errno.ENOENT, "an artifact must be an existing file", str(path))
        self._append("artifact", path=absolute.relative_to(self.run_directory).as_posix(), folder=folder)

    def status(self, status: Status, reason: str = "") -> None:
        """Append a status. RUNNING also records this process, whose end without another status is a crash."""
        if status not in get_args(Status):
            raise ValueError(f"status {status!r} is none of {', '.join(get_args(Status))}")
        writer = {"writer": asdict(Process.current())} if status == "RUNNING" else {}
        self._append("status", status=status, reason=reason, **writer)

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append_fresh(
        self, kind: Literal["parameters", "tags"], values: Mapping[str, str], known: Mapping[str, str]
    ) -> None:
        fresh = {key: value for key, value in values.items() if known.get(key) != value}
        if fresh:
            self._append(kind, values=fresh)

    def _append(self, kind: str, **fields: Any) -> None:
        record: Record = {"kind": kind, "time": time.time_ns() // 1_000_000, **fields}
        # a reason may name a file whose name is no text
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)  # or the next line would be glued to half of this one
            if error.errno in NO_ROOM:
                raise OSError(
                    error.errno,
                    f"no room for the journal {self.path} ({error.strerror}); free some space and start "
                    "the run again, it resumes from its last checkpoint",
                ) from error
            raise
        self._known.add(record)


def patiently(opened: Callable[[], Journal]) -> Journal:
    """The journal, once whoever held it has been stopped. Raises BusyError where that takes longer than it may."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return opened()
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@contextmanager
def finished_elsewhere(run_directory: Path, records: Sequence[Record]) -> Iterator[int | None]:
    """The journal of a run that was made elsewhere: within it, nobody can begin one here, and at its end it is there,
    all or nothing. Its size in bytes; None where a journal has been begun, and stays."""
    lock = try_lock(run_directory / LOCK_NAME)
    try:
        path = run_directory / FILE_NAME
        if lock is None or (path.exists() and path.stat().st_size):
            yield None
            return
        temporary = run_directory / f"{FILE_NAME}.new"
        with temporary.open("w") as file:
            file.writelines(
                json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records
            )
            file.flush()
            os.fsync(file.fileno())
        yield temporary.stat().st_size
        temporary.replace(path)
    finally:
        if lock is not None:
            os.close(lock)


def read(path: Path) -> Iterator[Record]:
    """Every record of a journal file. A half-written last line is left out.

    Raises JournalError, with the line's number, on a line that is no record.
    """
    for record, _ in read_from(path, 0):
        yield record


def read_from(path: Path, offset: int) -> Iterator[tuple[Record, int]]:
    """The records from a byte offset on, each with the offset of its end. Otherwise as `read`."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield _parsed(line, path, offset), offset + len(line)
            offset += len(line)


def summarize(run_directory: Path) -> Summary:
    """What the journal of a run says. Raises FileNotFoundError when there is none."""
    summary = Summary()
    for record in read(run_directory / FILE_NAME):
        summary.add(record)
    return summary


def status_of(run_directory: Path) -> Status | None:
    """The last status in the journal; None when there is no journal, or no status in it.

    Of a run that has ended, only the last lines are read: how it ended, and what it was tagged with since.
    """
    path = run_directory / FILE_NAME
    if not path.exists():
        return None
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - LONGEST_STATUS)
        file.seek(start)
        end = file.read()
    while end.endswith(b"\n"):
        before, _, line = end.removesuffix(b"\n").rpartition(b"\n")
        if not before and start:  # the line may have begun before
            break
        last = _parsed(line, path, start + len(end) - len(line) - 1)
        if last["kind"] == "status":
            status: Status = last["status"]
            return status
        if last["kind"] != "tags":
            break
        end = end[: len(end) - len(line) - 1]
    return summarize(run_directory).status


def run_key(run_directory: Path) -> str:
    """The key by which the run is found on any MLflow server: its tag `mac_ray.key`."""
    return summarize(run_directory).key


def points(run_directory: Path, prefix: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) in order of the steps, of every metric whose name starts with `prefix`."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in read(run_directory / FILE_NAME):
        if record["kind"] == "metrics":
            for key, value in record["values"].items():
                if key.startswith(prefix):
                    found.setdefault(key, []).append((record["step"], float(value)))
    return {key: sorted(values) for key, values in found.items()}


def _parsed(line: bytes, path: Path, offset: int) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("kind") not in KINDS:
        with path.open("rb") as file:
            number = file.read(offset).count(b"\n") + 1
        raise JournalError(f"{path}, line {number} is no record of a journal; restore the file from a copy")
    return record


def _complete_size(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1


def storable(value: float) -> float | str:
    """A value of a metric as a record holds it."""
    # JSON has no NaN and no infinities; float() reads these strings back
    return value if math.isfinite(value) else str(value)


def _require_name(what: str, key: str) -> None:
    if not NAME.fullmatch(key) or posixpath.normpath(key) != key or key == "." or key.startswith(("/", "..")):
        raise ValueError(
            f"{what} name {key!r} is refused by MLflow; use up to 250 letters, digits, spaces and _ - . : "
            "with single slashes between the parts"
        )
