"""What runs when a sweep's file is run: plan, train what is missing, answer.

    python sweeps/masking_ratio.py [CONFIG.yaml] [section.key=value …] [--dry-run] [--equal samples|flops|seconds]
        [--seeds 0 1 2] [--rows LABEL …] [--trials 60] [--storage URL]

The same command finishes a sweep that was interrupted; what is finished, by this sweep or any other, is not
trained again. The first seed of every row comes first: stopped early, a sweep has few seeds, and not few rows.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from mac_ray.ablation.board import Board
from mac_ray.ablation.budget import Calculator, equalised
from mac_ray.ablation.execute import (
    execute,
    fitting,
    on_ray,
    require_seen,
    say_what_nodes_do_not_share,
    to_jobs,
)
from mac_ray.ablation.forecast import say_forecast
from mac_ray.ablation.locate import Locator, PlannedRun, each_once, require_readable, require_results
from mac_ray.ablation.outcome import TableError, code_of, code_that_began, share_left
from mac_ray.ablation.parent import as_parent, keep_files, reported, say_where, uri_of
from mac_ray.ablation.plan import Row, baseline_of, expand, rows_of, set_by_all
from mac_ray.ablation.record import RecordedRun, SweepRecord, context_of, folder_name, outcome_of
from mac_ray.ablation.reference import published_rows, unmatched
from mac_ray.ablation.report import write_report
from mac_ray.ablation.reuse import Archive
from mac_ray.ablation.script import require_names_once, script
from mac_ray.ablation.search import run_search
from mac_ray.ablation.sweep import Budget, Search, Sweep
from mac_ray.ablation.table import Table, build_table, require_metric
from mac_ray.ablation.tags import add_members, labels_of, tags_of_run, title_of
from mac_ray.ablation.verdict import metric_name, shown, shown_p, signed, verdict
from mac_ray.config import ConfigError
from mac_ray.config.file import parsed_override, path_and_overrides
from mac_ray.console import preparing
from mac_ray.data.manifest import ManifestError
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, RunError
from mac_ray.pretrain import working_directory
from mac_ray.quantity import in_short
from mac_ray.ray_metrics import exported_trials
from mac_ray.terminal import say, say_stopped
from mac_ray.tracking.journal import Journal, JournalError, status_of
from mac_ray.tracking.launch import send_rest
from mac_ray.training.start import git_state

KEY_CHARACTERS = 32  # of an identity, by which the sweep is found in MLflow


def main(sweep: Sweep, arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=sweep.question)
    parser.add_argument("config", nargs="?", help=f"YAML file to start from instead of {sweep.base}")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="of every run, e.g. cluster.gpus_per_worker=1",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs and what they cost, and stop")
    parser.add_argument(
        "--equal", choices=["samples", "flops", "seconds"], help="what every run gets as much of"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the sweep's")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="LABEL",
        help="train these alone; the others stay in the table, for later",
    )
    parser.add_argument("--trials", type=int, help="of a search, in all: more of them continue it")
    parser.add_argument("--storage", metavar="URL", help="of a search: the database to keep its study in")
    given = parser.parse_intermixed_args(arguments)
    console = Console()
    try:
        if own := script():
            require_names_once(own)
        return run_sweep(_as_asked(sweep, given), console, given.rows, dry_run=given.dry_run)
    except (ConfigError, ManifestError, JournalError, TableError) as error:
        say(console, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except RunError as error:
        say(console, f"error: {error}", "red")
        return EXIT_FAILED
    except (OSError, KeyboardInterrupt) as error:
        return say_stopped(error, console)


def run_sweep(
    sweep: Sweep, console: Console, only: Sequence[str] | None = None, dry_run: bool = False
) -> int:
    """`only`: the labels of the rows to train; None for all.

    Raises ConfigError, ManifestError, JournalError or TableError before anything is started, and RunError for what
    keeps runs from being trained, or their steps from being timed.
    """
    if sweep.search is not None:
        if only:
            raise ConfigError(
                f"--rows names {only[0]!r}, but sweep {sweep.name} is a search, which has no rows"
            )
        return run_search(sweep, sweep.search, console, dry_run)
    here = working_directory(console)
    points, rows = expand(sweep), rows_of(sweep)
    asked = _asked_rows(sweep, rows, only)
    require_metric(sweep)
    published_rows(sweep, rows)
    if said := unmatched(sweep, rows):
        say(console, said, "dim")
    uri, experiment = uri_of(points[0].config, here), points[0].config.tracking.experiment
    archive = Archive(uri, experiment, console)
    archive.look_up()  # an MLflow to be mended first is told before steps are timed
    with preparing(console) as progress:
        locator = Locator(Path.cwd(), here, progress)
        locator.require_trainable(points)
        storage = Path(locator.absolute(points[0].config).storage.runs)
        calculator = Calculator(locator, storage / "speeds.json")
        points = equalised(points, baseline_of(sweep, rows), sweep.budget, calculator)
        runs = locator.planned(points)
    require_readable(runs)
    require_results(runs)
    away: set[str] = set()  # identities of what is finished in MLflow alone
    if dry_run:
        away = {run.identity for run in runs if archive.has(run)}
    else:
        archive.bring_back(runs)
    asked_runs = [run for run in runs if run.point.row.label in asked]
    # a row's cost does not depend on its seed
    of_row = {run.point.row.label: run.point.config for run in asked_runs}
    row_flops = {label: calculator.flops(config) for label, config in of_row.items()}
    show_plan(asked_runs, row_flops, calculator.timing(), console, away)
    if dry_run:
        left = (run for run in asked_runs if not is_finished(run) and run.identity not in away)
        to_go = [[run] for run in in_order(each_once(left), sweep)]
        finished = (outcome_of(_recorded(run)) for run in runs if is_finished(run))
        say_forecast(finished, to_go, calculator, console)
        return 0
    locator.require_media(run for run in asked_runs if not is_finished(run))
    for run in asked_runs:
        if not is_finished(run):
            calculator.require_weights(run.point.config)
    identity = identity_of(sweep, runs)
    folder = storage / folder_name(sweep.name, identity)
    asked_runs = locator.claimed(asked_runs)
    where = {run.identity: run.folder for run in asked_runs}
    runs = [replace(run, folder=where.get(run.identity, run.folder)) for run in runs]
    title = title_of(sweep)
    # begun from another folder, or when this one is lost, it is the same study of the same runs
    with Journal.open_or_create(
        folder, name=title, experiment=experiment, identity=identity, key=identity[:KEY_CHARACTERS]
    ) as journal:
        record = SweepRecord(sweep, rows, [_recorded(run) for run in runs], context_of(uri))
        labels = labels_of(record.runs)
        tags = {
            run.identity: tags_of_run(sweep, run.point, labels[run.identity], folder) for run in asked_runs
        }

        def report() -> Table:
            outcomes = record.outcomes()
            table = build_table(sweep, rows, outcomes)
            keep_files(journal, write_report(folder, table, sweep, outcomes, record.context))
            return table

        def work() -> tuple[Table, str]:
            record.keep(folder, journal)
            with reported(report):
                train_missing(asked_runs, tags, row_flops, sweep, folder, uri, console)
            table = report()
            add_members({run.folder: labels[run.identity] for run in runs}, folder)
            # last, as an MLflow that is away is waited for; what others train of the other rows is for them to send
            own = (run.folder for run in runs if run.point.row.label in asked or is_finished(run))
            if missing := send_rest(own, uri, journal.key):
                say(console, missing, "yellow")
            once = each_once(asked_runs)
            failed = sum(not is_finished(run) for run in once)
            return table, f"{failed} of {len(once)} runs failed" if failed else ""

        table = as_parent(record, journal, uri, console, work)
    if table is None:
        return EXIT_INTERRUPTED
    show_results(table, console)
    say_where(folder, uri, console)
    return 0 if all(map(is_finished, asked_runs)) else EXIT_FAILED


def identity_of(sweep: Sweep, runs: Sequence[PlannedRun]) -> str:
    """Neither how the question is put, nor what the base and overrides say of where and how fast to train: the runs
    have what they train."""
    asked = sweep.model_dump(mode="json", exclude={"question", "base", "overrides"})
    return hashlib.sha256(
        json.dumps([asked, [run.identity for run in runs]], sort_keys=True).encode()
    ).hexdigest()


def _asked_rows(sweep: Sweep, rows: Sequence[Row], only: Sequence[str] | None) -> set[str]:
    """Their labels. Raises ConfigError for a label that no row has."""
    labels = [row.label for row in rows]
    for label in only or ():
        if label not in labels:
            raise ConfigError(
                f"--rows names {label!r}, but the rows of sweep {sweep.name} are {', '.join(map(repr, labels))}"
            )
    return set(labels if only is None else only)


def train_missing(
    runs: Sequence[PlannedRun],
    tags: Mapping[str, Mapping[str, str]],
    row_flops: Mapping[str, float],
    sweep: Sweep,
    folder: Path,
    uri: str | None,
    console: Console,
) -> None:
    missing = in_order((run for run in runs if not is_finished(run)), sweep)
    if not missing:
        return
    board = Board(runs, {run.identity: row_flops[run.point.row.label] for run in runs}, sweep, console)
    jobs = to_jobs(missing, tags)
    with on_ray():
        together = fitting([job.config for job in jobs], console)
        require_seen(folder, [job.config for job in jobs])
        say_what_nodes_do_not_share(uri, console)
        board.start()
        try:
            with exported_trials(sweep.name, board.states):
                execute(jobs, folder, uri, together)
        finally:
            board.stop()


def in_order(runs: Iterable[PlannedRun], sweep: Sweep) -> list[PlannedRun]:
    """Of training: all rows of the first seed, then all of the next."""
    return sorted(runs, key=lambda run: sweep.seeds.index(run.point.seed))


def is_finished(run: PlannedRun) -> bool:
    return status_of(run.folder) == "FINISHED"


def _recorded(run: PlannedRun) -> RecordedRun:
    return RecordedRun(run.point.row.label, run.point.seed, run.identity, run.folder)


def show_plan(
    runs: Sequence[PlannedRun],
    row_flops: Mapping[str, float],
    timing: str,
    console: Console,
    away: Container[str] = (),
) -> None:
    """A line per row: which seeds are finished, and what is left of the others costs. `away`: identities of runs that
    are finished, but not in their folders.
    """

    def is_to_go(run: PlannedRun) -> bool:
        return not is_finished(run) and run.identity not in away

    def flops_left(run: PlannedRun) -> float:
        flops = row_flops[run.point.row.label]
        return flops * share_left(run.folder, flops)

    table = RichTable("row", "seeds finished", "to go", "FLOPs a run", "FLOPs to go")
    for label, flops in row_flops.items():
        own = [run for run in runs if run.point.row.label == label]
        left = [run for run in own if is_to_go(run)]
        table.add_row(
            escape(label),
            _seeds(run for run in own if run not in left),
            _seeds(left),
            in_short(flops),
            in_short(sum(flops_left(run) for run in left)),
        )
    console.print(table)
    once = each_once(runs)
    to_go = [flops_left(run) for run in once if is_to_go(run)]
    shared = f" for {len(runs)} places in the table" if len(once) < len(runs) else ""
    say(
        console,
        f"{len(once)} runs{shared}, {len(to_go)} to go with {in_short(sum(to_go))} FLOPs of training",
    )
    if timing:
        say(console, timing)
    if said := _begun_by_other_code(once):
        say(console, said, "yellow")


def _begun_by_other_code(runs: Iterable[PlannedRun]) -> str:
    """A run is known by what it trains, and not by the code that trains it: a fault that was mended since is in it."""
    here = code_of(git_state())
    found = Counter(code for run in runs if status_of(run.folder) and (code := code_that_began(run.folder)))
    others = [f"{name} ({count})" for name, count in found.most_common() if name != here]
    if not here or not others:
        return ""
    return (
        f"this code is {here}, but some of these runs were begun by {', '.join(others)}; if what changed in between "
        "changes training, delete their folders and their runs in MLflow, and they are trained anew"
    )


def _seeds(runs: Iterable[PlannedRun]) -> str:
    return ", ".join(str(run.point.seed) for run in runs)


def show_results(table: Table, console: Console) -> None:
    """The verdict, and a line per row."""
    shown_table = RichTable(
        "row", "seeds", metric_name(table.metric), "against baseline", "p (Holm)", "FLOPs", "seconds"
    )
    for row in table.rows:
        if not row.metrics:
            has_reasons = any(problem.reason for problem in row.problems)
            said = "; ".join(problem.sentence for problem in row.problems) if has_reasons else row.unfinished
            shown_table.add_row(escape(row.label), f"0 of {row.planned}", escape(said))
            continue
        found = row.comparison
        difference = signed(found.difference) if found else ""
        shown_table.add_row(
            escape(row.label),
            f"{len(row.by_seed)} of {row.planned}",
            escape(shown(row.metrics[table.metric])),
            escape(difference),
            shown_p(found.adjusted) if found else "",
            in_short(row.costs["flops"]) if "flops" in row.costs else "",
            f"{row.costs['seconds']:.0f}" if "seconds" in row.costs else "",
        )
    console.print(shown_table)
    for sentence in (*verdict(table), *table.notes):
        say(console, sentence)


def _as_asked(sweep: Sweep, given: argparse.Namespace) -> Sweep:
    """Raises ConfigError."""
    base, overrides = path_and_overrides(given.config, given.overrides)
    changes = dict(map(parsed_override, overrides))
    if lost := sorted(changes.keys() & set_by_all(sweep)):
        raise ConfigError(
            f"{lost[0]}={changes[lost[0]]} reaches no run of sweep {sweep.name}, every row sets its own; take it out"
        )
    asked_of_search = {"trials": given.trials, "storage": given.storage}
    of_search = {name: value for name, value in asked_of_search.items() if value is not None}
    if of_search and sweep.search is None:
        raise ConfigError(
            f"--{next(iter(of_search))} is given, but sweep {sweep.name} is no search; take it out"
        )
    # an amount is one of what it was given for
    same = given.equal in (None, sweep.budget.equal)
    asked = {
        "base": sweep.base if base is None else base,
        "overrides": {**sweep.overrides, **changes},
        "seeds": tuple(given.seeds) if given.seeds else sweep.seeds,
        "budget": sweep.budget if same else Budget(equal=given.equal),
        "search": Search(**(dict(sweep.search) | of_search)) if sweep.search else None,
    }
    return Sweep(**(dict(sweep) | asked))
