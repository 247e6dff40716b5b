"""Runs without training: folders as a finished, failed or never started run leaves them, by the project's writers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from mac_ray.ablation.plan import Row, rows_of
from mac_ray.ablation.record import Context, RecordedRun, SweepRecord
from mac_ray.ablation.sweep import Sweep
from mac_ray.retrieval.protocols import PROTOCOLS, Scores, score
from mac_ray.tracking.journal import Journal, Status
from mac_ray.training.folder import RunFolder

SCORED = "shapes_one_caption"
CONTEXT = Context("python sweeps/made.py --seeds 0 1 2", {"cluster": "1 node, 2 CPUs"})
VALIDATIONS = (0.3, 0.5, 0.7, 0.85, 0.95, 1.0)  # of the final score, at equal distances


def made_scores(quality: float, seed: int, num_samples: int, expected: int) -> Scores:
    """Of a model that sees a share `quality` of what tells the samples apart; samples are as hard for all models."""
    shared, own = np.random.default_rng(0), np.random.default_rng([seed, round(1000 * quality)])
    video = shared.normal(size=(num_samples, 16))
    hardness = shared.gamma(2.0, 0.5, size=(num_samples, 1))
    noise = shared.normal(size=video.shape) + 0.5 * own.normal(size=video.shape)
    text = quality * video + (1 - quality) * hardness * noise
    ids = [f"clip{number:04}" for number in range(num_samples)]
    return score(
        torch.from_numpy(video),
        ids,
        torch.from_numpy(text),
        ids,
        PROTOCOLS["one_caption"],
        expected,
        resamples=50,
        generator=np.random.default_rng(seed),
        allow_missing=True,
    )


def finished_run(
    folder: Path,
    seed: int,
    quality: float,
    flops: float = 1e15,
    num_samples: int = 60,
    scored: str = SCORED,
    expected: int | None = None,
) -> None:
    """A run of 6,000 samples whose val score rises to that of its test split."""
    scores = made_scores(quality, seed, num_samples, num_samples if expected is None else expected)
    final = scores.metrics["t2v/R1"]
    with Journal.open_or_create(folder, name=folder.name, experiment="made", identity=folder.name) as journal:
        journal.status("RUNNING")
        journal.tags({"data.shapes": "c0ffee12", "version.torch": "2.15", "git.commit": "0123abcd"})
        for number, share in enumerate(VALIDATIONS, start=1):
            part = number / len(VALIDATIONS)
            costs = {"samples": 6000, "flops": flops, "seconds": flops / 1e13, "visible_tokens": 4e6}
            journal.metrics(10 * number, {f"cost/{name}": part * cost for name, cost in costs.items()})
            journal.metrics(10 * number, {"val/t2v/R1": share * final})
        files = RunFolder(folder)
        files.pictures.mkdir()
        sheet = np.random.default_rng(seed).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        for name in ("masked_clips.png", "retrieved.png"):
            Image.fromarray(sheet).resize((640, 480)).save(files.pictures / name)
        content = {
            "scored": scored,
            "coverage": [scores.decoded, scores.expected],
            "metrics": scores.metrics,
            "intervals": scores.intervals,
            "chance": scores.chance,
        }
        files.scores.write_text(json.dumps(content))
        pq.write_table(scores.table(), files.ranks)
        for path in (files.scores, files.ranks):
            journal.artifact(path)
        for path in files.pictures.iterdir():
            journal.artifact(path, "pictures")
        journal.status("FINISHED")


def ended_run(folder: Path, status: Status, reason: str) -> None:
    with Journal.open_or_create(folder, name=folder.name, experiment="made", identity=folder.name) as journal:
        journal.status("RUNNING")
        journal.status(status, reason)


def recorded(
    sweep: Sweep, runs: Path, rows: Sequence[Row] | None = None, context: Context = CONTEXT
) -> SweepRecord:
    """Of the runs below a folder, each in the folder that `run_folder` says."""
    planned = rows_of(sweep) if rows is None else list(rows)
    return SweepRecord(
        sweep,
        planned,
        [
            RecordedRun(
                row.label, seed, run_folder(runs, row.label, seed).name, run_folder(runs, row.label, seed)
            )
            for row in planned
            for seed in sweep.seeds
        ],
        context,
    )


def run_folder(runs: Path, label: str, seed: int) -> Path:
    return runs / f"{''.join(letter if letter.isalnum() else '-' for letter in label)}-seed{seed}"


def make_runs(sweep: Sweep, runs: Path, qualities: Mapping[str, float], flops: Mapping[str, float]) -> None:
    """Finished runs of every seed, for the rows named."""
    for label, quality in qualities.items():
        for seed in sweep.seeds:
            finished_run(run_folder(runs, label, seed), seed, quality, flops.get(label, 1e15))
