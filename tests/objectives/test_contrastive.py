"""InfoNCE against its definition as loops, and the bound on a learned temperature."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mac_ray.config import Contrastive
from mac_ray.objectives.contrastive import ContrastiveObjective


def unit(rows: int, width: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1)


def oracle(video: Tensor, text: Tensor, samples: list[int], temperature: float) -> tuple[float, float]:
    """v2t and t2v: MAC's equations 2 and 3, entry by entry; entries of one sample are left out."""
    losses = []
    for queries, keys in ((video.tolist(), text.tolist()), (text.tolist(), video.tolist())):
        loss = 0.0
        for i, query in enumerate(queries):
            own, others = 0.0, 0.0
            for j, key in enumerate(keys):
                cosine = sum(a * b for a, b in zip(query, key, strict=True))
                if j == i:
                    own = math.exp(cosine / temperature)
                elif samples[j] != samples[i]:
                    others += math.exp(cosine / temperature)
            loss -= math.log(own / (own + others)) / len(queries)
        losses.append(loss)
    return losses[0], losses[1]


@pytest.mark.parametrize("samples", [[0, 1, 2, 3, 4], [7, 3, 7, 7, 3], [5, 5, 5, 5, 5]])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 0.005])
def test_loss_of_any_duplicates_matches_the_definition_as_loops(samples: list[int], temperature: float):
    video, text = unit(5, seed=1), unit(5, seed=2)
    objective = ContrastiveObjective(Contrastive(temperature=temperature)).double()
    loss, parts = objective(video, text, torch.tensor(samples), 5)
    v2t, t2v = oracle(video, text, samples, temperature)
    assert float(parts["v2t"]) == pytest.approx(v2t, rel=1e-5, abs=1e-7)
    assert float(parts["t2v"]) == pytest.approx(t2v, rel=1e-5, abs=1e-7)
    assert float(loss) == pytest.approx(v2t + t2v, rel=1e-5, abs=1e-7)
    assert parts["temperature"].item() == pytest.approx(temperature, rel=1e-6)


def test_loss_as_mean_of_the_directions_is_half_their_sum():
    video, text, samples = unit(5, seed=1), unit(5, seed=2), torch.arange(5)
    summed, _ = ContrastiveObjective(Contrastive(directions="sum"))(video, text, samples, 5)
    mean, _ = ContrastiveObjective(Contrastive(directions="mean"))(video, text, samples, 5)
    assert float(mean) == pytest.approx(float(summed) / 2)


def test_another_entry_of_the_same_sample_gets_no_gradient_from_it():
    video, text = unit(3, seed=1).requires_grad_(), unit(3, seed=2).requires_grad_()
    objective = ContrastiveObjective(Contrastive(temperature=0.5)).double()
    objective(video, text, torch.tensor([4, 4, 9]), 3)[0].backward()
    # moving text 1 changes the loss through video 1 and video 2 alone, so video 0 may be anything
    gradient = text.grad[1].clone()
    moved = video.detach().clone()
    moved[0] = unit(1, seed=9)[0]
    text.grad = None
    objective(moved, text, torch.tensor([4, 4, 9]), 3)[0].backward()
    assert torch.equal(text.grad[1], gradient)
    assert not torch.equal(text.grad[2], gradient)


def test_perfectly_matched_pairs_cost_less_than_shuffled_ones():
    video = unit(6, width=20)
    objective = ContrastiveObjective(Contrastive()).double()
    matched, _ = objective(video, video, torch.arange(6), 6)
    shuffled, _ = objective(video, video.roll(1, 0), torch.arange(6), 6)
    assert matched < shuffled


# ---------------------------------------------------------------- temperature


def test_fixed_temperature_is_no_parameter_to_be_trained():
    objective = ContrastiveObjective(Contrastive())
    assert [parameter for parameter in objective.parameters() if parameter.requires_grad] == []


def test_learned_temperature_gets_the_gradient_of_its_definition():
    video, text, samples = unit(5, seed=1), unit(5, seed=2), list(range(5))
    objective = ContrastiveObjective(Contrastive(temperature=0.2, learn_temperature=True)).double()
    objective(video, text, torch.tensor(samples), 5)[0].backward()
    nudge = 1e-6
    up, down = (
        sum(oracle(video, text, samples, 1 / math.exp(-math.log(0.2) + sign * nudge))) for sign in (1, -1)
    )
    assert float(objective.log_scale.grad) == pytest.approx((up - down) / (2 * nudge), rel=1e-4)


def test_learned_temperature_stops_at_a_hundredth_and_can_come_back():
    objective = ContrastiveObjective(Contrastive(temperature=0.05, learn_temperature=True)).double()
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0)
    with torch.no_grad():
        objective.log_scale.fill_(math.log(1000.0))
    video = unit(5, width=20)
    loss, parts = objective(video, video.roll(1, 0), torch.arange(5), 5)  # mismatched: wants a softer scale
    expected = sum(oracle(video, video.roll(1, 0), list(range(5)), 0.01))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert parts["temperature"].item() == pytest.approx(0.01)
    loss.backward()
    optimizer.step()
    _, parts = objective(video, video.roll(1, 0), torch.arange(5), 5)
    assert parts["temperature"].item() > 0.01
