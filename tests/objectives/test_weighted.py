"""Weights are applied where losses are summed; what is logged is unweighted; shares of a batch add up to it."""

from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from mac_ray.config import (
    Contrastive,
    Language,
    MaskedLanguage,
    Matching,
    Objectives,
    Reconstruction,
    Schedule,
    Sigmoid,
)
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.weighted import StageObjectives, build_objectives
from tests.objectives.small import MASK, batch, towers, views_of

SECTIONS = {
    "contrastive": Contrastive(),
    "sigmoid": Sigmoid(),
    "reconstruction": Reconstruction(depth=1),
    "masked_language": MaskedLanguage(context="video"),
    "language": Language(depth=1),
    "matching": Matching(depth=1, group_size=2),
}
PAIRS = {"contrastive", "sigmoid"}
WEIGHTS = {  # and what they are a quarter into a stage
    "contrastive": (1.0, 1.0),
    "sigmoid": (0.3, 0.3),
    "reconstruction": (Schedule(shape="linear", start=0.0, end=2.0), 0.5),
    "masked_language": (Schedule(shape="step", start=3.0, end=1.0, at=0.25), 1.0),
    "language": (Schedule(shape="cosine", start=1.0, end=0.0), (1 + 0.5**0.5) / 2),
    "matching": (2.5, 2.5),
}
EVERY_COMBINATION = [names for size in range(1, 7) for names in combinations(SECTIONS, size)]


def objectives_of(names: tuple[str, ...]) -> StageObjectives:
    given = {name: SECTIONS[name].model_copy(update={"weight": WEIGHTS[name][0]}) for name in names}
    return build_objectives(Objectives.model_validate({"contrastive": None} | given), towers(), MASK, seed=0)


def losses_of(
    objectives: StageObjectives, inputs: Inputs, views: Views, progress: float
) -> tuple[Tensor, dict[str, Tensor]]:
    pairs, pair_parts = objectives.pairs(views.video, views.text, inputs.samples, 6, progress)
    positions = objectives.positions.positions(inputs)
    rest, parts = objectives.positions(towers(), views, inputs, positions, progress)
    return pairs + rest, pair_parts | parts


@pytest.fixture(scope="module")
def alone() -> dict[str, float]:
    """Each objective by itself, unweighted."""
    inputs = batch(size=6)
    found = {}
    for name in SECTIONS:
        _, parts = losses_of(objectives_of((name,)), inputs, views_of(inputs), 0.25)
        found[name] = float(parts[name].detach())
    return found


@pytest.mark.parametrize("names", EVERY_COMBINATION, ids="+".join)
def test_any_combination_is_the_sum_with_the_weights_of_this_moment_and_its_parts_have_none(
    names: tuple[str, ...], alone: dict[str, float]
):
    inputs = batch(size=6)
    loss, parts = losses_of(objectives_of(names), inputs, views_of(inputs), 0.25)
    assert {name for name in parts if "/" not in name} == set(names)
    for name in names:  # a head starts the same, whatever is trained beside it
        assert float(parts[name].detach()) == pytest.approx(alone[name], rel=1e-6)
    expected = sum(WEIGHTS[name][1] * float(parts[name].detach()) for name in names)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_parts_of_contrast_add_up_to_it():
    inputs = batch(size=6)
    _, parts = losses_of(objectives_of(("contrastive",)), inputs, views_of(inputs), 0.0)
    torch.testing.assert_close(parts["contrastive/v2t"] + parts["contrastive/t2v"], parts["contrastive"])


def test_weight_that_is_nothing_yet_leaves_zero_gradients_and_not_none():
    inputs = batch(size=6)
    objectives = objectives_of(("reconstruction",))
    loss, _ = losses_of(objectives, inputs, views_of(inputs), 0.0)
    loss.backward()
    gradients = [parameter.grad for parameter in objectives.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def rows(inputs: Inputs, views: Views, start: int, stop: int) -> tuple[Inputs, Views]:
    """What a rank has of a batch."""
    parts = Inputs(*(getattr(inputs, name)[start:stop] for name in Inputs.__dataclass_fields__))
    return parts, Views(*(getattr(views, name)[start:stop] for name in Views.__dataclass_fields__))


@pytest.mark.parametrize("cuts", [(0, 6), (0, 2, 6), (0, 2, 4, 6)])
@pytest.mark.parametrize("name", sorted(SECTIONS.keys() - PAIRS))
def test_shares_of_a_batch_add_up_to_it_however_it_is_cut(name: str, cuts: tuple[int, ...]):
    inputs, objectives = batch(size=6), objectives_of((name,)).positions
    views, model = views_of(inputs), towers()
    counts = objectives.positions(inputs)
    mean = objectives.objectives[name](model, views, inputs) / counts[name]
    total = 0.0
    for start, stop in pairwise(cuts):
        own_inputs, own_views = rows(inputs, views, start, stop)
        _, parts = objectives(model, own_views, own_inputs, counts, 0.0)
        total += float(parts[name].detach())
    assert total == pytest.approx(float(mean.detach()), rel=1e-5)


def test_one_position_among_many_ranks_keeps_its_full_share():
    """Positions are counted per rank, so there may be less than one."""
    inputs, objectives = batch(size=6), objectives_of(("masked_language",)).positions
    views, model = views_of(inputs), towers()
    _, whole = objectives(model, views, inputs, {"masked_language": 1.0}, 0.0)
    _, quarter = objectives(model, views, inputs, {"masked_language": 0.25}, 0.0)
    torch.testing.assert_close(quarter["masked_language"], 4 * whole["masked_language"])


def test_heads_are_a_function_of_the_seed_and_leave_the_global_random_state():
    section = Objectives(reconstruction=Reconstruction(), language=Language(), matching=Matching())
    before = torch.get_rng_state()
    first = build_objectives(section, towers(), MASK, seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(9)
    again = build_objectives(section, towers(), MASK, seed=3).state_dict()
    other = build_objectives(section, towers(), MASK, seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_heads_of_one_run_start_differently():
    """Those of one shape too: LM's block and VTM's both look from words to patches."""
    objectives = objectives_of(("language", "matching")).positions.objectives
    one, other = (next(iter(objectives[name].blocks)).state_dict() for name in ("language", "matching"))
    same = [name for name, value in one.items() if value.std() > 0 and torch.equal(value, other[name])]
    assert one.keys() == other.keys()
    assert not same
