"""What a stage takes over from the one before: state and moments by name, and nothing else."""

from typing import Any

import pytest
import torch

from mac_ray.config import Config
from mac_ray.training.handover import Trained, next_stage
from tests.objectives.small import DATA, MASK, MODEL, batch, towers

HEADS = {"reconstruction": {"target": "latent", "depth": 1}, "sigmoid": {}, "language": {"depth": 1}}


def config_of(*objectives: dict[str, Any], **last: Any) -> Config:
    stages = [
        {"name": f"stage {number}", "data": ["shapes"], "epochs": 1, "frames": 3, "objectives": given}
        for number, given in enumerate(objectives)
    ]
    stages[-1] |= last
    return Config.model_validate(
        {
            "model": MODEL.model_dump(),
            "data": DATA.model_dump(),
            "objectives": HEADS,
            "stages": stages,
            "evaluation": {"frames": 3},
        }
    )


def two_stages(config: Config) -> tuple[Trained, Trained]:
    """The second is entered after a step of the first."""
    model, inputs = towers(), batch()
    first = objectives, optimizer = next_stage(config, config.stages[0], None, model, MASK)
    views = model(inputs)
    pairs, _ = objectives.pairs(views.video, views.text, inputs.samples, 5, 0.0)
    rest, _ = objectives.positions(model, views, inputs, objectives.positions.positions(inputs), 0.0)
    (pairs + rest).backward()
    optimizer.step()
    objectives.positions.after_step(model, 0.0)
    return first, next_stage(config, config.stages[1], first, model, MASK)


def moments_by_name(trained: Trained) -> dict[str, torch.Tensor]:
    objectives, optimizer = trained
    named = dict(objectives.named_parameters())
    return {
        name: optimizer.state[parameter]["exp_avg"]
        for name, parameter in named.items()
        if parameter in optimizer.state
    }


def test_stage_that_changes_nothing_goes_on_with_the_same_objectives():
    first, second = two_stages(config_of({}, {}))
    assert second[0] is first[0]
    assert moments_by_name(second).keys() == moments_by_name(first).keys()


def test_heads_that_both_stages_have_keep_weights_teacher_and_moments():
    """Whatever else changes: a weight, an objective that goes, one that comes."""
    first, second = two_stages(
        config_of({}, {"reconstruction": {"weight": 0.5}, "language": None, "matching": {"depth": 1}})
    )
    before, after = first[0].state_dict(), second[0].state_dict()
    kept = {name for name in before if ".language." not in name}
    assert any(".teacher." in name for name in kept)
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert {name for name in after if name not in kept} == {name for name in after if ".matching." in name}
    moments = moments_by_name(first)
    assert any(moment.any() for moment in moments.values())
    taken_over = moments_by_name(second)
    assert taken_over.keys() == {name for name in moments if ".language." not in name}
    assert all(torch.equal(moment, moments[name]) for name, moment in taken_over.items())
    assert len(second[1].state) == len(first[1].state) - len(moments) + len(taken_over)  # the towers' all


def test_head_of_another_shape_starts_anew():
    first, second = two_stages(config_of({}, {"reconstruction": {"width": 8}}))
    before, after = first[0].state_dict(), second[0].state_dict()
    name = "positions.objectives.reconstruction.embed.weight"
    assert before[name].shape != after[name].shape
    assert name not in moments_by_name(second)
    teacher = [name for name in before if ".teacher." in name]
    assert teacher
    assert all(torch.equal(after[name], before[name]) for name in teacher)


def test_temperature_that_is_learned_no_more_is_no_longer_in_the_optimiser():
    learned, fixed = {"learn_temperature": True}, {"learn_temperature": False}
    first, second = two_stages(config_of({"contrastive": learned}, {"contrastive": fixed}))
    assert "pairs.objectives.contrastive.log_scale" in moments_by_name(first)
    assert "pairs.objectives.contrastive.log_scale" not in moments_by_name(second)
    second[1].state_dict()  # which would trip over moments of a parameter that it does not have


@pytest.mark.parametrize("before", [{"temperature": 0.05}, {"temperature": 0.05, "learn_temperature": True}])
def test_stage_trains_at_the_fixed_temperature_that_it_says(before: dict[str, Any]):
    fixed = {"temperature": 0.2, "learn_temperature": False}
    _, second = two_stages(config_of({"contrastive": before}, {"contrastive": fixed}))
    scale = second[0].pairs.objectives["contrastive"].log_scale
    assert float(1 / scale.exp()) == pytest.approx(0.2)


def test_head_of_pixels_does_not_go_on_as_one_of_latents_of_the_same_size():
    first, second = two_stages(
        config_of({"reconstruction": {"target": "pixels"}}, {"reconstruction": {"target": "latent"}})
    )
    (before, after) = (
        {name for name in each[0].state_dict() if ".heads." in name} for each in (first, second)
    )
    assert before
    assert after
    assert not before & after


@pytest.mark.parametrize("objectives", [{}, {"language": None}])
def test_fresh_optimiser_has_no_moments_but_the_heads_go_on(objectives: dict[str, Any]):
    first, second = two_stages(config_of({}, objectives, fresh_optimizer=True))
    assert not second[1].state
    before, after = first[0].state_dict(), second[0].state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)
