"""What a report comes to, in sentences: is the set ready, what is wrong with it, what is worth knowing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mac_ray.prepare.overlap import Overlap
from mac_ray.prepare.report import Report

SAME = {"id": "id", "path": "file", "content": "sample"}


def verdict(report: Report) -> str:
    if not report.is_ready:
        return f"{report.name} is not ready"
    if report.effort is None:
        return f"the media of {report.name} are there"
    return f"{report.name} is ready"


def problems(report: Report) -> list[str]:
    """What makes the set not ready."""
    found = [
        f"{name} has {_samples(split.samples)} in the manifest; {split.expected:,} are expected ({report.expected_by})"
        for name, split in report.incomplete.items()
    ]
    counts = {
        "missing": len(report.missing),
        "empty": len(report.empty),
        "not decodable": len(report.undecodable),
        "changed since the manifest was written": len(report.changed),
    }
    found += [f"{_samples(count)} {_are(count)} {words}" for words, count in counts.items() if count]
    return found + [f"leak: {_shared(overlap)}" for overlap in report.overlaps if overlap.is_leak]


def notes(report: Report) -> list[str]:
    """What may be as it should."""
    found = []
    if report.cut_short:
        count = len(report.cut_short)
        found.append(f"{_samples(count)} {'end' if count > 1 else 'ends'} before the file says")
    found += [
        f"{_shared(overlap)}, which need not be the same samples"
        for overlap in report.overlaps
        if not overlap.is_leak
    ]
    found += [
        f"{_samples(entry.count)} of {entry.split} {_are(entry.count)} there again under another name, "
        "which ties in retrieval"
        for entry in report.copies
    ]
    for name, split in report.splits.items():
        if split.captions and split.captions.tied:
            found.append(
                f"{split.captions.tied:,} of {split.captions.count:,} captions of {name} are also those of another "
                f"sample ({_counted(split.captions.tied_texts, 'different text')}), which ties in retrieval"
            )
    return found


def effort(report: Report) -> str:
    """How it was found out; empty where the media were not looked at."""
    made = report.effort
    if made is None:
        return ""
    earlier = f"{_samples(made.known)} {_are(made.known)} known from an earlier check"
    if not made.looked_at:
        return f"{earlier} with {made.decoder}"
    sentence = (
        f"{_samples(made.looked_at)} looked at with {made.decoder} {made.where} in {made.seconds_looking:.1f} s "
        f"({made.samples_per_second:.0f} a second), {made.seconds:.1f} s in all"
    )
    return f"{sentence}; {earlier}" if made.known else sentence


def as_json(report: Report) -> dict[str, Any]:
    """The whole report, with what it comes to."""
    found = {"ready": report.is_ready, "problems": problems(report), "notes": notes(report), **asdict(report)}
    if report.effort is not None:
        found["effort"]["samples_per_second"] = report.effort.samples_per_second
    return found


def _shared(overlap: Overlap) -> str:
    first, second = overlap.splits
    under = " under different names" if overlap.by == "content" else ""
    return f"{_counted(overlap.count, SAME[overlap.by])} {_are(overlap.count)} in both {first} and {second}{under}"


def _samples(count: int) -> str:
    return _counted(count, "sample")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
