"""Captions written word by word: each from the words before it and the visible patches, and nothing else."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mac_ray.config import Language
from mac_ray.model.views import Views
from mac_ray.objectives.language import LanguageObjective
from tests.objectives.small import PAD, SEPARATOR, VOCABULARY, batch, towers, views_of


def objective_of(depth: int = 2) -> LanguageObjective:
    return LanguageObjective(Language(depth=depth), towers(), torch.Generator().manual_seed(0))


def test_loss_is_the_cross_entropy_of_every_token_but_the_first_and_padding():
    model, objective, inputs = towers(), objective_of(), batch()
    nn.init.zeros_(objective.norm.weight)  # so that a prediction is the bias alone, the same everywhere
    with torch.no_grad():
        objective.bias.copy_(torch.linspace(-2, 1, VOCABULARY))
    scores = objective.bias.tolist()
    total = math.log(sum(math.exp(score) for score in scores))
    predicted = [token for caption in inputs.caption.tolist() for token in caption[1:] if token != PAD]
    assert predicted.count(SEPARATOR) == 5
    assert objective.positions(inputs) == len(predicted)
    expected = sum(total - scores[token] for token in predicted)
    assert objective(model, views_of(inputs), inputs).item() == pytest.approx(expected, rel=1e-5)


def test_loss_is_the_sum_of_what_each_word_costs_after_its_own_beginning():
    """Every word is predicted once more with the caption cut after it: no later word, no other sample takes part."""
    model, objective, inputs = towers(), objective_of(), batch()
    views, expected = views_of(inputs), 0.0
    for b in range(5):
        alone = Views(*(part[b : b + 1] for part in (views.video, views.text, views.patches, views.words)))
        for place in range(1, int(inputs.caption_attended[b].sum())):
            cut = replace(
                inputs,
                caption=inputs.caption[b : b + 1, : place + 1],
                caption_attended=torch.arange(place + 1)[None] == place,
            )
            expected += objective(model, alone, cut).item()
    assert objective(model, views, inputs).item() == pytest.approx(expected, rel=1e-4)


def test_changing_a_later_word_changes_no_earlier_prediction_but_an_earlier_word_does():
    model, objective, inputs = towers(), objective_of(), batch()
    beginning = inputs.caption_attended & (torch.arange(11) <= 3)  # predictions of tokens 1 to 3 count

    def loss_with(place: int) -> float:
        caption = inputs.caption.clone()
        caption[:, place] = VOCABULARY - 1
        given = replace(inputs, caption=caption, caption_attended=beginning)
        return objective(model, views_of(inputs), given).item()

    unchanged = objective(model, views_of(inputs), replace(inputs, caption_attended=beginning)).item()
    assert loss_with(4) == unchanged
    assert loss_with(10) == unchanged
    assert loss_with(0) != unchanged  # itself not predicted, only looked at


def test_prediction_depends_on_the_order_of_words_and_on_every_patch():
    model, objective, inputs = towers(), objective_of(), batch(size=1)
    views = views_of(inputs)
    last = torch.arange(11)[None] == inputs.caption_attended.sum() - 1
    given = replace(inputs, caption_attended=last)
    swapped = inputs.caption.clone()
    swapped[0, [1, 2]] = swapped[0, [2, 1]]
    before = objective(model, views, given)
    assert not torch.isclose(objective(model, views, replace(given, caption=swapped)), before)
    before.backward()
    assert views.patches.grad is not None
    assert (views.patches.grad.abs().amax(dim=-1) > 0).all()
    assert views.words.grad is None  # the text tower's states, where later words are known, take no part


def test_gradient_reaches_every_weight_of_the_decoder():
    model, objective, inputs = towers(), objective_of(), batch()
    objective(model, views_of(inputs), inputs).backward()
    assert [name for name, value in objective.named_parameters() if value.grad is None] == []
