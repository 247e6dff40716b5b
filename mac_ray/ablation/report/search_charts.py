"""The charts of a search: score against cost with the front, what its trials came to one by one, which knobs matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mac_ray.ablation.findings import BEST_SHARE, Finding, front
from mac_ray.ablation.plan import short_names
from mac_ray.ablation.sweep import Sweep
from mac_ray.ablation.verdict import axis_name, metric_name
from mac_ray.page.palette import Palette
from mac_ray.page.vega import LARGE, Chart, Spec, in_tooltip, quantity


def search_charts(
    findings: Sequence[Finding], importances: Mapping[str, float], sweep: Sweep, palette: Palette
) -> list[Chart]:
    """As far as there is something to show."""
    complete = [finding for finding in findings if finding.value is not None]
    if not complete:
        return []
    drawn = [against_flops(complete, sweep, palette), one_by_one(complete, sweep, palette)]
    return [*drawn, of_knobs(importances, sweep, palette)] if importances else drawn


def against_flops(complete: Sequence[Finding], sweep: Sweep, palette: Palette) -> Chart:
    """Trials by score and cost; those that none beats in both stand out, and steps join them."""
    name = f"validation {metric_name(sweep.metric)}"
    best = {finding.number for finding in front(complete, sweep.maximize)}
    data = [_dot(finding) | {"front": finding.number in best} for finding in complete]
    x = quantity("flops", "FLOPs of training", LARGE, padding=12)
    y = quantity("value", f"validation {axis_name(sweep.metric)}")
    on_front = [{"filter": "datum.front"}]
    layers: list[Spec] = [
        {
            "transform": on_front,
            "mark": {
                "type": "line",
                "interpolate": "step-after",
                "color": palette.accent,
                "strokeDash": [4, 4],
            },
            "encoding": {"x": x, "y": y, "order": {"field": "flops"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                "x": x,
                "y": y,
                "color": {
                    "condition": {"test": "datum.front", "value": palette.accent},
                    "value": palette.dim,
                },
                "tooltip": _tooltip(name),
            },
        },
        {
            "transform": on_front,
            "mark": {"type": "text", "dx": 9, "dy": -9, "color": palette.ink, "fontSize": 12},
            "encoding": {"x": x, "y": y, "text": {"field": "trial"}},
        },
    ]
    return Chart(
        "pareto",
        "Score against cost",
        "A dot is a trial, the mean of its seeds. No other trial is as good for fewer FLOPs as those on the line.",
        {"data": {"values": data}, "layer": layers},
        height=320,
    )


def one_by_one(complete: Sequence[Finding], sweep: Sweep, palette: Palette) -> Chart:
    """Trials in the order they were drawn, and the best so far."""
    name = f"validation {metric_name(sweep.metric)}"
    better = max if sweep.maximize else min
    data: list[Spec] = []
    best: float | None = None
    for finding in sorted(complete, key=lambda finding: finding.number):
        dot = _dot(finding)
        best = dot["value"] if best is None else better(best, dot["value"])
        data.append(dot | {"best": best})
    title = f"validation {axis_name(sweep.metric)}"
    x = quantity("trial", "trial", form="d", padding=12)
    x["axis"]["tickMinStep"] = 1
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "interpolate": "step-after", "color": palette.accent, "strokeWidth": 2},
            "encoding": {"x": x, "y": quantity("best", title)},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": palette.dim},
            "encoding": {"x": x, "y": quantity("value", title), "tooltip": _tooltip(name)},
        },
    ]
    return Chart(
        "trials",
        "Trial by trial",
        "In the order they were drawn; the line is the best so far.",
        {"data": {"values": data}, "layer": layers},
        height=320,
    )


def of_knobs(importances: Mapping[str, float], sweep: Sweep, palette: Palette) -> Chart:
    short = short_names(importances)
    data = [{"knob": short[path], "path": path, "share": share} for path, share in importances.items()]
    score = f"validation {metric_name(sweep.metric)}"
    weighs_cost = sweep.search is not None and sweep.search.sampler == "nsga2"
    best = f"nearest the front of {score} and FLOPs" if weighs_cost else f"best by {score}"
    bar: Spec = {
        "mark": {"type": "bar", "color": palette.accent, "height": {"band": 0.7}},
        "encoding": {
            "y": {"field": "knob", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "share", "type": "quantitative", "title": "importance", "axis": {"format": ".0%"}},
            "tooltip": [
                {"field": "path", "title": "knob"},
                {"field": "share", "title": "importance", "format": ".0%"},
            ],
        },
    }
    return Chart(
        "importances",
        "Which knobs matter",
        f"How much each decides whether a complete trial is of the {BEST_SHARE:.0%} {best} (conditional PED-ANOVA); of "
        "few trials, a hint at most.",
        {"data": {"values": data}, **bar},
        height=max(140, 26 * len(data) + 50),
        wide=True,
    )


def _dot(finding: Finding) -> Spec:
    knobs = finding.said
    return {"trial": finding.number, "value": finding.value, "flops": finding.flops, "knobs": knobs}


def _tooltip(name: str) -> list[Spec]:
    return [
        {"field": "trial", "title": "trial"},
        {"field": "value", "title": name, "format": ".1f"},
        {"field": "flops", "title": "FLOPs", "format": in_tooltip(LARGE)},
        {"field": "knobs", "title": "with"},
    ]
