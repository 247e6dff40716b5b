from __future__ import annotations

from pathlib import Path

import pytest

from mac_ray.tracking.address import discreet, public, resolve_uri, sqlite_file, with_absolute_file
from mac_ray.tracking.progress import Progress, replay_command, save

HERE = Path("/some/working folder")
SECRET = "postgresql+psycopg2://user:p%40ss@host:5432/mlflow?sslpassword=other"


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, None, "sqlite:////some/working folder/mlflow.db"),
        (None, "http://host:5000", "http://host:5000"),
        ("https://other", "http://host:5000", "https://other"),
        ("sqlite:///sub/my.db", None, "sqlite:////some/working folder/sub/my.db"),
        (None, "sqlite:///my.db", "sqlite:////some/working folder/my.db"),
        ("sqlite:////elsewhere/my.db", None, "sqlite:////elsewhere/my.db"),
        (SECRET, None, SECRET),
        ("databricks", None, "databricks"),
        ("http://host:5000/", None, "http://host:5000"),
        ("sqlite:////exp #3/a@b/my.db?timeout=9", None, "sqlite:////exp #3/a@b/my.db?timeout=9"),
        ("postgresql://host/db?user=me@here", None, "postgresql://host/db?user=me@here"),
        ("SQLite:///my.db", None, "sqlite:////some/working folder/my.db"),
    ],
)
def test_uri_resolved_is_the_first_given_and_absolute(
    given: str | None, environment: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert resolve_uri(given, HERE) == expected


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("mlruns", "is a folder"),
        ("file:///data/mlruns", "is a folder"),
        ("me@here/mlruns", "is a folder"),
        ("sqlite://", "is no file"),
        ("sqlite://mlflow.db", "is no file"),
        ("sqlite://./mlflow.db", "is no file"),
        ("sqlite:/mlflow.db", "is no file"),
        ("sqlite:///:memory:", "is no file"),
        ("htp://host:5000", "unknown scheme 'htp'"),
    ],
)
def test_uri_that_mlflow_does_not_take_is_refused_by_name(uri: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"^tracking\.uri .*{complaint}"):
        resolve_uri(uri, HERE)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://u:ses/ame@h:5432/db",
        "postgresql://u:ses#ame@h/db",
        "postgresql://u:ses?ame@h/db",
        "postgresql://u:ses?a=me@h/db",
        "postgresql://u:ses[ame@h/db",
        "https://u:[sesame]x@h",
    ],
)
def test_password_that_ends_where_it_should_go_on_is_refused_without_being_shown(uri: str) -> None:
    """It would be stored and printed as a part of the path, which SQLAlchemy takes for the password."""
    with pytest.raises(
        ValueError, match=r"^tracking\.uri cannot be told apart .*write each .* %2F"
    ) as refused:
        resolve_uri(uri, HERE)
    assert "ses" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


def test_file_in_a_folder_with_a_hash_is_that_file() -> None:
    assert sqlite_file("sqlite:////home/u/exp #3/mlflow.db") == Path("/home/u/exp #3/mlflow.db")
    uri = resolve_uri(None, Path("/home/u/exp #3"))
    assert sqlite_file(uri) == Path("/home/u/exp #3/mlflow.db")


def test_uri_of_the_environment_is_refused_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI './mlruns' is a folder"):
        resolve_uri(None, HERE)


def test_file_of_a_database_is_the_same_from_every_folder_and_a_server_as_it_is() -> None:
    assert (
        with_absolute_file("sqlite:///studies.db?timeout=9", HERE) == f"sqlite:///{HERE}/studies.db?timeout=9"
    )
    assert with_absolute_file("sqlite:////data/studies.db", HERE) == "sqlite:////data/studies.db"
    assert with_absolute_file("sqlite://", HERE) == "sqlite://"
    assert with_absolute_file(SECRET, HERE) == SECRET


@pytest.mark.parametrize("uri", [SECRET, "https://p@ss:@host", "https://p%40ss@host:5000"])
def test_text_that_quotes_a_uri_is_shown_without_what_may_be_a_secret(uri: str) -> None:
    """Tokens are given as the user, with an empty password or none."""
    shown = discreet(f"request to {uri}/api failed", uri)
    assert not any(part in shown for part in ("p%40ss", "p@ss", "other", "user"))
    assert "***@host" in shown


def test_command_that_sends_the_rest_takes_the_password_of_a_known_server_from_the_environment(
    tmp_path: Path,
) -> None:
    server = "http://host:5000"
    assert replay_command(tmp_path, server).endswith(f"--uri {server}")
    save(tmp_path, server, Progress())
    assert "--uri" not in replay_command(tmp_path, server)


def test_uri_shown_holds_no_credentials() -> None:
    assert public(SECRET) == "postgresql+psycopg2://host:5432/mlflow"
    assert public("http://user:pw@host:5000/path") == "http://host:5000/path"
    command = replay_command(HERE / "run", SECRET)
    assert "MLFLOW_TRACKING_URI" in command
    assert not any(part in command for part in ("user", "p%40ss", "p@ss", "other"))
    with pytest.raises(ValueError, match="unknown scheme") as refused:
        resolve_uri("postgre://user:pw@host/mlflow", HERE)
    assert "pw" not in str(refused.value)
