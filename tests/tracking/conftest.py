"""Real MLflow stores and servers for the tracking tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

from mlflow.tracking import MlflowClient

from mac_ray.tracking.journal import Journal
from tests.tracking.mlflow_server import Server


@pytest.fixture(autouse=True)
def _no_uri_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take longer to make than to copy."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> str:
    """The URI of an empty MLflow database, in a folder with a space in its name."""
    folder = tmp_path / "working folder"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def open_journal(tmp_path: Path) -> Callable[[], Journal]:
    """Opens or begins the journal of one and the same run."""

    def opened() -> Journal:
        return Journal.open_or_create(
            tmp_path / "run", name="shapes-0", experiment="team/masks", identity="1d" * 32
        )

    return opened


@pytest.fixture
def server(store: str, tmp_path: Path) -> Iterator[Server]:
    """Not started yet; it keeps its runs in `store`."""
    made = Server(store, tmp_path / "server-artifacts")
    yield made
    made.kill()
