"""Pieces of HTML that only sweeps have: intervals, pictures of runs, the way to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mac_ray.ablation.outcome import Outcome
from mac_ray.ablation.record import Context
from mac_ray.ablation.report.pictures import Picture
from mac_ray.ablation.table import Interval
from mac_ray.page.markup import NOTHING, Cell, minus, text
from mac_ray.tracking import progress
from mac_ray.tracking.address import is_database
from mac_ray.tracking.journal import FETCHED_NAME

LOCAL_SERVER = "http://127.0.0.1:5000"  # where the command that the page shows serves MLflow


def interval(found: Interval | None, *, signed: bool = False, style: str = "") -> Cell:
    if found is None:
        return NOTHING
    form = "+.1f" if signed else ".1f"
    low, mean, high = (minus(format(value, form)) for value in (found.low, found.mean, found.high))
    return Cell(f'{mean} <span class="range">[{low}, {high}]</span>', found.mean, style)


def gallery(pictures: Sequence[Picture], what: str) -> str:
    """`what` they show, for those who do not see them."""
    shown = "\n".join(
        f"<figure><figcaption><strong>{text(picture.title)}</strong></figcaption>"
        f'<div tabindex="0" role="region" aria-label="{text(what)}: {text(picture.title)}"><img src="{picture.source}" '
        f'alt="{text(what)}: {text(picture.title)}" '
        f'width="{picture.size[0]}" height="{picture.size[1]}"></div></figure>'
        for picture in pictures
    )
    return f'<div class="pictures">\n{shown}\n</div>\n'


# ---------------------------------------------------------------- runs


def opening(context: Context) -> str:
    """How to open the MLflow that links lead to."""
    if not context.how_to_open:
        return ""
    return f'<p class="dim">In MLflow: <code>{text(context.how_to_open)}</code></p>\n'


def linked(label: str, folder: Path, context: Context) -> str:
    """A label, as markup, that leads to a run in MLflow where it is there."""
    link = _link(folder, context)
    return f'<a href="{text(link)}">{label}</a>' if link else label


def folder_of(outcome: Outcome) -> str:
    fetched = ' <span class="tag">from MLflow</span>' if (outcome.folder / FETCHED_NAME).exists() else ""
    return f"<code>{text(outcome.folder.name)}</code>{fetched}"


def _link(folder: Path, context: Context) -> str:
    """The run in MLflow; empty when it is not there."""
    sent = progress.load(folder).get(context.tracking)
    if sent is None or not sent.run_id:
        return ""
    if context.tracking.startswith("http"):
        server = context.tracking.rstrip("/")
    elif is_database(context.tracking):
        server = LOCAL_SERVER
    else:  # of a kind whose pages have other addresses
        return ""
    return f"{server}/#/experiments/{sent.experiment_id}/runs/{sent.run_id}?workflowType=machine_learning"
