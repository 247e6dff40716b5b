"""One run on one MLflow: found or made by its key, fed, asked for its folder.

Sending anything twice changes nothing, because points carry the journal's time: MLflow's primary key of a
point is (run, metric, step, time, value). MLflow's errors become UnavailableError, worth another try, or
RefusedError, which is not.

A parent and its children may be sent in any order and at once, because either side ties the knot: a child
first names its parent and then looks for it, a parent first is there and then looks for its children. Whoever
comes second finds the other, and nobody has to make a run on another's behalf.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from mac_ray.tracking.address import ENVIRONMENT_NAME, discreet, is_database, public, sqlite_file
from mac_ray.tracking.journal import FETCHED_NAME, PARENT_TAG, Status, Summary
from mac_ray.tracking.process import wait_for_lock

KEY_TAG = "mac_ray.key"
IDENTITY_TAG = "mac_ray.identity"
FOLDER_TAG = "mac_ray.folder"
REASON_TAG = "mac_ray.reason"
# the interface opens an experiment with runs, charts and comparison; untagged, in its view of language models
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

# MLflow's limits: 1000 metrics, 100 parameters or 100 tags a call, and 1 MB. JSON escapes make up to 6
# bytes of a character, hence fewer of the long ones.
METRICS_PER_CALL = 1000
PARAMETERS_PER_CALL, PARAMETER_CHARACTERS = 25, 6000
TAGS_PER_CALL, TAG_CHARACTERS = 20, 8000
RUNS_PER_PAGE = 100  # a server takes 0.01 s for one of a sweep, and 1,000 longer than a request may take

# Other codes may heal, BAD_REQUEST too: it is what a server says whose pool of connections ran dry.
HOPELESS = (
    "CUSTOMER_UNAUTHORIZED",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "UNAUTHENTICATED",
)


UNKNOWN_USER = ("CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED")


class UnavailableError(Exception):
    """MLflow did not take it now; later it may."""


class RunLostError(UnavailableError):
    """MLflow no longer knows the run; opening it again finds or makes it."""


class RefusedError(Exception):
    """MLflow will not take it before a person has mended something."""


class Point(NamedTuple):
    key: str
    value: float
    time: int  # ms since 1970
    step: int


class TrackedRun:
    """A run on the MLflow at `uri`. Every method raises UnavailableError, RunLostError or RefusedError."""

    def __init__(self, uri: str, summary: Summary, folder: Path, run_id: str = "") -> None:
        """Find the run by the id it had there, else by its key, else make it; and note where its folder is now, unless
        that one was fetched from there and has no checkpoints."""
        self._uri = uri
        with explained(uri, "open the run"):
            self._client = client_of(uri)
            if known := self._known_run(summary.key, run_id):  # whatever its experiment is called by now
                self.experiment_id, self.run_id = str(known.info.experiment_id), run_id
            else:
                self.experiment_id = self._experiment(summary.experiment, folder)
                same = self._tagged(KEY_TAG, summary.key)
                self.run_id = str(same[0].info.run_id) if same else self._new_run(summary)
            if not (folder / FETCHED_NAME).exists():
                self._client.set_tag(self.run_id, FOLDER_TAG, str(folder.absolute()))
            for child in self._tagged(PARENT_TAG, summary.key):
                if child.data.tags.get(MLFLOW_PARENT_RUN_ID) != self.run_id:
                    self._put_below(self.run_id, str(child.info.run_id))

    def log(self, parameters: Mapping[str, str], tags: Mapping[str, str], points: Sequence[Point]) -> None:
        with explained(self._uri, "log to the run"):
            params = [Param(key, value[:PARAMETER_CHARACTERS]) for key, value in parameters.items()]
            for start in range(0, len(params), PARAMETERS_PER_CALL):
                self._client.log_batch(self.run_id, params=params[start : start + PARAMETERS_PER_CALL])
            run_tags = [RunTag(key, value[:TAG_CHARACTERS]) for key, value in tags.items()]
            for start in range(0, len(run_tags), TAGS_PER_CALL):
                self._client.log_batch(self.run_id, tags=run_tags[start : start + TAGS_PER_CALL])
            metrics = [Metric(point.key, point.value, point.time, point.step) for point in points]
            for start in range(0, len(metrics), METRICS_PER_CALL):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + METRICS_PER_CALL])
            if PARENT_TAG in tags:
                for parent in self._tagged(KEY_TAG, tags[PARENT_TAG])[:1]:
                    self._put_below(str(parent.info.run_id), self.run_id)

    def _put_below(self, parent: str, child: str) -> None:
        """Done as well where the sender of the other does it in the same moment, and the database refuses one."""
        try:
            self._client.set_tag(child, MLFLOW_PARENT_RUN_ID, parent)
        except MlflowException:
            if self._client.get_run(child).data.tags.get(MLFLOW_PARENT_RUN_ID) != parent:
                raise

    def set_status(self, status: Status, reason: str, time: int) -> None:
        """Set the status as of `time` (ms). RUNNING reopens a run that had ended, and drops its reason."""
        with explained(self._uri, "set the status of the run"):
            if status == "RUNNING":
                if REASON_TAG in self._client.get_run(self.run_id).data.tags:
                    self._client.delete_tag(self.run_id, REASON_TAG)
                self._client.update_run(self.run_id, status=status)
                return
            if reason:
                self._client.set_tag(self.run_id, REASON_TAG, reason[:TAG_CHARACTERS])
            self._client.set_terminated(self.run_id, status, end_time=time)

    def upload(self, file: Path, folder: str) -> None:
        """Upload an artifact. Whatever goes wrong is UnavailableError: it must not hold up anything else."""
        # Artifact stores (S3, GCS, ...) are libraries with errors of their own types; a future carries any.
        with ThreadPoolExecutor(max_workers=1) as thread:
            upload = thread.submit(self._client.log_artifact, self.run_id, str(file), folder or None)
            error = upload.exception()
        if error is not None:
            raise UnavailableError(sentence_of(self._uri, f"upload {file.name} of the run", error)) from error

    def _experiment(self, name: str, folder: Path) -> str:
        """Found or made. Files of a bare database's runs go where all nodes see them: beside an SQLite file, else below
        the runs; a server says itself where."""
        if found := experiment_named(self._client, self._uri, name):
            return str(found.experiment_id)
        location = None
        if is_database(self._uri):  # MLflow would put them under the folder that the sender happens to be in
            file = sqlite_file(self._uri)
            location = str((file or folder.absolute()).parent / "mlartifacts")
        try:
            return str(self._client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment(name, folder)  # another sender was faster

    def _known_run(self, key: str, run_id: str) -> Run | None:
        """The run of this id, if it is there, and of this key: a database made anew may give an id to another."""
        if not run_id:
            return None
        try:
            found: Run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        is_there = found.info.lifecycle_stage == LifecycleStage.ACTIVE and found.data.tags.get(KEY_TAG) == key
        return found if is_there else None

    def _tagged(self, tag: str, value: str) -> list[Run]:
        """All runs of the experiment with this tag, newest first."""
        runs: list[Run] = []
        page: str | None = None
        while page != "":
            found = self._client.search_runs(
                [self.experiment_id], f"tags.`{tag}` = '{value}'", max_results=RUNS_PER_PAGE, page_token=page
            )
            runs += found
            page = found.token or ""
        return runs

    def _new_run(self, summary: Summary) -> str:
        tags = {KEY_TAG: summary.key, IDENTITY_TAG: summary.identity}
        made = self._client.create_run(self.experiment_id, summary.created, tags, summary.name)
        return str(made.info.run_id)


def experiment_named(client: MlflowClient, uri: str, name: str) -> Experiment | None:
    """Raises RefusedError for one that was deleted."""
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise RefusedError(
            f"the experiment {name!r} on {public(uri)} was deleted; restore it with `mlflow experiments restore`, or "
            "give tracking.experiment another name"
        )
    return found


def folder_of(uri: str, run_id: str) -> Path | None:
    """Where the run with this id keeps its files, by its tag; None if it was sent without.

    Raises RunLostError when there is no such run, UnavailableError or RefusedError.
    """
    with explained(uri, f"find run {run_id}"):
        folder = client_of(uri).get_run(run_id).data.tags.get(FOLDER_TAG)
    return Path(folder) if folder else None


@contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """MLflow's errors as UnavailableError, RunLostError or RefusedError."""
    try:
        yield
    except MlflowException as error:
        sentence = sentence_of(uri, doing, error)
        if "Invalid Host header" in str(error):
            sentence += " (start the server with --allowed-hosts naming the host in the URI)"
        if error.error_code in UNKNOWN_USER:
            sentence += f" (let {ENVIRONMENT_NAME} be the full address, with user and password)"
        # or it was deleted by a person while it was sent
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" or "must be in the 'active' state" in str(error):
            raise RunLostError(sentence) from error
        # A database answers INTERNAL_ERROR for what a person must mend, such as an old schema.
        needs_a_person = is_database(uri) and error.error_code == "INTERNAL_ERROR"
        if needs_a_person or error.error_code in HOPELESS:
            raise RefusedError(sentence) from error
        raise UnavailableError(sentence) from error
    except (OperationalError, OSError) as error:
        raise UnavailableError(sentence_of(uri, doing, error)) from error
    except (SQLAlchemyError, ImportError) as error:  # a URI no driver takes, or a driver not installed
        raise RefusedError(sentence_of(uri, doing, error)) from error


def sentence_of(uri: str, doing: str, error: BaseException) -> str:
    first_line = discreet(f"{type(error).__name__}: {error}", uri).splitlines()[0]
    first_line = first_line.replace("<database_uri>", public(uri))  # of `mlflow db upgrade`
    return f"{public(uri)}: cannot {doing}: {first_line[:500]}"


def client_of(uri: str) -> MlflowClient:
    """Raises what `explained` explains."""
    file = sqlite_file(uri)
    if file is None:
        return MlflowClient(tracking_uri=uri)
    # Two processes that make the tables of one new file at a time leave it broken.
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = wait_for_lock(file.with_name(f"{file.name}.lock"))
    try:
        return MlflowClient(tracking_uri=uri)
    finally:
        os.close(lock)
