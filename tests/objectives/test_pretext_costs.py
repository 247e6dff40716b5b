"""What pretext tasks cost, against what torch counts in real forward and backward passes."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mac_ray.config import (
    Config,
    Language,
    MaskedLanguage,
    Matching,
    Objectives,
    Reconstruction,
)
from mac_ray.objectives.costs import pretext_flops, stage_costs
from mac_ray.objectives.position import StepShape
from mac_ray.objectives.weighted import build_objectives
from tests.objectives.small import MASK, MODEL, PATCHES, VOCABULARY, batch, towers, views_of

SIZE = 6
CASES = {
    "pixels": ("reconstruction", Reconstruction(depth=2)),
    "pixels through a decoder of another width": ("reconstruction", Reconstruction(depth=1, width=48)),
    "latent": ("reconstruction", Reconstruction(depth=2, target="latent")),
    "masked words": ("masked_language", MaskedLanguage()),
    "masked words, with patches": ("masked_language", MaskedLanguage(context="video")),
    "words": ("language", Language(depth=3)),
    "pairs": ("matching", Matching(depth=2)),
}


@pytest.mark.usefixtures("attention_in_groups")
@pytest.mark.parametrize("visible", [3, 12])
@pytest.mark.parametrize("case", CASES)
def test_flops_by_formula_are_what_torch_counts(case: str, visible: int):
    name, section = CASES[case]
    model, inputs = towers(), batch(size=SIZE, visible=visible)
    objectives = build_objectives(
        Objectives.model_validate({"contrastive": None, name: section}), model, MASK, seed=0
    )
    views = views_of(inputs)
    with FlopCounterMode(display=False) as counter:
        loss, _ = objectives.positions(model, views, inputs, {name: 1.0}, 0.0)
        loss.backward()
    shape = StepShape.of(inputs, PATCHES, MASK, VOCABULARY)
    (expected,) = pretext_flops(objectives.section, MODEL, shape).values()
    assert counter.get_total_flops() / SIZE == pytest.approx(expected, rel=0.01)


def test_shape_holds_the_means_of_what_differs_between_samples():
    inputs = batch(size=SIZE, frames=2, visible=5)
    shape = StepShape.of(inputs, PATCHES, MASK, VOCABULARY)
    assert (shape.frames, shape.patches, shape.visible, shape.text_tokens) == (2, PATCHES, 5, 11)
    lengths = [sum(token != 0 for token in caption) for caption in inputs.caption.tolist()]
    hidden = [sum(token == MASK for token in caption) for caption in inputs.tokens.tolist()]
    assert shape.written_tokens == pytest.approx(sum(lengths) / SIZE - 1)
    assert shape.hidden_tokens == pytest.approx(sum(hidden) / SIZE)
    taken_out = replace(inputs, tokens=inputs.tokens[:, :8], attended=inputs.attended[:, :8])
    shorter = StepShape.of(taken_out, PATCHES, MASK, VOCABULARY)
    assert (shorter.text_tokens, shorter.caption_tokens) == (8, 11)
    nothing = StepShape.of(replace(inputs, tokens=inputs.caption), PATCHES, MASK, VOCABULARY)
    assert nothing.hidden_tokens == 0


def test_costs_of_a_stage_are_those_of_the_heads_that_it_trains():
    given = {name: section.model_dump() for name, section in CASES.values()}
    given["reconstruction"] |= {"target": "latent"}
    model_section = MODEL.model_dump() | {"video": MODEL.video.model_dump() | {"max_frames": 4}}
    config = Config.model_validate({"objectives": given, "model": model_section})
    costs = stage_costs(config, config.stages[0], text_tokens=20, vocabulary_size=VOCABULARY)
    model = towers()
    heads = build_objectives(config.objectives, model, MASK, seed=0).positions.objectives
    assert list(costs) == ["reconstruction", "masked_language", "language", "matching"]
    for name in ("masked_language", "language", "matching"):
        assert costs[name].parameters == sum(value.numel() for value in heads[name].parameters())
        assert costs[name].teacher_parameters == 0
    # the tower of the config sees 8 x 8 patches instead of 4 x 4, and one frame more
    tower = sum(value.numel() for value in model.video_model.parameters()) + (64 - 16 + 1) * MODEL.video.width
    assert costs["reconstruction"].teacher_parameters == tower
    assert all(cost.training_flops > 0 for cost in costs.values())
    assert stage_costs(config, config.stages[1], 20, VOCABULARY) == {}


def test_counting_costs_leaves_the_global_random_state():
    before = torch.get_rng_state()
    stage_costs(Config(), Config().stages[0], 20, VOCABULARY)
    assert torch.equal(before, torch.get_rng_state())
