"""How much of a run's journal each MLflow has, in mlflow.json beside the journal.

One entry per destination, named by its public URI and made before anything is sent. Only the holder of
the sender's lock writes the file; the driver and a person's commands read it without importing mlflow.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mac_ray.tracking.address import ENVIRONMENT_NAME, public
from mac_ray.tracking.journal import FILE_NAME as JOURNAL_NAME

FILE_NAME = "mlflow.json"


@dataclass(frozen=True)
class Progress:
    experiment_id: str = ""
    run_id: str = ""  # empty: the run is not there yet
    offset: int = 0  # bytes of the journal that MLflow has
    status: str = ""  # the last that was set there
    uploads: tuple[tuple[str, str], ...] = ()  # (path, folder) of artifacts passed but not yet uploaded
    problem: str = ""  # why the last attempt failed; empty when it did not
    tried: int = 0  # ms since 1970, of the last attempt


def load(run_directory: Path) -> dict[str, Progress]:
    """Progress by public URI; empty when nothing was ever sent."""
    path = run_directory / FILE_NAME
    if not path.exists():
        return {}
    entries = {uri: Progress(**entry) for uri, entry in json.loads(path.read_text()).items()}
    # JSON turns tuples into lists
    return {
        uri: replace(entry, uploads=tuple((path, folder) for path, folder in entry.uploads))
        for uri, entry in entries.items()
    }


def is_behind(run_directory: Path, uri: str) -> bool:
    """Whether the MLflow at `uri` was sent something of a run, but not everything."""
    sent = load(run_directory).get(public(uri))
    return sent is not None and bool(
        sent.uploads or sent.offset < (run_directory / JOURNAL_NAME).stat().st_size
    )


def save(run_directory: Path, uri: str, progress: Progress) -> None:
    """Replace the entry of a destination, all or nothing."""
    entries = load(run_directory) | {public(uri): progress}
    temporary = run_directory / f"{FILE_NAME}.new"
    with temporary.open("w") as file:
        json.dump({name: asdict(entry) for name, entry in entries.items()}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(run_directory / FILE_NAME)


def replay_command(run_directory: Path, uri: str) -> str:
    """The command that sends what MLflow misses of a run."""
    command = ["python", "-m", "mac_ray.tracking", "replay", str(run_directory.absolute())]
    has_secrets = public(uri) != uri
    # one that the run was sent to before is known, and gets its password from the environment
    if not has_secrets and public(uri) not in load(run_directory):
        command += ["--uri", uri]
    said = shlex.join(command)
    return f"{said}  # with the full address of {public(uri)} in {ENVIRONMENT_NAME}" if has_secrets else said


def how_to_open(uri: str, run_directory: Path | None = None) -> str:
    """Where to look at a run, or at all: an address, after the command that serves it if it needs one."""
    sent = load(run_directory).get(public(uri), Progress()) if run_directory else Progress()
    # without the type of work the interface opens in its view of language models
    page = (
        f"/#/experiments/{sent.experiment_id}/runs/{sent.run_id}?workflowType=machine_learning"
        if sent.run_id
        else ""
    )
    if uri.startswith(("http://", "https://")):
        return public(uri).rstrip("/") + page
    if uri.startswith(("databricks", "uc")):
        return f"the Databricks workspace of {public(uri)}"
    store = shlex.quote(uri) if public(uri) == uri else f'"${ENVIRONMENT_NAME}"'
    return f"mlflow ui --backend-store-uri {store} --port 5000, then http://127.0.0.1:5000{page}"
