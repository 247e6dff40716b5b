"""Whole small runs on a GPU, where there is one: what is moved there, and that it comes back finite."""

import math
from pathlib import Path

import pytest
import torch

from mac_ray.config import file as config_file
from mac_ray.model.video import attend
from mac_ray.tracking.journal import points
from mac_ray.training.distributed import Worker
from mac_ray.training.loop import train
from tests.training.whole_runs import open_journal, prepared

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.mark.parametrize("shape", [(2, 3, 20, 8), (2, 3, 5, 20, 8)])  # in groups, and without
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_on_a_gpu_equals_the_written_out_one_on_the_cpu(
    shape: tuple[int, ...], masked: bool
) -> None:
    query, key, value = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    allowed = torch.ones(20, 20, dtype=torch.bool).tril() if masked else None
    expected = attend(query, key, value, allowed)
    found = attend(
        *(part.cuda() for part in (query, key, value)), None if allowed is None else allowed.cuda()
    )
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


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
