"""What became of the runs of a sweep, read from the folders they left: the one form in which tables see them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mac_ray.tracking.journal import (
    DEVICE_TAG,
    FILE_NAME,
    PRECISION_TAG,
    WORKERS_TAG,
    Status,
    Summary,
    read,
    status_of,
    summarize,
)
from mac_ray.training import checkpoint
from mac_ray.training.folder import RunFolder

COMMIT_LETTERS = 10
COSTS = ("samples", "flops", "seconds", "visible_tokens")


class TableError(ValueError):
    """Runs that cannot stand in one table, in one sentence."""


@dataclass(frozen=True)
class Outcome:
    """One run. What only a finished run has is empty for others."""

    row: str  # label
    seed: int
    identity: str
    folder: Path
    status: Status | None  # None: never started
    reason: str  # why it failed or was stopped
    scored: str  # the set and protocol of the test metrics, such as shapes_one_caption
    coverage: tuple[int, int]  # test samples that were scored, and that there should be
    metrics: dict[str, float]  # of the test split: t2v/R1, …
    intervals: dict[str, tuple[float, float]]  # 95%, over queries
    chance: dict[str, float]
    costs: dict[str, float]  # COSTS, of training
    device: str  # that it was trained on; empty where an older version did not say
    workers: str = ""  # how many trained it, of how many threads; empty where an older version did not say
    precision: str = ""  # that it was trained in; empty where an older version did not say
    code: str = (
        ""  # commit that last changed what trained it, and whether that was changed; empty if not known
    )
    warning: str = ""  # of embeddings that may have collapsed

    @property
    def ranks(self) -> Path:
        """Parquet with the rank of every test query, in the order of the split."""
        return RunFolder(self.folder).ranks

    def history(self, metric: str) -> Iterator[tuple[int, float]]:
        return history(self.folder, metric)


def history(folder: Path, metric: str) -> Iterator[tuple[int, float]]:
    """(step, value) of a tracked metric of a run, such as val/t2v/R1 or cost/flops, in order."""
    for record in read(folder / FILE_NAME):
        if record["kind"] == "metrics" and metric in record["values"]:
            yield record["step"], float(record["values"][metric])


def outcome_in(folder: Path, row: str, seed: int, identity: str) -> Outcome:
    """As far as the run in `folder`, of a row's label and a seed, has come.

    Raises TableError for a finished run whose scores are gone.
    """
    summary = summarize(folder) if (folder / FILE_NAME).exists() else Summary()
    status, reason = summary.status, summary.reason
    if summary.is_abandoned:  # killed, more often than it is retried, it could not say so itself
        status, reason = "FAILED", "the process that trained it was killed"
    scores = _scores(folder) if status == "FINISHED" else {}
    last = {name: value for name, (_, value) in summary.latest.items()}
    return Outcome(
        row=row,
        seed=seed,
        identity=identity,
        folder=folder,
        status=status,
        reason=reason if status in ("FAILED", "KILLED") else "",
        scored=scores.get("scored", ""),
        coverage=tuple(scores.get("coverage", (0, 0))),
        metrics=scores.get("metrics", {}),
        intervals={name: (low, high) for name, (low, high) in scores.get("intervals", {}).items()},
        chance=scores.get("chance", {}),
        costs={name: last[f"cost/{name}"] for name in COSTS if f"cost/{name}" in last},
        device=summary.tags.get(DEVICE_TAG, ""),
        workers=summary.tags.get(WORKERS_TAG, ""),
        precision=summary.tags.get(PRECISION_TAG, ""),
        code=code_of(summary.tags),
        warning=scores.get("warning") or "",
    )


def code_that_began(folder: Path) -> str:
    """The version of the code by which a run was begun; as `code_of`."""
    for record in read(folder / FILE_NAME):
        if record["kind"] == "tags" and "git.commit" in record["values"]:
            return code_of(record["values"])
    return ""


def code_of(tags: Mapping[str, str]) -> str:
    """The version of the code, in short, by the tags of a run or of this process; empty where it could not know."""
    commit = tags.get("git.code", tags.get("git.commit", ""))  # an older version names the commit alone
    if not re.fullmatch(r"[0-9a-f]{7,}", commit):
        return ""
    if "git.changes" in tags:
        changes = tags["git.changes"] and f" with changes {tags['git.changes']}"
    else:  # of an older version, which knows no more
        changes = " with changes" if tags.get("git.dirty") == "true" else ""
    return commit[:COMMIT_LETTERS] + changes


def share_left(folder: Path, flops: float) -> float:
    """Of a planned run of so many FLOPs: it goes on from its last checkpoint, if it has left one."""
    if status_of(folder) == "FINISHED":
        return 0.0
    saved = checkpoint.latest(RunFolder(folder).checkpoints)
    if saved is None:
        return 1.0
    spent = [value for step, value in history(folder, "cost/flops") if step <= checkpoint.step_of(saved)]
    return 1.0 - min(max(spent, default=0.0) / flops, 1.0)


def share_made(summary: Summary, flops: float) -> float:
    """Of a run of so many FLOPs, as far as it has come."""
    if summary.status == "FINISHED":
        return 1.0
    _, spent = summary.latest.get("cost/flops", (0, 0.0))
    return min(float(spent) / flops, 1.0)


def unreadable(folder: Path) -> str:
    """What is wrong with the results of a finished run; empty if nothing is."""
    run = RunFolder(folder)
    try:
        json.loads(run.scores.read_text())
        pq.read_table(run.ranks)
    except (OSError, ValueError) as error:  # ArrowInvalid is one
        return f"its results cannot be read: {' '.join(str(error).split())[:200]}"
    return ""


def _scores(folder: Path) -> dict[str, Any]:
    path = RunFolder(folder).scores
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TableError(
            f"{path} of a finished run cannot be read ({error}); delete the folder {folder}, and the run is "
            "fetched from MLflow, or trained again by a sweep that has it in its table"
        ) from error
    return found
