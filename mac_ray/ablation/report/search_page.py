"""The page of a search: what it chose, with the command for it, charts, and every trial with why it ended early."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mac_ray.ablation.findings import Chosen, Finding
from mac_ray.ablation.notes import on_scores, on_training, trials_budget
from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.plan import short_names, shown, written
from mac_ray.ablation.record import Context
from mac_ray.ablation.report.document import made, pictured, report_page
from mac_ray.ablation.report.markup import folder_of, linked, opening
from mac_ray.ablation.report.search_charts import search_charts
from mac_ray.ablation.report.typeset import write_typeset
from mac_ray.ablation.sweep import Sweep
from mac_ray.ablation.verdict import metric_name
from mac_ray.page.document import charts_section, section
from mac_ray.page.markup import NOTHING, Cell, Heading, breakable, large, number, sortable, text
from mac_ray.page.palette import IN_PAGE
from mac_ray.passwords import without_passwords_in
from mac_ray.quantity import in_short

WRAPPED = r"p{0.5\linewidth}"  # of LaTeX: a recipe is a long line
STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}


@dataclass(frozen=True)
class SearchReport:
    sweep: Sweep
    findings: Sequence[Finding]  # the best first
    chosen: Sequence[Chosen]
    compared: Sequence[Outcome]  # the runs of complete trials, as far as they are there
    importances: Mapping[str, float]  # by dotted path; empty while there are too few trials
    context: Context


def search_verdict(report: SearchReport) -> list[str]:
    """Sentences; the first is the answer."""
    return [
        _answer(report.chosen, report.sweep),
        *_how_sure(report.findings, report.chosen, report.sweep),
        *_scored(report.chosen),
        *on_training(report.compared),
        *trials_budget(report.sweep, report.compared),
        *_ended(report.findings, report.sweep),
    ]


def write_chosen(folder: Path, report: SearchReport) -> list[Path]:
    """chosen.md and .tex into an existing folder."""
    metric = report.sweep.metric
    header = ["trial", f"validation {metric_name(metric)}", f"test {metric_name(metric)} [95%]", "FLOPs"]
    lines = []
    for one in report.chosen:
        tested = "{:.1f} {}".format(*scored) if (scored := one.tested(metric)) else ""
        found = one.finding
        lines.append([f"{found.number}: {found.said}", f"{found.value:.1f}", tested, in_short(found.flops)])
    return write_typeset(folder, "chosen", header, lines, search_verdict(report), first=WRAPPED)


def search_page(report: SearchReport) -> str:
    sweep, findings = report.sweep, report.findings
    drawn = search_charts(findings, report.importances, sweep, IN_PAGE)
    outcomes = [outcome for one in report.chosen for outcome in one.outcomes]
    rows = [one.finding.label for one in report.chosen]
    sections = [
        section("Chosen", _chosen(report)) if report.chosen else "",
        charts_section(drawn),
        section("Trials", _trials(findings, sweep)) if findings else "",
        *pictured(outcomes, rows, [*rows[:1], *rows[-1:]]),  # the best, and of several the cheapest
        made(
            sweep,
            outcomes,
            report.context,
            _space(sweep),
            "What is searched",
        ),
    ]
    return report_page(sweep, search_verdict(report), sections, drawn)


# ---------------------------------------------------------------- in words


def _space(sweep: Sweep) -> dict[str, str]:
    """By knob, where it may stand and when it is asked for."""
    knobs = sweep.search.space if sweep.search else {}
    return {
        path: written(without_passwords_in(knob.model_dump(mode="json", exclude_defaults=True)))
        for path, knob in knobs.items()
    }


def _answer(chosen: Sequence[Chosen], sweep: Sweep) -> str:
    if not chosen:
        return "No trial is complete, so there is nothing to choose yet."
    name = f"validation {metric_name(sweep.metric)}"
    if len(chosen) == 1:
        (one,) = chosen
        return f"Trial {one.finding.number} has the best {name}, {one.finding.value:.1f}: {one.finding.said}."
    cheap, *_, dear = sorted(chosen, key=lambda one: one.finding.flops)
    return (
        f"{len(chosen)} trials trade {name} against cost: from {cheap.finding.value:.1f} for "
        f"{in_short(cheap.finding.flops)} FLOPs (trial {cheap.finding.number}) to {dear.finding.value:.1f} for "
        f"{in_short(dear.finding.flops)} FLOPs (trial {dear.finding.number})."
    )


def _how_sure(findings: Sequence[Finding], chosen: Sequence[Chosen], sweep: Sweep) -> Iterator[str]:
    if not chosen:
        return
    complete = [finding for finding in findings if finding.value is not None]
    recipes = {finding.identities or finding.number for finding in complete}
    for one in chosen[:1] if len(chosen) == 1 else ():
        if (scored := one.tested(sweep.metric)) is not None:
            mean, intervals = scored
            yield f"On the test split, where nothing was chosen, it has {mean:.1f}, with 95% over queries {intervals}."
    first = chosen[0].finding
    ties = sum(
        finding.value == first.value and finding.identities != first.identities for finding in complete
    )
    if len(chosen) == 1 and ties:
        which = "cheapest" if sweep.search and sweep.search.sampler == "nsga2" else "first"
        others = "1 other trial has" if ties == 1 else f"{ties} other trials have"
        yield f"{others} the same value; it is the {which} of them."
    if len(recipes) < len(complete):
        yield f"The {len(complete)} complete trials are of {len(recipes)} recipes: some were drawn more than once."
    if len(recipes) > 1:
        yield (
            f"The best of {len(recipes)} by validation is lucky as well as good; what it is worth, the test split says."
        )
    if len(sweep.seeds) == 1:
        yield "Every trial has one seed, so nothing is known of how much another seed would change."


def _scored(chosen: Sequence[Chosen]) -> Iterator[str]:
    """On what the test split's numbers are."""
    done = [outcome for one in chosen for outcome in one.outcomes if outcome.metrics]
    for scored, expected in dict.fromkeys((outcome.scored, outcome.coverage[1]) for outcome in done):
        yield f"Test scores are of {scored}, {expected:,} samples."
    yield from on_scores(done, "chosen runs")


def _ended(findings: Sequence[Finding], sweep: Sweep) -> Iterator[str]:
    assert sweep.search is not None
    if len(findings) < sweep.search.trials:
        yield f"So far, {len(findings)} of {sweep.search.trials} trials have ended."
    states = Counter(finding.state for finding in findings)
    if set(states) - {"COMPLETE"}:
        counts = ", ".join(f"{states[state]} {words}" for state, words in STATES.items() if states[state])
        yield f"Of {len(findings)} trials: {counts}."


# ---------------------------------------------------------------- tables


def _chosen(report: SearchReport) -> str:
    metric = metric_name(report.sweep.metric)
    headings = [
        Heading("trial", numeric=False),
        Heading(f"validation {metric}", meaning="mean over seeds; what the search went by"),
        Heading(f"test {metric} [95%]", meaning="mean over seeds; an interval over queries for each seed"),
        Heading("FLOPs", meaning="of training a run"),
        Heading("with", numeric=False),
    ]
    lines = [
        [
            Cell(str(one.finding.number), one.finding.number),
            number(one.finding.value, ".1f"),
            _tested(one, report.sweep.metric),
            large(one.finding.flops),
            Cell(breakable(one.finding.said), one.finding.said, "text"),
        ]
        for one in report.chosen
    ]
    commands = "".join(
        f"<h3>Trial {one.finding.number}</h3>\n{_runs(one, report.context)}<pre>{text(one.finding.command)}</pre>\n"
        for one in report.chosen
        if one.finding.command  # which an older study has not
    )
    seed = report.sweep.seeds[0]
    said = f'<p class="dim">To train one by itself, here with seed {seed}; the run of the search is found again.</p>'
    return f"{sortable('Chosen', headings, lines)}{opening(report.context)}{said}\n{commands}"


def _runs(one: Chosen, context: Context) -> str:
    """The way to the run of each seed."""
    ways = (
        f"{linked(f'seed {outcome.seed}', outcome.folder, context)} {folder_of(outcome)}"
        for outcome in one.outcomes
    )
    return f"<p>{', '.join(ways)}</p>\n"


def _tested(one: Chosen, metric: str) -> Cell:
    scored = one.tested(metric)
    if scored is None:
        return NOTHING
    mean, intervals = scored
    return Cell(f'{mean:.1f}<span class="range">{intervals}</span>', mean)


def _trials(findings: Sequence[Finding], sweep: Sweep) -> str:
    """A column per knob; empty where the knob does not exist for a trial."""
    short = short_names(path for finding in findings for path in finding.values)
    headings = [
        Heading("trial"),
        Heading("state", numeric=False),
        Heading(f"validation {metric_name(sweep.metric)}"),
        Heading("FLOPs", meaning="of training a run"),
        *(Heading(name, numeric=_is_numeric(findings, path), meaning=path) for path, name in short.items()),
        Heading("reason", numeric=False),
    ]
    return sortable("Trials", headings, [_trial(finding, list(short)) for finding in findings])


def _trial(finding: Finding, knobs: Sequence[str]) -> list[Cell]:
    tag = '<span class="tag">chosen</span>' if finding.chosen else ""
    state = STATES[finding.state]
    return [
        Cell(f"{finding.number}{tag}", finding.number),
        Cell(state, state, "failed" if finding.state == "FAIL" else ""),
        number(finding.value, ".1f"),
        large(finding.flops) if finding.flops else NOTHING,
        *(_value(finding.values[path]) if path in finding.values else NOTHING for path in knobs),
        Cell(text(finding.reason), finding.reason, "text"),
    ]


def _is_numeric(findings: Sequence[Finding], path: str) -> bool:
    values = [finding.values[path] for finding in findings if path in finding.values]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _value(value: Any) -> Cell:
    match value:
        case bool() | None | dict() | list():
            plain = json.dumps(without_passwords_in(value))
            said = {"null": "off", "{}": "on"}.get(plain, plain)
            return Cell(text(said), said)
    return Cell(text(shown(value)), without_passwords_in(value))
