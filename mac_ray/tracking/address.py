"""Where MLflow is: the URI of a run's server or database.

A URI may carry a password, so only `public(uri)` is printed, logged or stored; the full one travels to
the sender in its environment, because the arguments of a process are readable by everyone on the host.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

ENVIRONMENT_NAME = "MLFLOW_TRACKING_URI"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
NO_FILES = ("", ":memory:")  # of SQLite
SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")


def resolve_uri(uri: str | None, working_directory: Path) -> str:
    """The given URI, else MLFLOW_TRACKING_URI, else mlflow.db in the working directory.

    The path of a SQLite file is made absolute, so that processes started elsewhere mean the same file.
    Raises ValueError on a folder, which MLflow no longer writes to, on a scheme MLflow does not know, and on a
    password that could not be told from the rest, and be kept to itself.
    """
    chosen = uri or os.environ.get(ENVIRONMENT_NAME) or "sqlite:///mlflow.db"
    place = "tracking.uri" if uri else ENVIRONMENT_NAME
    if _is_ambiguous(chosen):
        raise ValueError(
            f"{place} cannot be told apart into user, password and host; write each / ? # [ ] @ of the first two as "
            "%2F %3F %23 %5B %5D %40, and an @ in a path as %40"
        )
    scheme = urlsplit(chosen).scheme.partition("+")[0]
    if chosen in SERVERS or scheme in SERVERS:
        return chosen.rstrip("/")  # with one at its end or without, it is one place
    if scheme in ("", "file"):
        raise ValueError(
            f"{place} {chosen!r} is a folder, which MLflow no longer writes to; use "
            "sqlite:///mlflow.db or the http(s) address of a server"
        )
    if scheme in DATABASES:
        file = sqlite_file(chosen)
        if file is not None and file.name in NO_FILES:
            raise ValueError(f"{place} {chosen!r} is no file; use sqlite:///mlflow.db")
        return with_absolute_file(chosen, working_directory)
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    if scheme not in plugins:
        raise ValueError(
            f"{place} {public(chosen)!r} has the unknown scheme {scheme!r}; MLflow takes "
            f"{', '.join((*DATABASES, *SERVERS, *sorted(plugins)))}"
        )
    return chosen


def with_absolute_file(uri: str, working_directory: Path) -> str:
    """The URI of a SQLite file as processes that were started elsewhere mean it; others as they are."""
    file = sqlite_file(uri)
    if file is None or file.name in NO_FILES:
        return uri
    address, mark, query = uri.partition("?")
    absolute = (working_directory / file.expanduser()).absolute()
    return f"{address.partition(':')[0].lower()}:///{absolute}{mark}{query}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite URI, None for other URIs: sqlite:///relative, sqlite:////absolute. A # is part of it; of one
    that names no file it is Path()."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower().partition("+")[0] != "sqlite":
        return None
    path = rest.partition("?")[0]
    return Path(path.removeprefix("///")) if path.startswith("///") else Path()


def _is_ambiguous(uri: str) -> bool:
    """Whether what stands before an @, which databases take for user and password, goes on after the host."""
    if "://" not in uri or uri.startswith("file:") or sqlite_file(uri) is not None:
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:  # a bracket
        return True
    # values of a query may have one, after the path of a database
    query = parts.query.partition("=")[0] if parts.path else parts.query
    return any("@" in part for part in (parts.path, query, parts.fragment))


def is_database(uri: str) -> bool:
    """Whether MLflow opens a database at this URI, rather than asking a server."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def public(uri: str) -> str:
    """The URI without user, password and query: what may be shown, and the name of a destination."""
    parts = urlsplit(uri)
    if sqlite_file(uri) is not None:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_password(url: str) -> str:
    """The URL of a database as it may be kept to open it again, where the password comes from elsewhere."""
    if sqlite_file(url) is not None:
        return url
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    query = [(name, value) for name, value in parse_qsl(parts.query) if "pass" not in name.lower()]
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{place}", query=urlencode(query)))


def discreet(text: str, uri: str) -> str:
    """A text, such as an error that quotes the URI, without the URI's user, password and query."""
    if sqlite_file(uri) is not None:
        return text
    parts = urlsplit(uri)
    user, at, _ = parts.netloc.rpartition("@")
    if at:  # the user may be the secret, as tokens are given
        text = text.replace(f"{user}@", "***@")
    password = (parts.password, unquote(parts.password)) if parts.password else ()
    query = (parts.query,) if parts.query else ()
    for secret in (*password, *query):
        text = text.replace(secret, "***")
    return text
