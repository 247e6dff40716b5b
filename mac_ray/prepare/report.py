"""The readiness report: everything that is known about the samples of a manifest, in numbers and examples.

Terminal, JSON and page show the same object. What is wrong makes a set not ready; what is only worth knowing is a
note. A manifest has one without its media having been looked at, which then says nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mac_ray.data.manifest import Manifest
from mac_ray.data.source import Source, joined
from mac_ray.prepare.captions import Captions, captions_of
from mac_ray.prepare.expected import Expected
from mac_ray.prepare.histogram import Histogram, histograms_of
from mac_ray.prepare.inventory import Inventory
from mac_ray.prepare.overlap import Copies, Overlap, copies, overlaps

MOST_VALUES = 30  # of a property, the commonest; sizes may all differ
PROPERTIES = ("container", "codec", "pixel_format", "resolution", "frame_rate")


@dataclass(frozen=True)
class Located:
    """A sample of which something is told."""

    id: str
    split: str
    path: str  # absolute, or a URL
    reason: str


@dataclass(frozen=True)
class Split:
    samples: int  # rows of the manifest
    expected: int
    found: int  # neither missing nor empty nor undecodable, as far as was looked
    missing: int
    empty: int
    undecodable: int
    changed: int
    seconds: float  # of video
    frames: int
    captions: Captions | None  # None: of a split without samples


@dataclass(frozen=True)
class Effort:
    """How a check was made."""

    decoder: str
    where: str
    looked_at: int  # samples
    known: int  # samples that an earlier check had looked at
    seconds: float  # in all
    seconds_looking: float  # without the start of a cluster, and what comes before and after

    @property
    def samples_per_second(self) -> float:
        return self.looked_at / self.seconds_looking if self.looked_at else 0.0


@dataclass(frozen=True)
class Report:
    manifest: str
    name: str
    fingerprint: str
    expected_by: str  # who says how many samples there should be
    splits: dict[str, Split]
    missing: list[Located]
    empty: list[Located]
    undecodable: list[Located]
    changed: list[Located]
    cut_short: list[Located]
    overlaps: list[Overlap]
    copies: list[Copies]
    media: dict[str, dict[str, dict[str, int]]]  # property, value, split: samples
    histograms: list[Histogram]
    effort: Effort | None  # None: the media were not looked at

    @property
    def is_ready(self) -> bool:
        broken = self.missing or self.empty or self.undecodable or self.changed
        leaking = any(overlap.is_leak for overlap in self.overlaps)
        return not (broken or leaking or self.incomplete)

    @property
    def incomplete(self) -> dict[str, Split]:
        """Splits of which the manifest has more or fewer samples than it should."""
        return {name: split for name, split in self.splits.items() if split.samples != split.expected}


def build_report(
    manifest: Manifest,
    inventory: Inventory,
    expected: Expected,
    findings: pa.Table | None = None,
    effort: Effort | None = None,
) -> Report:
    """`findings`: a row per sample, as finding.SCHEMA has it."""
    samples = manifest.table
    masks = _masks(manifest, inventory, findings)
    sizes = manifest.split_sizes() | dict(expected.sizes)
    splits = {split: _split(samples, split, size, masks, findings) for split, size in sizes.items()}
    digests = None if findings is None else findings["digest"]

    def located(kind: str, reasons: Sequence[str]) -> list[Located]:
        rows = samples.select(["id", "split", "path"]).filter(pa.array(masks[kind])).to_pylist()
        return [
            Located(row["id"], row["split"], str(Source(joined(manifest.root, row["path"]))), reason)
            for row, reason in zip(rows, reasons, strict=True)
        ]

    return Report(
        manifest=str(manifest.path),
        name=manifest.name,
        fingerprint=manifest.fingerprint,
        expected_by=expected.source,
        splits=splits,
        missing=located("missing", ["there is no such file"] * int(masks["missing"].sum())),
        empty=located("empty", ["the file is empty"] * int(masks["empty"].sum())),
        undecodable=located("undecodable", _said(findings, "reason")),
        changed=located("changed", _changes(manifest, inventory, masks["changed"])),
        cut_short=located("cut_short", _said(findings, "shortened")),
        overlaps=overlaps(samples, digests),
        copies=[] if digests is None else copies(samples, digests),
        media={} if findings is None else _media(samples["split"], findings),
        histograms=histograms_of(samples, findings),
        effort=effort,
    )


def _masks(
    manifest: Manifest, inventory: Inventory, findings: pa.Table | None
) -> dict[str, NDArray[np.bool_]]:
    """Of the rows of a manifest: those that are of a kind of which something is told."""
    nothing = np.zeros(len(manifest), bool)
    masks = {
        "missing": inventory.missing,
        "empty": inventory.empty,
        "changed": inventory.changed(manifest),
        "undecodable": nothing,
        "cut_short": nothing,
    }
    if findings is not None:
        masks["undecodable"] = np.asarray(pc.is_valid(findings["reason"]))
        masks["cut_short"] = np.asarray(pc.is_valid(findings["shortened"]))
    return masks


def _split(
    samples: pa.Table,
    name: str,
    expected: int,
    masks: Mapping[str, NDArray[np.bool_]],
    findings: pa.Table | None,
) -> Split:
    mine = np.asarray(pc.equal(samples["split"], name))
    rows = samples.filter(pa.array(mine))
    counts = {kind: int((mask & mine).sum()) for kind, mask in masks.items()}
    broken = masks["missing"] | masks["empty"] | masks["undecodable"]
    seconds, frames = 0.0, 0
    if findings is not None:
        of_split = findings.filter(pa.array(mine))
        seconds = pc.sum(of_split["duration"]).as_py() or 0.0
        frames = pc.sum(of_split["num_frames"]).as_py() or 0
    return Split(
        samples=len(rows),
        expected=expected,
        found=int((mine & ~broken).sum()),
        missing=counts["missing"],
        empty=counts["empty"],
        undecodable=counts["undecodable"],
        changed=counts["changed"],
        seconds=seconds,
        frames=frames,
        captions=captions_of(rows) if len(rows) else None,
    )


def _said(findings: pa.Table | None, column: str) -> list[str]:
    return [] if findings is None else findings[column].drop_null().to_pylist()


def _changes(manifest: Manifest, inventory: Inventory, mask: NDArray[np.bool_]) -> list[str]:
    written = manifest.table["num_bytes"].to_numpy()[mask].tolist()
    return [
        "was missing when the manifest was written; write it again"
        if before < 0
        else f"has {now} bytes; the manifest was written with {before}"
        for now, before in zip(inventory.num_bytes[mask].tolist(), written, strict=True)
    ]


def _media(splits: pa.ChunkedArray, findings: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    """The commonest values first."""
    text = pa.string()
    size = pc.binary_join_element_wise(
        pc.cast(findings["width"], text), pc.cast(findings["height"], text), "×"
    )
    columns = {
        "container": findings["container"],
        "codec": findings["codec"],
        "pixel_format": findings["pixel_format"],
        "resolution": size,
        "frame_rate": pc.cast(pc.round(findings["rate"], 2), text),
    }
    media: dict[str, dict[str, dict[str, int]]] = {}
    for name in PROPERTIES:
        told = pa.table({"value": columns[name], "split": splits})
        told = told.filter(pc.is_valid(told["value"]))
        totals = told.group_by("value").aggregate([("split", "count")])
        commonest = totals.sort_by([("split_count", "descending"), ("value", "ascending")])["value"]
        counts: dict[str, dict[str, int]] = {value: {} for value in commonest[:MOST_VALUES].to_pylist()}
        for row in told.group_by(["value", "split"]).aggregate([([], "count_all")]).to_pylist():
            if row["value"] in counts:
                counts[row["value"]][row["split"]] = row["count_all"]
        if counts:
            media[name] = counts
    return media
