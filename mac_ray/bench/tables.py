"""The tables that a person is shown of what was counted and timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from mac_ray.bench.costs import CostRow, PretextRow, Published
from mac_ray.bench.step import Report
from mac_ray.config import Config

if TYPE_CHECKING:
    from mac_ray.bench.data import DataReport
    from mac_ray.bench.engine import EngineReport


def parameter_table(config: Config, counts: dict[str, int], published: Published | None) -> Table:
    table = Table(title=f"{config.name}: parameters", box=box.SIMPLE)
    for heading in ("total", *counts):
        table.add_column(heading, justify="right")
    table.add_column("published")
    total = sum(counts.values())
    values = (f"{count:,}" for count in (total, *counts.values()))
    table.add_row(*values, _beside(published, total, 1e6, " M"))
    return table


def cost_table(rows: Sequence[CostRow], text_tokens: int, num_ratios: int) -> Table:
    patches = rows[0].patches
    title = f"GFLOP per sample, forward: {patches} patches per frame, {text_tokens} text tokens"
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("frames", "visible", "paper", "+attention", "executed"):
        table.add_column(heading, justify="right")
    table.add_column("published")
    for number, row in enumerate(rows):
        if number == num_ratios:  # the stages follow
            table.add_section()
        operations = (f"{count / 1e9:#,.4g}" for count in (row.linear, row.with_attention, row.executed))
        table.add_row(
            row.what,
            str(row.frames),
            str(row.visible),
            *operations,
            _beside(row.published, row.linear, 1e9, ""),
        )
    return table


def pretext_table(rows: Sequence[PretextRow]) -> Table:
    title = "what pretext tasks add: GFLOP per sample, forward and backward"
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("stage")
    table.add_column("task", no_wrap=True)
    for heading in ("parameters", "teacher's", "executed", "to the towers'"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.stage,
            row.objective,
            f"{row.cost.parameters:,}",
            f"{row.cost.teacher_parameters:,}" if row.cost.teacher_parameters else "",
            f"{row.cost.training_flops / 1e9:,.4g}",
            f"+{row.cost.training_flops / row.towers_training_flops:.1%}",
        )
    return table


def step_table(report: Report) -> Table:
    how = ", towers compiled" if report.compiled else ""
    table = Table(title=f"training step on {report.device}{how}", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("batch", "visible", "ms", "samples/s", "time", "TFLOP/s", "of matmul", "peak"):
        table.add_column(heading, justify="right")
    if any(arm.largest_batch is not None for arm in report.arms):
        table.add_column("largest batch", justify="right")
    for number, arm in enumerate(report.arms, start=1):
        row = [
            str(number),
            str(arm.batch),
            f"{arm.frames} x {arm.visible}",
            f"{arm.milliseconds:.1f}",
            f"{arm.samples_per_second:,.1f}",
            f"{arm.relative_time:.2f} x",
            f"{arm.flops_per_second / 1e12:.3g}",
            f"{arm.matmul_share:.0%} {arm.dtype}",
            "unknown" if arm.peak_bytes is None else f"{arm.peak_bytes / 1e9:.2f} GB",
        ]
        table.add_row(*row, *([] if arm.largest_batch is None else [str(arm.largest_batch)]))
    return table


def data_table(report: DataReport) -> Table:
    what = f"{report.frames} frames of {report.image_size}², batches of {report.batch}"
    title = f"stage {report.stage}: clips/s of one core; {what}"
    table = Table(title=title, box=box.SIMPLE, padding=0)
    table.add_column("", no_wrap=True)
    for heading in ("bare", "loader", "share", "received", *report.rows[0].parts):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        whole = sum(row.parts.values())
        table.add_row(
            row.storage if row.decoder is None else f"{row.storage}, {row.decoder}",
            "" if row.bare is None else f"{row.bare:,.0f}",
            f"{row.loader:,.0f}",
            "" if row.share is None else f"{row.share:.2f}",
            f"{row.received:,.0f}",
            *(
                f"{'*' if name == row.limit else ''}{seconds / whole:.0%}"
                for name, seconds in row.parts.items()
            ),
        )
    return table


def engine_table(report: EngineReport) -> Table:
    table = Table(box=box.SIMPLE, padding=0)
    for heading in ("", "seconds"):
        table.add_column(heading, justify="right" if heading else "left")
    around = {
        "from the command to the first run": report.start,
        "from the end of a run to the next in its place": report.between,
        "of a run beside its steps: data, model, scoring": report.within,
    }
    of_points = {
        "planned and identified": report.plan,
        "found finished and whole in their folders": report.folders,
        "sent to MLflow, which has none of them": report.send,
        "asked of MLflow": report.look_up,
        "results read": report.read,
        "table made": report.table,
        "report written": report.report,
    }
    for what, seconds in around.items():
        if seconds is not None:
            table.add_row(f"{what} (of {report.runs})", f"{seconds:.2f}")
    for what, seconds in of_points.items():
        table.add_row(f"{report.points} points {what}", f"{seconds:.2f}")
    return table


def _beside(published: Published | None, found: int, unit: float, suffix: str) -> str:
    """A published value, and how far from it what was found here is."""
    if published is None:
        return ""
    off = found / published.value - 1
    return f"{published.value / unit:.1f}{suffix} ({off:+.2%})"
