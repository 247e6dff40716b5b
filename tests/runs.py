"""The small run that tests share, and reading what runs left."""

import hashlib
from dataclasses import fields
from pathlib import Path

from safetensors.torch import load_file

from mac_ray.data.manifest import Manifest, Row
from mac_ray.tracking.journal import read
from mac_ray.training import checkpoint

TINY = [
    "name=tiny",
    "data.sets.shapes.train=26",
    "data.sets.shapes.val=8",
    "data.sets.shapes.test=8",
    "data.sets.shapes.frames=4",
    "data.sets.shapes.size=32",
    "data.image_size=32",
    "model.video.patch_size=8",
    "model.video.width=32",
    "model.video.depth=2",
    "model.video.num_heads=2",
    "model.text.width=32",
    "model.text.depth=1",
    "model.text.num_heads=2",
    "model.embedding_size=16",
    "stages.0.epochs=2.5",
    "stages.0.batch_size=8",
    "stages.1.epochs=1",
    "stages.1.batch_size=8",
    "evaluation.every_epochs=1",
    "evaluation.bootstrap=100",
    "storage.checkpoint_every=3",
    "tracking.log_every=2",
    "cluster.threads=1",
    "precision=fp32",
]
# without a frame cache, or the frames of the set it was copied from would be found there
USE_OWN = [
    "stages.0.data=[own]",
    "stages.1.data=[own]",
    "evaluation.data=own",
    "cluster.cache_budget_gb=0",
]
UNTRACKED = "tracking.enabled=false"  # where MLflow is not asked, its tables and senders only take time
TINY_STEPS = 8 + 3  # int(2.5 * 26 / 8) masked, int(26 / 8) unmasked
CLOCKED = ("train/samples_per_second", "train/step_seconds", "train/data_wait", "cost/seconds")
Point = tuple[str, int]  # metric, step


def rows_of(manifest: Manifest) -> list[Row]:
    """As it was written of."""
    known = {each.name for each in fields(Row)}
    return [
        Row(**{name: value for name, value in sample.items() if name in known})
        for sample in manifest.table.to_pylist()
    ]


def the_run(runs: Path) -> Path:
    """The folder of the one run there is."""
    (folder,) = (path for path in runs.iterdir() if path.is_dir())
    return folder


def metrics_of(run: Path) -> dict[Point, float]:
    """Every point of every metric that training decides, not the clock. A metric has one value per step."""
    points: dict[Point, float] = {}
    for record in read(run / "journal.jsonl"):
        if record["kind"] == "metrics":
            for name, value in record["values"].items():
                assert (name, record["step"]) not in points
                if name not in CLOCKED:
                    points[name, record["step"]] = float(value)
    assert points
    return points


def weights_and_metrics(run: Path) -> tuple[dict[str, str], dict[Point, float]]:
    """A hash of the bytes of every tensor of the last checkpoint, and the metrics."""
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    weights = load_file(newest / "model.safetensors")
    digests = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in weights.items()}
    return digests | {"checkpoint": newest.name}, metrics_of(run)
