"""From the id of a run in MLflow to the folder with its checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

from mac_ray.tracking.address import public, resolve_uri, sqlite_file
from mac_ray.tracking.environment import tame_mlflow

RUN_ID = re.compile(r"[0-9a-f]{32}")


class RunNotFoundError(ValueError):
    """No folder for an id, in one sentence: what was asked where, and the remedy."""


def folder_given(run: str, uri: str | None, working_directory: Path) -> Path:
    """What a person means by a run: a folder, or the id of one in MLflow. Raises RunNotFoundError."""
    for path in (Path(run).expanduser(), working_directory / run):
        if path.exists():
            return path
    if RUN_ID.fullmatch(run):
        return folder_of_run(run, uri, working_directory)
    raise RunNotFoundError(
        f"{run} is neither a folder nor the id of a run in MLflow, which has 32 hexadecimal digits; give the folder "
        "of a run, a checkpoint or an export, or such an id"
    )


def folder_of_run(run_id: str, uri: str | None, working_directory: Path) -> Path:
    """The folder on this machine of the run with this id in the MLflow at `uri`, resolved as for training.

    Raises RunNotFoundError.
    """
    try:
        address = resolve_uri(uri, working_directory)
    except ValueError as error:
        raise RunNotFoundError(str(error)) from error
    file = sqlite_file(address)
    if file is not None and not file.is_file():  # asked, MLflow would make one
        raise RunNotFoundError(
            f"there is no MLflow database {file} to look for run {run_id} in; say where MLflow is with --tracking-uri"
        )
    tame_mlflow()
    from mac_ray.tracking.mlflow import RefusedError, RunLostError, UnavailableError, folder_of

    try:
        folder = folder_of(address, run_id)
    except RunLostError as error:
        raise RunNotFoundError(
            f"MLflow at {public(address)} has no run {run_id}; copy the id from the run's page, or say with "
            "--tracking-uri where else to look"
        ) from error
    except (UnavailableError, RefusedError) as error:
        raise RunNotFoundError(str(error)) from error
    if folder is None:
        raise RunNotFoundError(
            f"MLflow at {public(address)} does not say where run {run_id} keeps its checkpoints; give its folder, or "
            "send it once more with `python -m mac_ray.tracking replay FOLDER`"
        )
    if not folder.is_dir():
        raise RunNotFoundError(
            f"run {run_id} has its checkpoints in {folder}, which is not on this machine; give a copy of that folder"
        )
    return folder
