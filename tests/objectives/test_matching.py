"""Pairs of clip and caption judged: which pairs they are, and what each costs."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mac_ray.config import Matching
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.matching import MatchingObjective, drawn, wrong_ones
from tests.objectives.small import batch, towers, views_of

SECTION = Matching(depth=2, temperature=2.0, group_size=4)


def objective_of(section: Matching = SECTION) -> MatchingObjective:
    return MatchingObjective(section, towers(), torch.Generator().manual_seed(0))


def drawn_by_hand(scores: list[float], allowed: list[int], draw: float) -> int:
    """The first of `allowed` at which their summed shares of softmax pass the draw."""
    shares = [math.exp(scores[column]) for column in allowed]
    reached = 0.0
    for column, share in zip(allowed, shares, strict=True):
        reached += share / sum(shares)
        if reached > draw:
            return column
    return allowed[-1]


def pairs_by_hand(inputs: Inputs, views: Views, group_size: int) -> list[tuple[int, int, bool]]:
    """(clip, caption, whether they belong together)."""
    size = len(inputs.samples)
    pairs = [(b, b, True) for b in range(size)]
    scores = (views.video @ views.text.T / SECTION.temperature).tolist()
    for b in range(size):
        allowed = [
            c
            for c in range(size)
            if inputs.samples[c] != inputs.samples[b]
            and inputs.rows[c] // group_size == inputs.rows[b] // group_size
        ]
        if allowed:
            by_clip = drawn_by_hand(scores[b], allowed, float(inputs.draws[b, 0]))
            by_caption = drawn_by_hand([row[b] for row in scores], allowed, float(inputs.draws[b, 1]))
            pairs += [(b, by_clip, False), (by_caption, b, False)]
    return pairs


def cost_by_hand(
    objective: MatchingObjective, inputs: Inputs, views: Views, pair: tuple[int, int, bool]
) -> float:
    """One pair by itself: its caption cut to its length, its class token judged."""
    clip, caption, belong = pair
    words = views.words[caption, : int(inputs.attended[caption].sum())][None]
    for block in objective.blocks:
        words = block(words, None, views.patches[clip][None])
    verdict = objective.verdict(objective.norm(words[0, 0])).item()
    return math.log(1 + math.exp(-verdict if belong else verdict))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group_size", [2, 3, 32])
def test_loss_is_the_binary_cross_entropy_of_pairs_enumerated_by_hand(seed: int, group_size: int):
    model, objective = towers(), objective_of(SECTION.model_copy(update={"group_size": group_size}))
    inputs = replace(batch(size=7, seed=seed), samples=torch.tensor([3, 1, 3, 7, 5, 1, 9]))
    views = views_of(inputs, seed)
    pairs = pairs_by_hand(inputs, views, group_size)
    assert objective.positions(inputs) == len(pairs)
    expected = sum(cost_by_hand(objective, inputs, views, pair) for pair in pairs)
    assert objective(model, views, inputs).item() == pytest.approx(expected, rel=1e-4)


def test_wrong_ones_are_neighbours_in_the_global_batch_of_other_samples():
    inputs = replace(batch(size=4), rows=torch.tensor([4, 5, 6, 8]), samples=torch.tensor([0, 1, 1, 2]))
    assert wrong_ones(inputs, group_size=4).long().tolist() == [
        [0, 1, 1, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_batch_of_one_sample_has_only_pairs_that_belong_together():
    model, objective = towers(), objective_of()
    inputs = replace(batch(size=3), samples=torch.zeros(3, dtype=torch.long))
    views = views_of(inputs)
    assert objective.positions(inputs) == 3
    expected = sum(cost_by_hand(objective, inputs, views, (b, b, True)) for b in range(3))
    assert objective(model, views, inputs).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("draw", [0.0, 0.2, 0.7, 1 - 2**-24])
def test_draws_at_the_ends_of_their_range_fall_on_what_is_allowed(draw: float):
    similarity = torch.tensor([[900.0, 1.0, 2.0, 900.0], [0.0, -900.0, 0.0, -900.0]])
    allowed = torch.tensor([[False, True, True, False], [False, True, False, True]])
    columns = drawn(similarity, allowed, torch.full((2,), draw))
    assert allowed[torch.arange(2), columns].all()


def test_more_similar_ones_are_drawn_as_much_more_often_as_softmax_says():
    similarity = torch.tensor([[9.0, 0.0, math.log(3.0)]])
    allowed = torch.tensor([[False, True, True]])
    draws = (torch.arange(1000) + 0.5) / 1000
    columns = drawn(similarity.expand(1000, -1), allowed.expand(1000, -1), draws)
    assert columns.bincount(minlength=3).tolist() == [0, 250, 750]


def test_gradient_reaches_the_tokens_of_both_towers_and_not_their_embeddings():
    model, objective, inputs = towers(), objective_of(), batch()
    views = views_of(inputs)
    objective(model, views, inputs).backward()

    def reached(tokens: Tensor) -> bool:
        return tokens.grad is not None and bool((tokens.grad.abs().amax(dim=(1, 2)) > 0).all())

    assert reached(views.patches)
    assert reached(views.words)
    assert views.video.grad is None  # what is drawn by them is not trained by this
    assert views.text.grad is None
    assert [name for name, value in objective.named_parameters() if value.grad is None] == []
