"""What is known about the media of a manifest, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from mac_ray.data.manifest import Manifest
from mac_ray.data.source import joined

LISTED = 20  # paths of a kind on the screen; the JSON report has them all


@dataclass
class Report:
    """What was found about the media of a manifest; keys are positions in it."""

    manifest: Manifest
    missing: list[int] = field(default_factory=list)
    changed: dict[int, str] = field(default_factory=dict)  # size differs from when the manifest was written
    undecodable: dict[int, str] = field(default_factory=dict)
    durations: dict[int, float] = field(default_factory=dict)  # seconds, of the whole file

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.changed or self.undecodable)


def summary_of(report: Report) -> dict[str, Any]:
    manifest = report.manifest
    splits = {}
    for name, size in manifest.split_sizes().items():
        counts = pc.list_value_length(manifest.split(name).table["captions"])
        splits[name] = {
            "samples": size,
            "captions": {
                "min": pc.min(counts).as_py(),
                "mean": pc.mean(counts).as_py(),
                "max": pc.max(counts).as_py(),
            },
        }
    paths = manifest.table["path"]

    def located(reasons: dict[int, str]) -> list[dict[str, str]]:
        return [
            {"path": joined(manifest.root, paths[index].as_py()), "reason": reason}
            for index, reason in sorted(reasons.items())
        ]

    return {
        "manifest": str(manifest.path),
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "splits": splits,
        "hours": sum(report.durations.values()) / 3600,
        "missing": [joined(manifest.root, paths[index].as_py()) for index in report.missing],
        "changed": located(report.changed),
        "undecodable": located(report.undecodable),
    }


def show(report: Report) -> None:
    summary = summary_of(report)
    print(f"{summary['name']}: {len(report.manifest)} samples, fingerprint {summary['fingerprint']}")
    for split, facts in summary["splits"].items():
        captions = facts["captions"]
        print(
            f"  {split}: {facts['samples']} samples with {captions['min']} to {captions['max']} captions, "
            f"{captions['mean']:.1f} in the mean"
        )
    if report.durations:
        print(f"  decoded: {len(report.durations)} samples, {summary['hours']:.2f} hours of files")
    list_some("missing", summary["missing"], len(report.missing))
    for problem in ("changed", "undecodable"):
        entries = summary[problem]
        list_some(problem, (f"{entry['path']}: {entry['reason']}" for entry in entries), len(entries))


def list_some(title: str, entries: Iterable[str], count: int) -> None:
    if not count:
        return
    print(f"{title}: {count}")
    for _, entry in zip(range(LISTED), entries, strict=False):
        print(f"  {entry}")
    if count > LISTED:
        print(f"  and {count - LISTED} more")
