"""Finished runs of an MLflow, brought back to where their folders are missing.

One look-up answers for all runs of an experiment. What comes back is the journal, with the times it had, and
artifacts: what tables and reports read, but no checkpoints. Sending such a journal again changes nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from mac_ray.tracking import progress
from mac_ray.tracking.address import public
from mac_ray.tracking.journal import FETCHED_NAME, Record, finished_elsewhere, storable
from mac_ray.tracking.mlflow import (
    FOLDER_TAG,
    IDENTITY_TAG,
    KEY_TAG,
    RUNS_PER_PAGE,
    client_of,
    experiment_named,
    explained,
    sentence_of,
)

PAUSE_S = 1.0  # before a file is asked for again
OWN_TAGS = (
    "mlflow.",
    KEY_TAG,
    IDENTITY_TAG,
    FOLDER_TAG,
)  # of MLflow and the sender; the run's name is in its info


class LackingError(Exception):
    """A finished run whose files MLflow does not have, in one sentence."""


@dataclass(frozen=True)
class FinishedRun:
    run_id: str
    folder: str  # where it was trained


def finished_runs(uri: str, experiment: str) -> dict[str, list[FinishedRun]]:
    """By identity, those of one experiment, the newest first. Raises UnavailableError or RefusedError."""
    found: dict[str, list[FinishedRun]] = defaultdict(list)
    with explained(uri, "look for finished runs"):
        client = client_of(uri)
        known = experiment_named(client, uri, experiment)
        page: str | None = None if known else ""
        while known and page != "":
            runs = client.search_runs(
                [known.experiment_id],
                f"attributes.status = 'FINISHED' and tags.`{IDENTITY_TAG}` LIKE '%'",
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=RUNS_PER_PAGE,
                order_by=["attributes.end_time DESC"],
                page_token=page,
            )
            for run in runs:
                tags = run.data.tags
                found[tags[IDENTITY_TAG]].append(FinishedRun(run.info.run_id, tags.get(FOLDER_TAG, "")))
            page = runs.token or ""
    return found


def fetch(
    uri: str,
    run: FinishedRun,
    folder: Path,
    needed: Sequence[Path],
    welcome: Sequence[Path],
    unreadable: Callable[[Path], str],
) -> bool:
    """Bring a run back into `folder`, which may exist; False where it has a journal by now, as of a run under way.

    `needed` and `welcome` are paths of artifacts; `unreadable` says what is wrong with those that came, or nothing.
    Raises LackingError where MLflow does not have what is needed, UnavailableError or RefusedError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".fetching") as name:
        arrived = Path(name)
        _download(uri, run, arrived, needed, welcome)
        if problem := unreadable(arrived):
            raise LackingError(f"{public(uri)}: run {run.run_id}: {problem}")
        paths = sorted(file.relative_to(arrived) for file in arrived.rglob("*") if file.is_file())
        with explained(uri, f"fetch run {run.run_id}"):
            client = client_of(uri)
            known = client.get_run(run.run_id)
            records = _records(client, known, paths)
        # the journal last, because a folder with one is taken for a run
        with finished_elsewhere(folder, records) as size:
            if size is None:
                return False
            for path in paths:
                (folder / path).parent.mkdir(exist_ok=True)
                (arrived / path).replace(folder / path)
            (folder / FETCHED_NAME).write_text(
                f"This folder was fetched from MLflow at {public(uri)}, where run {run.run_id} is finished.\n"
                f"It was trained in {run.folder or 'a folder that MLflow does not name'}.\n"
                "Metrics, scores, ranks and pictures are here, checkpoints are not. Delete this folder to train the "
                "run here.\n"
            )
            sent = progress.Progress(known.info.experiment_id, run.run_id, offset=size, status="FINISHED")
            progress.save(folder, uri, sent)
    return True


def _download(
    uri: str, run: FinishedRun, folder: Path, needed: Sequence[Path], welcome: Sequence[Path]
) -> None:
    with explained(uri, f"fetch files of run {run.run_id}"):
        client = client_of(uri)
    for name in (*needed, *welcome):
        # stores of artifacts have errors of their own types; a future carries any
        with ThreadPoolExecutor(max_workers=1) as thread:
            error = thread.submit(client.download_artifacts, run.run_id, str(name), str(folder)).exception()
            if error is not None and name in needed:  # or it was the store that was away for a moment
                time.sleep(PAUSE_S)
                again = thread.submit(client.download_artifacts, run.run_id, str(name), str(folder))
                error = again.exception()
        if error is not None and name in needed:
            with explained(uri, f"fetch files of run {run.run_id}"):
                client.get_run(run.run_id)  # or it is MLflow that is gone, not the file
            raise LackingError(sentence_of(uri, f"fetch {name} of run {run.run_id}", error)) from error


def _records(client: MlflowClient, run: Run, artifacts: Sequence[Path]) -> list[Record]:
    """What the journal of a run says, from what MLflow was sent of it."""
    info, tags = run.info, run.data.tags
    own = {name: value for name, value in tags.items() if not name.startswith(OWN_TAGS)}
    at_start = {"time": info.start_time}
    records: list[Record] = [
        {
            "kind": "run",
            **at_start,
            "key": tags[KEY_TAG],
            "name": info.run_name,
            "experiment": client.get_experiment(info.experiment_id).name,
            "identity": tags[IDENTITY_TAG],
        },
        {"kind": "parameters", **at_start, "values": dict(run.data.params)},
        {"kind": "tags", **at_start, "values": own},
    ]
    by_step: dict[tuple[int, int], dict[str, float | str]] = defaultdict(dict)
    for key in run.data.metrics:
        for point in client.get_metric_history(info.run_id, key):
            by_step[point.timestamp, point.step][key] = storable(point.value)
    records += [
        {"kind": "metrics", "time": time, "step": step, "values": values}
        for (time, step), values in sorted(by_step.items())
    ]
    at_end = {"time": info.end_time}
    records += [
        {"kind": "artifact", **at_end, "path": path.as_posix(), "folder": path.parent.as_posix().strip(".")}
        for path in artifacts
    ]
    return [*records, {"kind": "status", **at_end, "status": "FINISHED", "reason": ""}]
