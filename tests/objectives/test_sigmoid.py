"""The sigmoid loss against a double loop."""

import math

import pytest
import torch
from torch.nn import functional as F

from mac_ray.config import Sigmoid
from mac_ray.objectives.sigmoid import SigmoidObjective

SAMPLES = [3, 1, 3, 7, 5]


def embedded(size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    video, text = (F.normalize(torch.randn(size, 6, generator=generator), dim=1) for _ in range(2))
    return video.requires_grad_(), text.requires_grad_()


@pytest.mark.parametrize(("temperature", "bias"), [(0.1, -10.0), (0.5, 1.0)])
def test_loss_is_a_double_loop_with_pairs_of_the_same_sample_left_out(temperature: float, bias: float):
    video, text = embedded()
    expected = 0.0
    for i in range(5):
        for j in range(5):
            logit = (video[i] @ text[j]).item() / temperature + bias
            if i == j:
                expected += math.log(1 + math.exp(-logit))
            elif SAMPLES[i] != SAMPLES[j]:
                expected += math.log(1 + math.exp(logit))
    objective = SigmoidObjective(Sigmoid(temperature=temperature, bias=bias))
    loss, parts = objective(video, text, torch.tensor(SAMPLES), 5)
    assert loss.item() == pytest.approx(expected / 5, rel=1e-5)
    assert (parts["temperature"].item(), parts["bias"].item()) == (pytest.approx(temperature), bias)


def test_pairs_of_the_same_sample_get_no_gradient_from_one_another():
    """Two entries, one sample: what is left is each one's own pair."""
    video, text = embedded(2)
    objective = SigmoidObjective(Sigmoid())
    loss, parts = objective(video, text, torch.tensor([4, 4]), 2)
    assert torch.equal(loss, parts["own"])
    loss.backward()
    alone_video, alone_text = embedded(2)
    alone = [
        objective(alone_video[i : i + 1], alone_text[i : i + 1], torch.tensor([4]), 1)[0] for i in (0, 1)
    ]
    ((alone[0] + alone[1]) / 2).backward()
    torch.testing.assert_close(video.grad, alone_video.grad)
    torch.testing.assert_close(text.grad, alone_text.grad)


def test_temperature_and_bias_are_learned_and_the_scale_is_bounded():
    video, text = embedded()
    objective = SigmoidObjective(Sigmoid(temperature=0.001))
    loss, parts = objective(video, text, torch.tensor(SAMPLES), 5)
    loss.backward()
    assert float(parts["temperature"]) == pytest.approx(1 / 100)
    for learned in (objective.log_scale, objective.bias):
        assert learned.grad is not None
        assert learned.grad != 0
