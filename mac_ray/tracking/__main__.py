"""Send a run's journal to MLflow.

python -m mac_ray.tracking replay runs/shapes --uri sqlite:///mlflow.db   what MLflow lacks of a run
python -m mac_ray.tracking reap runs                                      crashed runs become FAILED
python -m mac_ray.tracking send runs/shapes                               follow a run; pretrain starts this
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from mac_ray.tracking import progress
from mac_ray.tracking.address import ENVIRONMENT_NAME, discreet, public, resolve_uri
from mac_ray.tracking.journal import FILE_NAME, summarize

# Nothing calls home, and a server that does not answer costs seconds of one attempt, not four minutes.
# What the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its lines go through our format, which hides passwords
    "OMP_NUM_THREADS": "1",
}
NICENESS = 10


class DiscreetFormatter(logging.Formatter):
    """Leaves the password of a URI out of every line and traceback."""

    def __init__(self, uri: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._uri = uri

    def format(self, record: logging.LogRecord) -> str:
        return discreet(super().format(record), self._uri)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.tracking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("send", "replay", "reap"):
        command = commands.add_parser(name)
        command.add_argument(
            "directory", type=Path, nargs="?" if name == "reap" else None, default=Path("runs")
        )
        command.add_argument("--uri", help=f"MLflow; with a password in it, rather set {ENVIRONMENT_NAME}")
        if name == "send":
            command.add_argument(
                "--patience", type=float, default=600.0, help="seconds to try on after the run"
            )
        if name == "replay":
            command.add_argument(
                "--all", action="store_true", help="from the start, as after the server lost data"
            )
    arguments = parser.parse_args()
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    handler = logging.StreamHandler()
    handler.setFormatter(DiscreetFormatter(arguments.uri or os.environ.get(ENVIRONMENT_NAME, "")))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("mac_ray").setLevel(logging.INFO)
    # an unforeseen error may quote the URI too
    sys.excepthook = lambda kind, error, trace: logging.critical("stopped", exc_info=(kind, error, trace))

    # mlflow reads the environment above while it is imported
    from mac_ray.tracking import sender
    from mac_ray.tracking.mlflow import RefusedError, UnavailableError

    if arguments.command == "send":
        os.nice(NICENESS)
        uri = resolve_uri(arguments.uri, Path.cwd())
        return 0 if sender.send(arguments.directory, uri, arguments.patience) else 1

    failures = 0
    is_reap = arguments.command == "reap"
    for run in _runs_under(arguments.directory) if is_reap else [arguments.directory]:
        try:
            uris = sender.destinations(run, arguments.uri)
            if is_reap and not _is_to_reap(run, arguments.uri):
                continue
        except ValueError as error:
            logging.error("%s: %s", run, error)
            failures += 1
            continue
        for uri in uris:
            try:
                sent = sender.replay(run, uri, from_the_start=not is_reap and arguments.all)
                print(f"{run} -> {public(uri)}: {sent}")
            except (UnavailableError, RefusedError, ValueError) as error:
                logging.error("%s -> %s: %s", run, public(uri), error)
                failures += 1
    return 1 if failures else 0


def _runs_under(directory: Path) -> list[Path]:
    return sorted(journal.parent for journal in directory.rglob(FILE_NAME))


def _is_to_reap(run: Path, uri: str | None) -> bool:
    """Whether the process of a RUNNING run has ended; says so where only another host can tell."""
    summary = summarize(run)
    if summary.status == "RUNNING" and summary.writer and not summary.writer.is_of_this_host():
        print(f"{run}: RUNNING on {summary.writer.host}, and only there can be seen whether it still is")
    return summary.is_abandoned and (uri is not None or bool(progress.load(run)))


if __name__ == "__main__":
    sys.exit(main())
