"""A sweep whose rows Optuna proposes: planned trial by trial, trained on Ray, answered by a front and importances.

The search goes by the val metric of finished runs, so the test metric of what it chooses, the best trial or the
front, is scored on samples that no choice was made on.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from mac_ray.ablation.board import Board
from mac_ray.ablation.budget import Calculator, TooLittleError, equalised
from mac_ray.ablation.execute import fitting, on_ray, require_seen, say_what_nodes_do_not_share
from mac_ray.ablation.findings import ENDED, Chosen, Finding, find, importances, label_of
from mac_ray.ablation.forecast import say_forecast
from mac_ray.ablation.locate import Located, Locator, PlannedRun, require_readable, require_results
from mac_ray.ablation.outcome import Outcome, TableError, outcome_in
from mac_ray.ablation.parent import as_parent, keep_files, reported, say_where, uri_of
from mac_ray.ablation.plan import Point, Row, config_of, run_name, shown
from mac_ray.ablation.proposals import RUNS, Proposal, Proposals, UntrainableError
from mac_ray.ablation.pruning import NEAR, percent_made, rungs_after
from mac_ray.ablation.record import RecordedRun, SweepRecord, context_of, folder_name, outcome_of
from mac_ray.ablation.report import write_search_report
from mac_ray.ablation.report.search_page import SearchReport, search_verdict
from mac_ray.ablation.reuse import Archive, NotGivenError
from mac_ray.ablation.searcher import execute_search
from mac_ray.ablation.space import require_sound, values_of
from mac_ray.ablation.study import (
    begun,
    counted,
    is_over,
    kept_study,
    open_study,
    require_same_storage,
    told_of_storage,
)
from mac_ray.ablation.sweep import Choice, Search, Sweep
from mac_ray.ablation.table import require_metric
from mac_ray.ablation.tags import add_members, labels_of, tags_of_run, title_of
from mac_ray.config import Config, ConfigError
from mac_ray.console import preparing
from mac_ray.data.manifest import ManifestError
from mac_ray.data.sets import Progress
from mac_ray.errors import EXIT_FAILED, EXIT_INTERRUPTED, RunError
from mac_ray.pretrain import working_directory
from mac_ray.quantity import in_short
from mac_ray.ray_metrics import exported_trials
from mac_ray.terminal import say
from mac_ray.tracking.address import with_absolute_file
from mac_ray.tracking.journal import Journal, run_key
from mac_ray.tracking.launch import send_rest
from mac_ray.training.folder import KnownRuns, RunFolder
from mac_ray.training.plan import Leg, legs

TRIAL_TAG = "mac_ray.trial"
SHOWN_TRIALS = 10


@dataclass(frozen=True)
class TrialPlanner:
    """Lays out the runs of a trial, at the budget of the sweep.

    With budget.equal seconds, a kind of step is measured when a trial first has it, beside whatever trains then.
    """

    sweep: Sweep
    locator: Locator
    calculator: Calculator
    archive: Archive

    @classmethod
    def of(cls, sweep: Sweep, below: Path, archive: Archive, progress: Progress) -> "TrialPlanner":
        """For runs below a folder."""
        locator = Locator(Path.cwd(), below, progress)
        storage = Path(locator.absolute(base_point(sweep).config).storage.runs)
        return cls(sweep, locator, Calculator(locator, storage / "speeds.json"), archive)

    def __call__(self, number: int, values: Mapping[str, Any]) -> list[PlannedRun]:
        """One run per seed.

        Raises UntrainableError for values that do not go together, ConfigError or ManifestError for what another trial
        would stumble over as well, and NoRoomToTimeError.
        """
        row = Row(label_of(number, values), values)
        try:
            points = [self.point(row, number, seed) for seed in self.sweep.seeds]
            for point in points:
                self.legs(point.config)
            self.locator.planned(points)
            self.calculator.require_weights(points[0].config)
        except (ConfigError, ManifestError) as error:
            self.require_base()
            raise UntrainableError(str(error)) from error
        base = base_point(self.sweep)
        try:
            points = equalised([base, *points], base.row, self.sweep.budget, self.calculator)[1:]
        except TooLittleError as error:  # of these values: the base was looked at before any trial
            raise UntrainableError(str(error)) from error
        runs = self.locator.planned(points)
        self.bring_back(runs)
        return runs

    def bring_back(self, runs: Sequence[Located]) -> None:
        """From MLflow what it has finished; where it does not give that now, it is trained here."""
        try:
            self.archive.bring_back(runs)
        except NotGivenError as error:
            self.archive.do_without(error)

    def require_base(self) -> None:
        """That what every trial needs is there now, such as data and weights; or no trial is to blame, and none is to
        be spent. Raises ConfigError or ManifestError.
        """
        before = self.locator  # remembers what it has opened
        Locator(before.read_from, before.write_below, before.progress).planned([base_point(self.sweep)])

    def point(self, row: Row, number: int, seed: int) -> Point:
        """Raises ConfigError."""
        config = config_of(self.sweep, row.values, seed)
        return Point(row, seed, config.model_copy(update={"name": name_of_run(self.sweep, number, seed)}))

    def legs(self, config: Config) -> list[Leg]:
        """Raises ConfigError for stages that do not fit their data."""
        return legs(config, self.locator.data(config).train_sizes)


def name_of_run(sweep: Sweep, number: int, seed: int) -> str:
    """Of a trial, by its number: with all the values in it, the name would be cut."""
    return run_name(sweep, Row(f"trial {number}", {}), seed)


def base_point(sweep: Sweep) -> Point:
    """What a trial's budget is measured by."""
    return Point(Row("base", {}), sweep.seeds[0], config_of(sweep, {}, sweep.seeds[0]))


def run_search(sweep: Sweep, search: Search, console: Console, dry_run: bool) -> int:
    """Raises ConfigError, ManifestError or JournalError before anything is started, and RunError for what keeps trials
    from being trained.
    """
    here = working_directory(console)
    if search.storage:  # of a job, the working directory is a copy that changes with the code
        search = search.model_copy(update={"storage": with_absolute_file(search.storage, here)})
        sweep = sweep.model_copy(update={"search": search})
    base = base_point(sweep).config
    require_metric(sweep)
    require_sound(sweep, search)
    _require_two_objectives(sweep, search)
    uri = uri_of(base, here)
    archive = Archive(uri, base.tracking.experiment, console)
    archive.look_up()  # an MLflow to be mended first is told before there is a study
    with preparing(console) as progress:
        planner = TrialPlanner.of(sweep, here, archive, progress)
        locator = planner.locator
        storage = Path(locator.absolute(base).storage.runs)
        scaled = base_point(sweep)
        (run,) = locator.planned([scaled])
        if search.prune:
            _require_looks(sweep, planner, base)
        if sweep.budget.equal != "seconds" or sweep.budget.amount or not dry_run:
            # what keeps steps from being timed here, or the budget from being enough, is told before any trial
            (scaled,) = equalised([scaled], scaled.row, sweep.budget, planner.calculator)
        flops = planner.calculator.flops(scaled.config)
    identity = identity_of(sweep, search, run)
    name = folder_name(sweep.name, identity)
    folder = storage / name
    show_search(sweep, search, flops, console)
    require_same_storage(sweep, search, folder)
    if dry_run:
        kept = kept_study(sweep, search, name, folder)
        ended = counted(kept) if kept else {}
        said = ", ".join(f"{count} {state}" for state, count in ended.items())
        say(console, f"trials so far: {said or 'none'}")
        complete = kept.get_trials(states=(TrialState.COMPLETE,)) if kept else []
        finished = map(outcome_of, runs_of(complete, sweep, search, storage))
        to_go = search.trials - sum(ended.get(state.name, 0) for state in ENDED)
        # in a folder of its own: the base may have been trained, a trial to come has not
        to_come = replace(run, point=scaled, folder=folder / "to_come")
        say_forecast(finished, [[to_come] * len(sweep.seeds)] * to_go, planner.calculator, console)
        return 0
    locator.require_media([run])
    with Journal.open_or_create(
        folder, name=title_of(sweep), experiment=base.tracking.experiment, identity=identity
    ) as journal:
        study = open_study(sweep, search, name, folder, journal.key)
        known = runs_of(begun(study), sweep, search, storage)
        require_readable(known)
        planner.bring_back(known)
        require_results(known)
        record = SweepRecord(sweep, [], [], context_of(uri))  # which rows there are, the study knows

        def report() -> SearchReport:
            found = report_of(record, search, study, folder)
            keep_files(journal, write_search_report(folder, found))
            return found

        def work() -> tuple[SearchReport, str]:
            record.keep(folder, journal)
            if not is_over(study, search):
                with reported(report):
                    train_trials(study, sweep, search, planner, base, folder, uri, console)
                if timing := planner.calculator.timing():
                    say(console, timing)
            found = report()
            # of all trials, also where MLflow was away from an earlier driver
            runs = runs_of(begun(study), sweep, search, storage)
            labels = labels_of(runs)
            add_members({run.folder: labels[run.identity] for run in runs}, folder)
            # last, as one that is away is waited for
            if missing := send_rest((run.folder for run in runs), uri, journal.key):
                say(console, missing, "yellow")
            return found, summary_of(found.findings)

        with told_of_storage(sweep, search):
            answer = as_parent(record, journal, uri, console, work)
    if answer is None:
        return EXIT_INTERRUPTED
    show_findings(answer, console)
    say_where(folder, uri, console)
    return 0 if any(finding.value is not None for finding in answer.findings) else EXIT_FAILED


def report_again(record: SweepRecord, search: Search, folder: Path) -> SearchReport:
    """From what the study and the runs beside the sweep's folder have by now, also while a driver goes on with it.
    `search` is that of the record, with the full address of its storage. Raises ConfigError where there is no study.
    """
    require_same_storage(record.sweep, search, folder)
    study = kept_study(
        record.sweep, search, None if search.storage is None else folder.absolute().name, folder
    )
    if study is None:
        raise ConfigError(f"{folder} has no trial yet to report of; wait for one, or start the search again")
    return report_of(record, search, study, folder)


def report_of(record: SweepRecord, search: Search, study: Study, folder: Path) -> SearchReport:
    """`folder` is the sweep's; the runs lie beside it, wherever both were moved."""
    known = KnownRuns.below_folder(folder.absolute().parent)
    findings = find(study, search)
    chosen = [
        Chosen(finding, outcomes_of(finding, record.sweep, known)) for finding in findings if finding.chosen
    ]
    compared = [outcome for one in chosen for outcome in one.outcomes]
    for finding in findings:
        if finding.value is not None and not finding.chosen:
            with suppress(TableError):  # of results that a report does not need
                compared += outcomes_of(finding, record.sweep, known)
    once = {outcome.identity: outcome for outcome in compared}  # trials may be of one recipe
    return SearchReport(
        record.sweep, findings, chosen, [*once.values()], importances(study, search), record.context
    )


def outcomes_of(finding: Finding, sweep: Sweep, known: KnownRuns) -> list[Outcome]:
    return [
        outcome_in(RunFolder.of(known, sweep.name, identity).path, finding.label, seed, identity)
        for seed, identity in zip(sweep.seeds, finding.identities, strict=False)  # an older study names none
    ]


def train_trials(
    study: Study,
    sweep: Sweep,
    search: Search,
    planner: TrialPlanner,
    base: Config,
    folder: Path,
    uri: str | None,
    console: Console,
) -> None:
    """All there are yet to be.

    Raises KeyboardInterrupt when it was interrupted, which Tune keeps to itself, and RunError where something keeps
    trials from being trained, or their study from being written.
    """
    board = Board([], {}, sweep, console, lambda: proposals.to_come * len(sweep.seeds))

    def plan(number: int, values: Mapping[str, Any]) -> list[PlannedRun]:
        runs = planner.locator.claimed(planner(number, values))
        for run in runs:
            board.add(run, planner.calculator.flops(run.point.config))
        return runs

    parent = run_key(folder)
    proposals = Proposals(study, sweep, search, parent, plan, planner.legs, board.give_up)
    with on_ray():
        together = fitting([base], console)
        require_seen(folder, [base])
        say_what_nodes_do_not_share(uri, console)
        board.start()
        try:
            with exported_trials(sweep.name, board.states), told_of_storage(sweep, search):
                execute_search(
                    proposals, lambda own: tags_of(sweep, own, folder), base, folder, uri, together
                )
        finally:
            board.stop()
    if proposals.stopped:
        raise RunError(f"sweep {sweep.name}: {proposals.stopped}")
    if not is_over(study, search):
        raise KeyboardInterrupt


def runs_of(trials: Iterable[FrozenTrial], sweep: Sweep, search: Search, below: Path) -> list[RecordedRun]:
    """Of those that were drawn to the end, as the study knows them; to plan them anew would read all weights again."""
    known = KnownRuns.below_folder(below)
    return [
        RecordedRun(
            label_of(trial.number, values_of(trial.params, search.space)),
            seed,
            identity,
            RunFolder.of(known, name_of_run(sweep, trial.number, seed), identity).path,
        )
        for trial in trials
        for seed, identity in zip(sweep.seeds, trial.user_attrs.get(RUNS, ()), strict=False)
    ]


def identity_of(sweep: Sweep, search: Search, base: PlannedRun) -> str:
    """Of the study. How many trials it is to have is not part of it, so that more of them continue the same; nor is how
    the question is put, or what the base and overrides say of where and how fast to train: `base` has what they train.
    """
    asked = sweep.model_dump(mode="json", exclude={"question", "base", "overrides"}) | {
        "search": search.model_dump(mode="json", exclude={"trials", "storage"})
    }
    return hashlib.sha256(json.dumps([asked, base.identity], sort_keys=True).encode()).hexdigest()


def tags_of(sweep: Sweep, proposal: Proposal, folder: Path) -> list[dict[str, str]]:
    """Of each run; `folder` is the sweep's, with its journal."""
    return [
        tags_of_run(sweep, run.point, run.point.row.label, folder) | {TRIAL_TAG: str(proposal.number)}
        for run in proposal.runs
    ]


# ---------------------------------------------------------------- what is asked for, checked


def _require_two_objectives(sweep: Sweep, search: Search) -> None:
    if search.sampler == "nsga2" and sweep.budget.equal == "flops":
        raise ConfigError(
            f"sweep {sweep.name}: search.sampler 'nsga2' weighs {sweep.metric} against FLOPs, but budget.equal 'flops' "
            "makes these the same for all; give another budget or another sampler"
        )


def _require_looks(sweep: Sweep, planner: TrialPlanner, base: Config) -> None:
    every, plan = base.evaluation.every_epochs, planner.legs(base)
    total = plan[-1].last
    # of trials of which the last stage shows what the ones before hide, also where it does not of the base
    first = rungs_after(percent_made(plan[-1].first, total))[0]
    if not any(
        leg.is_evaluated(step, every)
        for leg in plan
        for step in range(leg.first + 1, leg.last + 1)
        if step < total and percent_made(step, total) >= first - NEAR
    ):
        raise ConfigError(
            f"sweep {sweep.name}: search.prune goes by val scores between {first}% of a run and its end, but with "
            f"evaluation.every_epochs {every:g} there are none; lower it"
        )


# ---------------------------------------------------------------- shown


def show_search(sweep: Sweep, search: Search, flops: float, console: Console) -> None:
    table = RichTable("knob", "values", "only where")
    for path, knob in search.space.items():
        domain = knob.domain
        if isinstance(domain, Choice):
            values = ", ".join(domain.named)
        else:
            values = f"{domain.low:g} to {domain.high:g}" + (" (log)" if domain.log else "")
        only = f"{knob.only.on} is {' or '.join(map(shown, knob.only.among))}" if knob.only else ""
        table.add_row(escape(path), escape(values), escape(only))
    console.print(table)
    runs = search.trials * len(sweep.seeds)
    say(
        console,
        f"{search.trials} trials of {len(sweep.seeds)} seed{'s' * (len(sweep.seeds) > 1)} by {search.sampler}, {runs} "
        f"runs in all; the base takes {in_short(flops)} FLOPs a run, all of them about {in_short(flops * runs)}",
    )


def summary_of(findings: Sequence[Finding]) -> str:
    """Empty when every trial is complete."""
    states = [finding.state for finding in findings]
    others = {state: states.count(state) for state in dict.fromkeys(states) if state != "COMPLETE"}
    return (
        f"{', '.join(f'{count} {state}' for state, count in others.items())} of {len(states)} trials"
        if others
        else ""
    )


def show_findings(report: SearchReport, console: Console) -> None:
    """The best trials by val; the test metric of the chosen ones alone, or it would be chosen by."""
    sweep, findings, chosen = report.sweep, report.findings, report.chosen
    table = RichTable("trial", f"val/{sweep.metric}", "FLOPs", f"test {sweep.metric}", "95%")
    tested = {one.finding.number: one.tested(sweep.metric) for one in chosen}
    best = [finding for finding in findings if finding.value is not None]
    for finding in [one.finding for one in chosen] + [one for one in best[:SHOWN_TRIALS] if not one.chosen]:
        cells = [escape(f"{finding.number}: {finding.said}")]
        cells += [f"{finding.value:.1f}", in_short(finding.flops)]
        if scored := tested.get(finding.number):
            mean, intervals = scored
            cells += [f"{mean:.1f}", escape(intervals)]
        table.add_row(*cells)
    console.print(table)
    for sentence in search_verdict(report):
        say(console, sentence)
    reasons = dict.fromkeys(finding.reason for finding in findings if finding.state == "FAIL")
    for reason in reasons:
        say(console, f"failed: {reason}", "yellow")
