"""The main job on real images and real videos: from the official files to scores."""

import csv
import json
import os
from pathlib import Path

import pytest

from mac_ray.prepare import __main__ as prepare
from mac_ray.tracking.journal import status_of
from tests.jobs import run_job
from tests.runs import TINY, UNTRACKED, USE_OWN, metrics_of, the_run

pytestmark = pytest.mark.realdata

SIZES = [
    override
    for override in TINY
    if override.startswith(("model.", "evaluation.bootstrap", "cluster.", "precision"))
]


@pytest.fixture
def real_data() -> Path:
    return Path(os.environ["MAC_RAY_REAL_DATA"])


def train_on(manifest: Path, folder: Path, *overrides: str) -> Path:
    """The folder of a run of a few steps on a manifest."""
    own = ["data.sets.own.kind=manifest", f"data.sets.own.path={manifest}", *USE_OWN, UNTRACKED]
    done = run_job([*SIZES, *own, f"storage.cache={folder / 'cache'}", *overrides], folder, "--without-ray")
    assert done.returncode == 0, done.stdout + done.stderr
    run = the_run(folder / "runs")
    assert status_of(run) == "FINISHED"
    return run


def test_pretrain_on_flickr8k_scores_every_caption_of_the_test_images(
    real_data: Path, tmp_path: Path
) -> None:
    flickr8k = real_data / "media" / "flickr8k"
    manifest = tmp_path / "flickr8k.parquet"
    read = ["--annotations", str(flickr8k), "--images", str(flickr8k / "Images"), "--out", str(manifest)]
    assert prepare.main(["manifest", "flickr8k", *read]) == 0
    run = train_on(
        manifest,
        tmp_path,
        "data.image_size=32",
        "data.short_side=32",
        "stages.0.frames=1",
        "stages.1.frames=1",
        "evaluation.frames=1",
        "stages.0.epochs=0.2",
        "stages.1.epochs=0.1",
        "evaluation.protocol=every_caption",
        "cluster.cache_budget_gb=1",
    )
    summary = json.loads((run / "scores.json").read_text())
    assert summary["coverage"] == [1000, 1000]
    assert summary["chance"]["t2v/R1"] == pytest.approx(0.1)
    losses = [value for (name, _), value in sorted(metrics_of(run).items()) if name == "train/loss"]
    assert losses[-1] < losses[0]


def test_pretrain_on_real_videos_learns_them_by_heart(real_data: Path, tmp_path: Path) -> None:
    """16 clips, one split for all: from the decoder to the loss, a run can take them in."""
    source = real_data / "media" / "msrvtt-clips"
    clips = source / "videos"
    captions = {
        path.stem: entry["caption"]
        for entry in json.loads((source / "msrvtt_caption_test.clips16.json").read_text())
        if (path := clips / entry["video"]).exists()
    }
    assert len(captions) == 16
    folder = tmp_path / "clips"
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption", "split", "id"])
        for name, told in captions.items():
            for split in ("train", "val", "test"):
                (folder / f"{split}_{name}.mp4").symlink_to(clips / f"{name}.mp4")
                rows.writerows([f"{split}_{name}.mp4", caption, split, f"{split}_{name}"] for caption in told)
    manifest = tmp_path / "msrvtt.parquet"
    assert prepare.main(["manifest", "folder", str(folder), "--out", str(manifest)]) == 0
    assert prepare.main(["check", str(manifest), "--without-ray"]) == 1  # every clip is in every split
    run = train_on(
        manifest,
        tmp_path,
        "data.image_size=64",
        "data.pool_frames=8",
        "data.short_side=64",
        "data.crop_scale=[0.5, 1.0]",
        "stages.0.epochs=60",
        "stages.1.epochs=120",
        "stages.0.batch_size=16",
        "stages.1.batch_size=16",
        "evaluation.every_epochs=60",
        "cluster.cache_budget_gb=1",
    )
    summary = json.loads((run / "scores.json").read_text())
    assert summary["metrics"]["t2v/R1"] > 5 * summary["chance"]["t2v/R1"]
