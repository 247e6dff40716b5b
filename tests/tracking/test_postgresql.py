"""The sender against a real PostgreSQL, by itself and behind a server with passwords and proxied artifacts."""

from __future__ import annotations

import re
import shlex
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError

import pytest
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient

from mac_ray.tracking.address import public
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.mlflow import RefusedError, UnavailableError
from mac_ray.tracking.sender import replay
from tests.tracking.mlflow_server import Server, points_in_journal, points_in_store, the_run
from tests.tracking.postgresql_server import running_postgresql, what_is_missing

pytestmark = pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
AUTHENTICATION = DASHBOARDS / "mlflow_auth.ini"
DOCUMENTED = (DASHBOARDS / "README.md").read_text()
ADMIN_PASSWORD = "a-long-password"


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    with running_postgresql() as uri:
        MlflowClient(tracking_uri=uri).search_experiments()  # makes the tables
        yield uri


@pytest.fixture
def database(running: str) -> str:
    """The URI of a PostgreSQL without runs."""
    client = MlflowClient(tracking_uri=running)
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            client.delete_run(run.info.run_id)
    return running


def write_a_run(folder: Path, name: str, parent: str = "", experiment: str = "team/masks") -> str:
    """Write the journal of a finished run with an artifact; returns its key."""
    with Journal.open_or_create(folder, name=name, experiment=experiment, identity=name) as journal:
        journal.status("RUNNING")
        journal.parameters({"seed": "0", "note": "ä" * 7000})
        if parent:
            journal.tags({"mac_ray.parent": parent})
        for step in range(20):
            journal.metrics(step, {"loss": 1 / (1 + step), "msrvtt_1ka/t2v/R1": float(step)})
        journal.metrics(20, {"gradient_norm": float("nan")})
        (folder / "scores.json").write_text('{"R1": 19}')
        journal.artifact(folder / "scores.json", "scores")
        journal.status("FINISHED")
        return journal.key


def test_replay_into_postgresql_twice_brings_everything_once_and_files_beside_the_run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # below which MLflow by itself would leave them
    key = write_a_run(tmp_path / "run", "shapes-0", experiment="of its own")
    for from_the_start in (False, False, True):
        replay(tmp_path / "run", database, from_the_start=from_the_start)
        run = the_run(database)
        assert points_in_store(database) == points_in_journal(tmp_path / "run")
        assert run.data.params == {"seed": "0", "note": "ä" * 6000}
        assert (run.data.tags["mac_ray.key"], run.info.status) == (key, "FINISHED")
    progress = (tmp_path / "run" / "mlflow.json").read_text()
    assert public(database) in progress
    assert "cret" not in progress
    kept = tmp_path / "mlartifacts" / run.info.run_id / "artifacts" / "scores" / "scores.json"
    assert kept.read_text() == '{"R1": 19}'


def test_replay_of_a_family_at_once_into_postgresql_makes_one_parent(database: str, tmp_path: Path) -> None:
    parent = write_a_run(tmp_path / "sweep", "sweep")
    names = [f"child {number}" for number in range(4)]
    for name in names:
        write_a_run(tmp_path / name, name, parent)
    with ThreadPoolExecutor(max_workers=5) as threads:
        order = [*names[:2], "sweep", *names[2:]]
        list(threads.map(lambda name: replay(tmp_path / name, database), order))
    client = MlflowClient(tracking_uri=database)
    found = client.search_runs([client.get_experiment_by_name("team/masks").experiment_id])
    by_name = {run.info.run_name: run for run in found}
    assert len(found) == 5
    for name in names:
        assert by_name[name].data.tags["mlflow.parentRunId"] == by_name["sweep"].info.run_id


def test_replay_into_postgresql_with_a_wrong_password_says_so_without_it(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # of attempts, over minutes
    write_a_run(tmp_path / "run", "shapes-0")
    with pytest.raises(UnavailableError, match="password authentication failed") as refused:
        replay(tmp_path / "run", database.replace("se%20cret", "wr0ng%20one"))
    assert "wr0ng" not in str(refused.value)


def documented_options() -> list[str]:
    """Of the server for others, but for where it listens and keeps what it is sent."""
    (line,) = re.findall(
        r"^    mlflow server --host 0\.0\.0\.0 (.*--backend-store-uri .*)$", DOCUMENTED, re.MULTILINE
    )
    options = shlex.split(line)
    return options[: options.index("--backend-store-uri")]


def status_of_search(server: Server, host: str, origin: str) -> int:
    """What a browser gets that calls the server `host` and shows a page of `origin`."""
    asked = urllib.request.Request(
        f"{server.uri}/ajax-api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={
            "Host": host,
            "Origin": origin,
            "Content-Type": "application/json",
            "Authorization": "Basic " + b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode(),
        },
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.fixture(params=["sqlite", "postgresql"])
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """The documented server, which asks for a password, with either database behind it."""
    database = request.getfixturevalue({"sqlite": "store", "postgresql": "database"}[request.param])
    environment = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "5ec4e7",
        "MLFLOW_AUTH_CONFIG_PATH": str(AUTHENTICATION),
    }
    server = Server(database, tmp_path / "kept", *documented_options(), **environment)
    server.uri = server.uri.replace("127.0.0.1", "localhost")  # one of the hosts that are allowed
    server.start()
    yield server
    server.kill()


@pytest.mark.skipif(find_spec("flask_wtf") is None, reason="needs pip install mac-ray[server]")
def test_documented_server_takes_a_run_and_its_artifacts_with_a_password_and_shows_them_under_its_name_alone(
    secured: Server, tmp_path: Path
) -> None:
    write_a_run(tmp_path / "run", "shapes-0", experiment="secured")
    with pytest.raises(RefusedError, match="401") as refused:
        replay(tmp_path / "run", secured.uri.replace("http://", "http://admin:wr0ng@"))
    assert "wr0ng" not in str(refused.value)

    address = secured.uri.replace("http://", f"http://admin:{ADMIN_PASSWORD}@")
    replay(tmp_path / "run", address)
    run = the_run(address)
    assert points_in_store(address) == points_in_journal(tmp_path / "run")
    assert run.info.status == "FINISHED"
    kept = tmp_path / "kept" / run.info.experiment_id / run.info.run_id / "artifacts" / "scores"
    assert (kept / "scores.json").read_text() == '{"R1": 19}'

    get_app_client("basic-auth", address).create_user("ada", "another-password")
    write_a_run(tmp_path / "hers", "shapes-1", experiment="secured")
    replay(tmp_path / "hers", address.replace(f"admin:{ADMIN_PASSWORD}", "ada:another-password"))
    found = MlflowClient(tracking_uri=address).search_runs([run.info.experiment_id])
    assert {one.info.run_name: one.info.status for one in found} == dict.fromkeys(
        ("shapes-0", "shapes-1"), "FINISHED"
    )

    lab, elsewhere = "http://mlflow.lab:5000", "http://elsewhere.lab:5000"
    assert status_of_search(secured, "mlflow.lab:5000", lab) == 200
    assert status_of_search(secured, "mlflow.lab:5000", elsewhere) == 403
    assert status_of_search(secured, "elsewhere.lab:5000", elsewhere) == 403
