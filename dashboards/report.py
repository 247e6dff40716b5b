"""Make the report of a sweep again from what its runs have left by now.

    python dashboards/report.py SWEEP [--runs FOLDER] [--out FOLDER] [--storage URL]

SWEEP is the folder of a sweep, or its name: then the newest of that name below --runs is taken, and the others are
named. The sweep may still be running, and its folder may have been moved, together with those of its runs beside it.
The run of the sweep in MLflow gets the report too, unless --out is given; of one that is running, when it has ended.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from mac_ray.ablation.outcome import TableError
from mac_ray.ablation.parent import attach
from mac_ray.ablation.record import RecordError, SweepRecord, read_record, records_of
from mac_ray.ablation.report import PAGE_NAME, write_report, write_search_report
from mac_ray.ablation.report.search_page import search_verdict
from mac_ray.ablation.search import report_again
from mac_ray.ablation.table import build_table
from mac_ray.ablation.tags import title_of
from mac_ray.ablation.verdict import verdict
from mac_ray.config import ConfigError
from mac_ray.errors import EXIT_BAD_INPUT, in_one_line
from mac_ray.terminal import say
from mac_ray.tracking.address import with_absolute_file
from mac_ray.tracking.journal import JournalError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweep", help="its folder, or its name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where sweeps are looked for (runs)")
    parser.add_argument("--out", type=Path, help="where to write, instead of the sweep's folder")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="of a search: its database with the password, which no file keeps",
    )
    given = parser.parse_args(arguments)
    console = Console()
    try:
        folder, *older = find_sweeps(given.sweep, given.runs)
        record, out = read_record(folder), given.out or folder
        answer, write = report_of(record, folder, given.storage)
    except (ConfigError, JournalError, RecordError, TableError) as error:
        say(console, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except OSError as error:  # as in a folder of somebody else
        said = f"what the report is made of cannot be read ({in_one_line(error)}); see to its permissions"
        say(console, f"error: {said}", "red")
        return EXIT_BAD_INPUT
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = write(out)
    except OSError as error:
        said = f"the report cannot be written ({in_one_line(error)}); give --out, a folder that can be"
        say(console, f"error: {said}", "red")
        return EXIT_BAD_INPUT
    say(console, answer)
    say(console, f"{title_of(record.sweep)}: {out / PAGE_NAME}")
    if out == folder and (missing := attach(folder.absolute(), written, record.context.tracking)):
        say(console, missing, "yellow")
    for other in older:
        with suppress(RecordError):  # of another version
            say(console, f"an older one, {title_of(read_record(other).sweep)}: {other}", "dim")
    return 0


def report_of(
    record: SweepRecord, folder: Path, storage: str | None
) -> tuple[str, Callable[[Path], list[Path]]]:
    """Its verdict, and what writes it into a folder. Raises ConfigError, JournalError, TableError or OSError."""
    sweep, context = record.sweep, record.context
    if search := sweep.search:
        if storage:
            search = search.model_copy(update={"storage": with_absolute_file(storage, Path.cwd())})
        found = report_again(record, search, folder)
        return search_verdict(found)[0], lambda out: write_search_report(out, found)
    if storage:
        raise ConfigError(f"--storage is given, but sweep {sweep.name} is no search; take it out")
    outcomes = record.outcomes()
    table = build_table(sweep, record.rows, outcomes)
    return verdict(table)[0], lambda out: write_report(out, table, sweep, outcomes, context)


def find_sweeps(name: str, runs: Path) -> list[Path]:
    """The folders of sweeps of that name, the newest first. Raises RecordError when there is none."""
    if Path(name).is_dir():
        return [Path(name)]
    records = records_of(name, runs)
    if not records:
        raise RecordError(
            f"there is neither a folder {name} nor a sweep of that name in {runs}; give --runs, the storage.runs "
            "of the sweep"
        )
    return [path.parent for path in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True)]


if __name__ == "__main__":
    sys.exit(main())
