"""Whole small runs on a GPU, where there is one: what is moved there, and that it comes back finite."""

import math
from pathlib import Path

import pytest
import torch

from mac_ray.config import file as config_file
from mac_ray.tracking.journal import points
from mac_ray.training.distributed import Worker
from mac_ray.training.loop import train
from tests.training.whole_runs import open_journal, prepared

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["objectives.reconstruction={}", "objectives.masked_language={}", "stages.0.accumulate=2"],
        ["objectives.matching={}", "objectives.language={}", "masking.video.strategy=attention_hide_low"],
        ["cluster.loader_workers=1", "precision=auto"],
    ],
)
def test_train_on_a_gpu_finishes_with_finite_losses(
    tiny_overrides: list[str], tmp_path: Path, overrides: list[str]
) -> None:
    run = prepared(config_file.load(None, [*tiny_overrides, *overrides]), tmp_path)
    with open_journal(run) as journal:
        assert train(run.config, run.folder, Worker(device=torch.device("cuda")), journal) == "finished"
    losses = points(run.folder.path, "train/loss")
    assert losses
    assert all(math.isfinite(value) for values in losses.values() for _, value in values)
