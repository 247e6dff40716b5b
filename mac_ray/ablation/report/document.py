"""What the pages of sweeps and searches share: one HTML file with its data, style and chart library inside."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import vl_convert

from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.record import Context
from mac_ray.ablation.report.markup import facts, figure, listed, text
from mac_ray.ablation.report.palette import IN_PAGE, css_variables
from mac_ray.ablation.report.vega import Chart, themed
from mac_ray.ablation.sweep import Sweep
from mac_ray.tracking.journal import summarize

HERE = Path(__file__).parent
TOLD = ("data.", "version.", "machine", "git.")  # tags of runs that say on what and with what


def document(sweep: Sweep, verdict: Sequence[str], sections: Sequence[str], drawn: Sequence[Chart]) -> str:
    """The page. The first sentence of the verdict is the answer."""
    answer, *more = verdict
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(sweep.name)}: {text(sweep.question)}</title>\n"
        f"<style>\n:root {{ {css_variables()} }}\n{(HERE / 'page.css').read_text()}</style>\n</head>\n<body>\n"
        f'<header><p class="dim name">{text(sweep.name)}</p><h1>{text(sweep.question)}</h1>\n'
        f'<p class="verdict">{text(answer)}</p>\n{listed(more)}</header>\n'
        f"<main>\n{''.join(sections)}</main>\n"
        f'<script type="application/json" id="charts">{_specifications(drawn)}</script>\n'
        f"<script>{_library()}</script>\n<script>\n{(HERE / 'page.js').read_text()}</script>\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>\n{content}</section>\n"


def figures(drawn: Sequence[Chart]) -> str:
    return section("Charts", f'<div class="charts">\n{"".join(map(figure, drawn))}</div>\n') if drawn else ""


def made(sweep: Sweep, outcomes: Sequence[Outcome], context: Context) -> str:
    """With which command, from what, on what."""
    base = {"base config": sweep.base}
    base |= {f"override {path}": str(value) for path, value in sweep.overrides.items()}
    amount = f", {sweep.budget.amount:g} a run" if sweep.budget.amount else ""
    base |= {"equal": sweep.budget.equal + amount, "seeds": ", ".join(map(str, sweep.seeds))}
    if sweep.search:
        base |= {"sampler": sweep.search.sampler, "trials": str(sweep.search.trials)}
        base |= {"stops early": (sweep.search.prune or "never").replace("_", " ")}
    return section(
        "How it was made",
        f"<h3>Command</h3>\n<pre>{text(context.command)}</pre>\n"
        f"<h3>Sweep</h3>\n{facts(base | dict(context.facts))}"
        f"<h3>Data, versions and machines, as the runs recorded them</h3>\n{facts(dict(_recorded(outcomes)))}",
    )


def _recorded(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """Tags of the started runs; where runs differ, every value with how many have it."""
    values: dict[str, Counter[str]] = {}
    for folder in dict.fromkeys(outcome.folder for outcome in outcomes if outcome.status):
        for name, value in _tags(folder).items():
            values.setdefault(name, Counter())[value] += 1
    for name in sorted(values):
        counts = values[name]
        several = ", ".join(f"{value} ({count} runs)" for value, count in counts.most_common())
        yield name, several if len(counts) > 1 else next(iter(counts))


def _tags(folder: Path) -> Mapping[str, str]:
    return {name: value for name, value in summarize(folder).tags.items() if name.startswith(TOLD)}


def _specifications(drawn: Sequence[Chart]) -> str:
    specs = {
        chart.name: themed(chart.spec, IN_PAGE) | {"width": "container", "height": chart.height}
        for chart in drawn
    }
    return json.dumps(specs).replace("</", "<\\/")


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed, which defines vegaEmbed; made by vl-convert in seconds."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )
