"""What the pages of sweeps and searches share: the question with its answer on top, and how it was made at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.record import Context
from mac_ray.ablation.report.markup import gallery
from mac_ray.ablation.report.pictures import MOST_ROWS, mask_pictures, retrieved_pictures
from mac_ray.ablation.sweep import Sweep
from mac_ray.page.document import document, section
from mac_ray.page.markup import facts, listed, text
from mac_ray.page.vega import Chart
from mac_ray.passwords import without_passwords
from mac_ray.tracking.journal import DEVICE_TAG, WORKERS_TAG, summarize

# tags of runs that say on what and with what
TOLD = ("data.", "version.", "machine", DEVICE_TAG, WORKERS_TAG, "git.")


def report_page(sweep: Sweep, verdict: Sequence[str], sections: Sequence[str], drawn: Sequence[Chart]) -> str:
    """The first sentence of the verdict is the answer."""
    answer, *more = verdict
    header = (
        f'<p class="dim name">{text(sweep.name)}</p><h1>{text(sweep.question)}</h1>\n'
        f'<p class="verdict">{text(answer)}</p>\n{listed(more)}'
    )
    return document(f"{sweep.name}: {sweep.question}", header, sections, drawn)


def pictured(outcomes: Sequence[Outcome], hidden: Sequence[str], found: Sequence[str]) -> list[str]:
    """Sections of what runs have pictures of: what was hidden in some rows, what was found by others, by label."""
    of_masks = "Training clips, whole on the left and as the tower saw them on the right, with captions as the other "
    of_masks += "read them."
    if len(hidden) > MOST_ROWS:
        of_masks += f" The first {MOST_ROWS} of {len(hidden)} rows."
    of_finds = "The clips found for some test captions, best first; the caption’s own has a green frame."
    parts = [
        ("What was hidden", of_masks, mask_pictures(outcomes, hidden[:MOST_ROWS])),
        ("What was found", of_finds, retrieved_pictures(outcomes, found)),
    ]
    return [
        section(title, f'<p class="dim">{said}</p>\n{gallery(shown, title)}')
        for title, said, shown in parts
        if shown
    ]


def made(
    sweep: Sweep, outcomes: Sequence[Outcome], context: Context, told: Mapping[str, str], what: str = "Rows"
) -> str:
    """With which command, from what, on what; `told`: what each row sets, or what is searched."""
    base = {"base config": sweep.base}
    base |= {f"override {path}": without_passwords(str(value)) for path, value in sweep.overrides.items()}
    amount = f", {sweep.budget.amount:g} a run" if sweep.budget.amount else ""
    base |= {"equal": sweep.budget.equal + amount, "seeds": ", ".join(map(str, sweep.seeds))}
    if sweep.search:
        base |= {"sampler": sweep.search.sampler, "trials": str(sweep.search.trials)}
        base |= {"stops early": (sweep.search.prune or "never").replace("_", " ")}
    return section(
        "How it was made",
        f"<h3>Command</h3>\n<pre>{text(context.command)}</pre>\n"
        f"<h3>Sweep</h3>\n{facts(base | dict(context.facts))}"
        f"<h3>{what}</h3>\n{facts(told)}"
        f"<h3>Data, versions and machines, as the runs recorded them</h3>\n{facts(dict(_recorded(outcomes)))}",
    )


def _recorded(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """Tags of the started runs; where not all have the same, every value with how many have it."""
    values: dict[str, Counter[str]] = {}
    started = list(dict.fromkeys(outcome.folder for outcome in outcomes if outcome.status))
    for folder in started:
        for name, value in _tags(folder).items():
            values.setdefault(name, Counter())[value] += 1
    for name in sorted(values):
        counts = values[name].most_common()
        several = ", ".join(f"{value} ({count} of {len(started)} runs)" for value, count in counts)
        yield name, several if counts[0][1] < len(started) else counts[0][0]


def _tags(folder: Path) -> Mapping[str, str]:
    return {name: value for name, value in summarize(folder).tags.items() if name.startswith(TOLD)}
