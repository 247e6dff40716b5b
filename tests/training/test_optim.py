"""Learning rates by hand, and which parameters decay at whose rate."""

import math

import pytest
import torch

from mac_ray.config import (
    Contrastive,
    Data,
    Language,
    MaskedLanguage,
    Matching,
    Model,
    Objectives,
    Optimizer,
    Reconstruction,
    Sigmoid,
    TextTower,
    TowerRates,
    VideoTower,
)
from mac_ray.model.dual import DualEncoder, build_model, tower_of
from mac_ray.objectives.weighted import PairObjectives, build_objectives
from mac_ray.training.optim import build_optimizer, clip_gradients, learning_rate, set_learning_rate

RATE = 0.5


def rates(num_steps: int, **values: object) -> list[float]:
    section = Optimizer.model_validate({"learning_rate": RATE} | values)
    return [learning_rate(section, step, num_steps) for step in range(num_steps)]


def test_constant_rate_is_the_rate() -> None:
    assert rates(5, schedule="constant", warmup=0.0) == [RATE] * 5


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warmup_rises_evenly_and_ends_at_the_rate(schedule: str) -> None:
    found = rates(20, schedule=schedule, warmup=0.2)
    assert found[:4] == pytest.approx([RATE * share for share in (0.25, 0.5, 0.75, 1.0)])
    assert found[4] == pytest.approx(RATE)


def test_step_decay_falls_at_its_shares_of_the_steps() -> None:
    found = rates(10, schedule="step", warmup=0.0, milestones=(0.6, 0.8), decay=0.1)
    assert found == pytest.approx([RATE] * 6 + [RATE / 10] * 2 + [RATE / 100] * 2)


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_cosine_falls_from_the_rate_to_its_end(warmup: float) -> None:
    num_steps, final = 100, 0.2
    found = rates(num_steps, schedule="cosine", warmup=warmup, final=final)
    warm = round(warmup * num_steps)
    for step in range(warm, num_steps):
        angle = math.pi * (step - warm) / (num_steps - warm)
        assert found[step] == pytest.approx(RATE * (0.2 + 0.8 * (0.5 + math.cos(angle) / 2)))
    assert found[warm] == RATE
    assert found[-1] == pytest.approx(RATE * final, rel=1e-2)
    middle = (warm + num_steps) // 2
    assert found[middle] == pytest.approx(RATE * 0.6)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10, 30])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 0.5, 0.99])
def test_rates_of_short_stages_rise_then_fall_and_stay_in_range(num_steps: int, warmup: float) -> None:
    found = rates(num_steps, schedule="cosine", warmup=warmup)
    top = found.index(max(found))
    assert max(found) == RATE
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert min(found) > 0


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    section = Model(
        video=VideoTower(patch_size=8, width=8, depth=1, num_heads=1),
        text=TextTower(width=8, depth=1, num_heads=1),
        embedding_size=4,
    )
    return build_model(section, Data(image_size=16), vocabulary_size=20, pad_token=0, seed=0)


def test_every_parameter_is_in_the_group_of_its_tower_and_decays_only_if_it_should(
    model: DualEncoder,
) -> None:
    every = Objectives(
        contrastive=Contrastive(learn_temperature=True),
        sigmoid=Sigmoid(),
        reconstruction=Reconstruction(target="latent"),
        masked_language=MaskedLanguage(context="video"),
        language=Language(),
        matching=Matching(),
    )
    objectives = build_objectives(every, model, mask_token=3, seed=0)
    optimizer = build_optimizer(Optimizer(weight_decay=0.1), model, objectives)
    found = {
        id(parameter): (group["tower"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    modules = [*model.modules(), *objectives.modules()]
    weights = {id(module.weight) for module in modules if isinstance(module, torch.nn.Linear)} | {
        id(model.text_model.embeddings.word_embeddings.weight)
    }
    for name, parameter in model.named_parameters():
        tower = (
            "video"
            if name.startswith("video_model")
            else "text"
            if name.startswith("text_model")
            else "heads"
        )
        assert found.pop(id(parameter)) == (tower, 0.1 if id(parameter) in weights else 0.0), name
    for name, parameter in objectives.named_parameters():
        if ".teacher." not in name:  # which follows, and does not learn
            assert found.pop(id(parameter)) == ("heads", 0.1 if id(parameter) in weights else 0.0), name
    assert not found


def test_parameters_that_do_not_learn_are_left_out(model: DualEncoder) -> None:
    optimizer = build_optimizer(Optimizer(), model, PairObjectives(Objectives()))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_rate_reaches_each_tower_by_its_factor(model: DualEncoder) -> None:
    section = Optimizer(tower_rates=TowerRates(video=0.1, text=0.0, heads=2.0))
    optimizer = build_optimizer(section, model, PairObjectives(Objectives()))
    set_learning_rate(optimizer, section, 0.5)
    found = {(group["tower"], group["lr"]) for group in optimizer.param_groups}
    assert found == {("video", 0.05), ("text", 0.0), ("heads", 1.0)}


def test_settings_reach_every_group(model: DualEncoder) -> None:
    section = Optimizer(betas=(0.8, 0.9), eps=1e-3)
    for group in build_optimizer(section, model, PairObjectives(Objectives())).param_groups:
        assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-3)


@pytest.mark.parametrize("limit", [1.0, 1e6, None])
def test_gradients_are_scaled_to_the_norm_of_those_that_learn(
    model: DualEncoder, limit: float | None
) -> None:
    section = Optimizer(clip_norm=limit, tower_rates=TowerRates(video=0.0, text=0.1))
    optimizer = build_optimizer(section, model, PairObjectives(Objectives()))
    learning = {name: value for name, value in model.named_parameters() if tower_of(name) != "video"}
    for name, parameter in model.named_parameters():
        parameter.grad = torch.full_like(parameter, 2.0 if name in learning else 1e4)
    norm = 2 * math.sqrt(sum(parameter.numel() for parameter in learning.values()))
    assert float(clip_gradients(optimizer, section)) == pytest.approx(norm, rel=1e-4)
    scale = 1.0 if limit is None else min(1.0, limit / norm)
    for parameter in learning.values():
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 2 * scale))


def test_tower_without_a_rate_stays_and_keeps_no_moments_whatever_its_gradients(model: DualEncoder) -> None:
    section = Optimizer(tower_rates=TowerRates(video=0.0), weight_decay=0.1)
    optimizer = build_optimizer(section, model, PairObjectives(Objectives()))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = torch.full_like(parameter, math.nan if tower_of(name) == "video" else 1.0)
    assert math.isfinite(clip_gradients(optimizer, section))
    set_learning_rate(optimizer, section, 0.1)
    optimizer.step()
    for name, parameter in model.named_parameters():
        stays = tower_of(name) == "video"
        assert torch.equal(parameter, before[name]) == stays, name
        assert (parameter in optimizer.state) != stays, name


def test_without_any_rate_nothing_is_clipped(model: DualEncoder) -> None:
    section = Optimizer(tower_rates=TowerRates(video=0.0, text=0.0, heads=0.0))
    optimizer = build_optimizer(section, model, PairObjectives(Objectives()))
    assert float(clip_gradients(optimizer, section)) == 0.0
