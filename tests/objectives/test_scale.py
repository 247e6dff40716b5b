"""A loss is a mean over its own positions: of an untrained model it stays where it is, however much is hidden."""

import math
import statistics

import pytest
import torch

from mac_ray.config import Language, MaskedLanguage, Matching, Objectives, Reconstruction
from mac_ray.objectives.weighted import build_objectives
from tests.objectives.small import MASK, VOCABULARY, batch, towers

SECTION = Objectives(
    reconstruction=Reconstruction(depth=2),
    masked_language=MaskedLanguage(context="video"),
    language=Language(depth=2),
    matching=Matching(depth=2, group_size=4),
)
LATENT = Objectives(reconstruction=Reconstruction(depth=2, target="latent"))
GUESSING = {
    "masked_language": math.log(VOCABULARY),
    "language": math.log(VOCABULARY),
    "matching": math.log(2),
}


def losses_of(section: Objectives, size: int, visible: int, hidden_words: float) -> dict[str, float]:
    """Means over some starts of the heads: a single verdict of matching leans one way or the other."""
    model, inputs = towers(), batch(size=size, visible=visible, hidden_words=hidden_words)
    losses: dict[str, list[float]] = {}
    for seed in range(8):
        objectives = build_objectives(section, model, MASK, seed).positions
        with torch.no_grad():
            _, parts = objectives(model, model(inputs), inputs, objectives.positions(inputs), 0.0)
        for name, value in parts.items():
            losses.setdefault(name, []).append(float(value))
    return {name: statistics.fmean(values) for name, values in losses.items()}


@pytest.mark.parametrize("section", [SECTION, LATENT], ids=["pixels and the others", "latent"])
def test_losses_with_much_hidden_are_those_with_little_hidden(section: Objectives):
    little = losses_of(section, 24, visible=11, hidden_words=0.3)  # 5 of 16 patches hidden
    much = losses_of(section, 24, visible=2, hidden_words=0.9)  # 14 of them
    assert much == pytest.approx(little, rel=0.15)


@pytest.mark.parametrize("section", [SECTION, LATENT], ids=["pixels and the others", "latent"])
def test_losses_of_a_small_batch_are_those_of_a_large_one(section: Objectives):
    small = losses_of(section, 4, visible=6, hidden_words=0.4)
    large = losses_of(section, 32, visible=6, hidden_words=0.4)
    assert small == pytest.approx(large, rel=0.2)


def test_untrained_heads_do_not_do_much_worse_than_guessing():
    """A start far above would mean that scores begin too large to be corrected soon."""
    found = losses_of(SECTION, 24, visible=6, hidden_words=0.4)
    for name, guessing in GUESSING.items():
        assert guessing * 0.9 < found[name] < guessing * 1.5, name
    assert 0.9 < found["reconstruction"] < 2.5  # of targets of variance 1
