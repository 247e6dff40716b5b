"""Hidden words guessed: only those, from the words around them and, if asked, from the visible patches."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mac_ray.config import MaskedLanguage
from mac_ray.objectives.masked_language import MaskedLanguageObjective
from tests.objectives.small import MASK, batch, towers, views_of


def objective_of(context: Literal["text", "video"] = "text") -> MaskedLanguageObjective:
    start = torch.Generator().manual_seed(0)
    objective = MaskedLanguageObjective(MaskedLanguage(context=context), towers(), MASK, start)
    nn.init.normal_(objective.bias, generator=start)
    return objective


def test_loss_is_the_cross_entropy_of_hidden_tokens_and_of_these_alone():
    model, objective, inputs = towers(), objective_of(), batch()
    views = views_of(inputs)
    linear, _, norm = objective.transform
    embedded = model.text_model.get_input_embeddings().weight
    losses = []
    for b in range(5):
        for place in range(11):
            if inputs.tokens[b, place] != inputs.caption[b, place]:
                answer = F.gelu(linear.weight @ views.words[b, place] + linear.bias)
                answer = (answer - answer.mean()) / (answer.var(unbiased=False) + norm.eps) ** 0.5
                scores = [(answer @ word).item() for word in embedded]
                scores = (torch.tensor(scores, dtype=torch.float64) + objective.bias).tolist()
                right = int(inputs.caption[b, place])
                losses.append(float(torch.logsumexp(torch.tensor(scores), 0)) - scores[right])
    assert len(losses) > 5
    assert objective.positions(inputs) == len(losses)
    assert objective(model, views, inputs).item() == pytest.approx(sum(losses), rel=1e-5)


def test_states_of_words_that_are_not_hidden_make_no_difference():
    model, objective, inputs = towers(), objective_of(), batch()
    views = views_of(inputs)
    objective(model, views, inputs).backward()
    assert views.words.grad is not None
    reached = views.words.grad.abs().amax(dim=-1) > 0
    assert torch.equal(reached, inputs.tokens == MASK)
    assert views.patches.grad is None


def test_with_video_as_context_hidden_words_look_at_all_patches_and_at_no_padding():
    model, objective, inputs = towers(), objective_of("video"), batch()
    views = views_of(inputs)
    objective(model, views, inputs).backward()
    assert views.patches.grad is not None
    assert views.words.grad is not None
    asking = (inputs.tokens == MASK).any(dim=1)
    assert torch.equal((views.patches.grad.abs().amax(dim=-1) > 0).all(dim=1), asking)
    reached = views.words.grad.abs().amax(dim=-1) > 0
    assert torch.equal(reached, inputs.attended & asking[:, None])


@pytest.mark.parametrize("context", ["text", "video"])
def test_batch_without_a_hidden_word_costs_nothing_and_leaves_every_gradient_zero(
    context: Literal["text", "video"],
):
    model, objective, inputs = towers(), objective_of(context), batch()
    inputs = replace(inputs, tokens=inputs.caption)
    assert objective.positions(inputs) == 0
    loss = objective(model, views_of(inputs), inputs)
    loss.backward()
    assert loss.item() == 0.0
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
