"""Weights are applied where losses are summed; what is logged is unweighted."""

import pytest
import torch
from torch.nn import functional as F

from mac_ray.config import Contrastive, Objectives
from mac_ray.objectives.weighted import PairObjectives


def test_sum_is_weighted_and_its_parts_are_not():
    generator = torch.Generator().manual_seed(0)
    video, text = (F.normalize(torch.randn(4, 6, generator=generator), dim=1) for _ in range(2))
    samples = torch.arange(4)
    plain, plain_parts = PairObjectives(Objectives())(video, text, samples, 4, 0.0)
    heavy, heavy_parts = PairObjectives(Objectives(contrastive=Contrastive(weight=2.5)))(
        video, text, samples, 4, 0.0
    )
    assert float(heavy) == pytest.approx(2.5 * float(plain))
    assert heavy_parts == plain_parts
    assert float(plain_parts["contrastive"]) == pytest.approx(float(plain))
    assert float(plain_parts["contrastive/v2t"] + plain_parts["contrastive/t2v"]) == pytest.approx(
        float(plain)
    )
