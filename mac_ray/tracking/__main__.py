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

from mac_ray.errors import told
from mac_ray.tracking import progress
from mac_ray.tracking.address import ENVIRONMENT_NAME, discreet, public, resolve_uri
from mac_ray.tracking.environment import tame_mlflow
from mac_ray.tracking.journal import FILE_NAME, JournalError, summarize

NICENESS = 10


class DiscreetFormatter(logging.Formatter):
    """Leaves the password of a URI out of every line and traceback."""

    def __init__(self, uri: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._uri = uri

    def format(self, record: logging.LogRecord) -> str:
        return discreet(super().format(record), self._uri)


def main() -> int:
    arguments = _parser().parse_args()
    tame_mlflow()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    handler = logging.StreamHandler()
    handler.setFormatter(DiscreetFormatter(arguments.uri or os.environ.get(ENVIRONMENT_NAME, "")))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("mac_ray").setLevel(logging.INFO)
    # an unforeseen error may quote the URI too
    sys.excepthook = lambda kind, error, trace: logging.critical("stopped", exc_info=(kind, error, trace))
    done: bool = arguments.run(arguments)
    return 0 if done else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.tracking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    send = commands.add_parser("send", help="follow a run until it ends")
    send.add_argument("directory", type=Path)
    send.add_argument("--patience", type=float, default=600.0, help="seconds to try on after the run")
    send.set_defaults(run=_send)
    replay = commands.add_parser("replay", help="send what MLflow lacks of a run")
    replay.add_argument("directory", type=Path)
    replay.add_argument("--all", action="store_true", help="from the start, as after the server lost data")
    replay.set_defaults(run=_replay)
    reap = commands.add_parser("reap", help="mark crashed runs as FAILED")
    reap.add_argument("directory", type=Path, nargs="?", default=Path("runs"))
    reap.set_defaults(run=_reap)
    for command in (send, replay, reap):
        command.add_argument("--uri", help=f"MLflow; with a password in it, rather set {ENVIRONMENT_NAME}")
    return parser


# sender is imported only here, because mlflow reads the environment set above while it is imported


def _send(arguments: argparse.Namespace) -> bool:
    from mac_ray.tracking import sender

    os.nice(NICENESS)
    return sender.send(arguments.directory, resolve_uri(arguments.uri, Path.cwd()), arguments.patience)


def _replay(arguments: argparse.Namespace) -> bool:
    return _replay_run(arguments.directory, arguments.uri, from_the_start=arguments.all)


def _reap(arguments: argparse.Namespace) -> bool:
    if not arguments.directory.is_dir():
        logging.error("there is no folder %s; name one that has runs below it", arguments.directory)
        return False
    results = []
    for run in sorted(journal.parent for journal in arguments.directory.rglob(FILE_NAME)):
        try:
            is_abandoned = _is_abandoned(run)
        except (JournalError, OSError) as error:  # the others may do
            logging.error("%s: %s", run, told(error))
            results.append(False)
            continue
        if is_abandoned and (arguments.uri or progress.load(run)):  # else it was never tracked
            results.append(_replay_run(run, arguments.uri, from_the_start=False))
    return all(results)


def _is_abandoned(run: Path) -> bool:
    """Whether the process of a RUNNING run has ended; says so where only another host can tell."""
    summary = summarize(run)
    if summary.status == "RUNNING" and summary.writer and not summary.writer.is_of_this_host():
        print(f"{run}: RUNNING on {summary.writer.host}, and only there can be seen whether it still is")
    return summary.is_abandoned


def _replay_run(run: Path, given_uri: str | None, *, from_the_start: bool) -> bool:
    """Replay to every MLflow of the run, and say what was sent or why not. Whether all have it."""
    from mac_ray.tracking import sender
    from mac_ray.tracking.mlflow import RefusedError, UnavailableError

    try:
        uris = sender.destinations(run, given_uri)
    except (ValueError, OSError) as error:
        logging.error("%s: %s", run, told(error))
        return False
    failures = 0
    for uri in uris:
        try:
            sent = sender.replay(run, uri, from_the_start=from_the_start)
            print(f"{run} -> {public(uri)}: {sent}")
        except (UnavailableError, RefusedError, JournalError, OSError) as error:
            logging.error("%s -> %s", run, told(error))
            failures += 1
    return failures == 0


if __name__ == "__main__":
    sys.exit(main())
