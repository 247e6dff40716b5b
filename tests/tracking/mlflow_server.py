"""A real MLflow server to kill and restart, and stores and journals read without our own reader."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.jobs import free_port, wait_for

PointSet = list[tuple[str, int, int, float | str]]


class Server:
    """A real `mlflow server` on a loopback port that stays the same when it is started again."""

    def __init__(self, database: str, artifacts: Path, *options: str, **environment: str) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._arguments = [
            "--backend-store-uri",
            database,
            "--artifacts-destination",
            str(artifacts),
            *options,
        ]
        self._folder = artifacts.parent  # where it leaves a file of its own with passwords
        # or it starts eight processes more, for jobs that nobody gives it
        self._environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", *place, *self._arguments, *options]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers, within_s=180)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def the_run(store: str) -> Run:
    """The one run of a store, whatever its experiment."""
    client = MlflowClient(tracking_uri=store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return run


def points_in_store(store: str) -> PointSet:
    client, run = MlflowClient(tracking_uri=store), the_run(store)
    return sorted(
        (point.key, point.step, point.timestamp, "nan" if math.isnan(point.value) else point.value)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )


def points_in_journal(run_directory: Path) -> PointSet:
    records = [json.loads(line) for line in (run_directory / "journal.jsonl").read_text().splitlines()]
    return sorted(
        (key, record["step"], record["time"], value)
        for record in records
        if record["kind"] == "metrics"
        for key, value in record["values"].items()
    )
