"""What a sweep consists of, in sweep.json of its folder: enough to make its table and report again from its runs.

Folders of runs are written relative to the sweep's, so both can be moved together.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from mac_ray import files
from mac_ray.ablation.outcome import Outcome, outcome_in
from mac_ray.ablation.plan import Row
from mac_ray.ablation.sweep import Sweep
from mac_ray.passwords import has_passwords, without_passwords
from mac_ray.tracking.address import public, without_password
from mac_ray.tracking.journal import FILE_NAME as JOURNAL_NAME
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.progress import how_to_open
from mac_ray.training.folder import IN_NAME, KnownRuns
from mac_ray.training.start import git_state, machine

FILE_NAME = "sweep.json"


def folder_name(sweep: str, identity: str) -> str:
    return f"sweep-{sweep}-{identity[:IN_NAME]}"


def records_of(sweep: str, runs: Path) -> list[Path]:
    """The files of all that were started of this name, below the folder of runs."""
    return list(runs.glob(f"sweep-{sweep}-{'?' * IN_NAME}/{FILE_NAME}"))


class RecordError(ValueError):
    """A folder that holds no sweep, in one sentence."""


@dataclass(frozen=True)
class Context:
    """Where and how a sweep was run, for whoever reads its report."""

    command: str  # as typed
    facts: Mapping[str, str] = field(default_factory=dict)  # by name: git state, machine, cluster
    tracking: str = ""  # public URI of MLflow; empty without
    how_to_open: str = ""  # MLflow


def context_of(uri: str | None) -> Context:
    """Of this process, which sends runs to the MLflow at `uri`, if to any."""
    facts = git_state() | {"machine": machine(), "python": platform.python_version()}
    command = without_passwords(shlex.join(["python", *sys.argv]))
    return Context(command, facts, public(uri) if uri else "", how_to_open(uri) if uri else "")


@dataclass(frozen=True)
class RecordedRun:
    """One run of a sweep, whether or not it was ever started."""

    row: str  # label
    seed: int
    identity: str
    folder: Path


def outcome_of(run: RecordedRun) -> Outcome:
    """What has become of it in its folder. Raises TableError."""
    return outcome_in(run.folder, run.row, run.seed, run.identity)


@dataclass(frozen=True)
class SweepRecord:
    sweep: Sweep
    rows: list[Row]
    runs: list[RecordedRun]
    context: Context

    def write(self, folder: Path) -> Path:
        """All or nothing, into an existing folder."""
        runs = [
            {**asdict(run), "folder": os.path.relpath(run.folder.absolute(), folder.absolute())}
            for run in self.runs
        ]
        content = {
            "sweep": _public(self.sweep).model_dump(mode="json"),
            "rows": [{"label": row.label, "values": dict(row.values)} for row in self.rows],
            "runs": runs,
            "context": asdict(self.context),
        }
        files.write(folder / FILE_NAME, json.dumps(content, indent=1, ensure_ascii=False))
        return folder / FILE_NAME

    def keep(self, folder: Path, journal: Journal) -> None:
        """Written into the folder, and sent to MLflow unless it has what may be a password, as of where data are."""
        path = self.write(folder)
        if not has_passwords(path.read_text()):
            journal.artifact(path)

    def outcomes(self) -> list[Outcome]:
        """As far as the runs have come by now, also those that somebody else has begun in a folder of another name."""
        known: dict[Path, KnownRuns] = {}

        def where(run: RecordedRun) -> Path:
            if (run.folder / JOURNAL_NAME).exists():
                return run.folder
            below = run.folder.parent
            known.setdefault(below, KnownRuns.below_folder(below))
            return known[below].folders.get(run.identity[:IN_NAME], run.folder)

        return [outcome_of(replace(run, folder=where(run))) for run in self.runs]


def read_record(folder: Path) -> SweepRecord:
    """Raises RecordError when the folder holds no sweep, or one that this version cannot read."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise RecordError(f"{folder} holds no {FILE_NAME}; name the folder of a sweep that was started")
    try:
        content = json.loads(path.read_text())
        return SweepRecord(
            sweep=Sweep.model_validate(content["sweep"]),
            rows=[Row(row["label"], row["values"]) for row in content["rows"]],
            runs=[
                RecordedRun(run["row"], run["seed"], run["identity"], folder.absolute() / run["folder"])
                for run in content["runs"]
            ],
            context=Context(**content["context"]),
        )
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise RecordError(
            f"{path} is no record of a sweep ({type(error).__name__}: {str(error).splitlines()[0]}); start the sweep "
            "again, finished runs are not repeated"
        ) from error


def _public(sweep: Sweep) -> Sweep:
    """As others may read it, who see the folder: the database of a study without its password."""
    if sweep.search is None or sweep.search.storage is None:
        return sweep
    search = sweep.search.model_copy(update={"storage": without_password(sweep.search.storage)})
    return sweep.model_copy(update={"search": search})
