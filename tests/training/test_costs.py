"""Costs of a step, counted by hand for a model small enough to do so."""

import pytest

from mac_ray.config import Model, Stage, TextTower, VideoMasking, VideoTower
from mac_ray.model.masking import guidance_flops
from mac_ray.training.costs import Costs

MODEL = Model(
    video=VideoTower(patch_size=2, width=2, depth=1, num_heads=1),
    text=TextTower(width=2, depth=1, num_heads=1),
    embedding_size=3,
)
STAGE = Stage(name="one", data=("shapes",), epochs=1, frames=2, batch_size=4)


def video_flops_by_hand(frames: int, visible: int) -> int:
    """Two operations for every multiplication, one layer and one pair of tokens at a time."""
    width, tokens = 2, 1 + frames * visible
    products = 0
    for _ in range(frames * visible):
        products += (3 * 2 * 2) * width  # a patch of 3 channels and 2 × 2 pixels to the width
    for token in range(tokens):
        for attention in ("time", "space"):
            products += 3 * width * width + width * width  # queries, keys, values; the projection
            if token == 0:
                met = tokens
            elif attention == "time":
                met = 1 + frames
            else:
                met = 1 + visible
            products += 2 * met * width  # with the keys, and of the values
        products += 2 * width * 4 * width  # MLP
    return 2 * products


def class_attention_flops_by_hand(frames: int, patches: int) -> int:
    """A whole pass but for what comes after the class token's weights in the only block's spatial attention."""
    width, tokens = 2, 1 + frames * patches
    products = 0
    for token in range(tokens):
        if token > 0:
            products += (3 * 2 * 2) * width  # embedded
        products += 3 * width * width + width * width  # time: queries, keys, values; the projection
        products += 2 * (tokens if token == 0 else 1 + frames) * width
        products += width * width + width  # space: a key, and its product with the one query
    return 2 * (products + width * width)  # and that query


def test_step_costs_what_counting_by_hand_says() -> None:
    costs = Costs()
    costs.charge_step(MODEL, STAGE, seen=(2, 3), text_flops=1000, extra_flops=0, failures=2, shortened=1)
    heads = 2 * (2 * 3 + 2 * 3)
    forward = 4 * (video_flops_by_hand(frames=2, visible=3) + heads) + 1000
    assert (costs.samples, costs.visible_tokens, costs.failures) == (4, 4 * 2 * 3, 2)
    assert costs.flops == 3 * forward


def test_steps_add_up_and_pieces_cost_a_forward_pass_more() -> None:
    once, twice, pieces = Costs(), Costs(), Costs()
    once.charge_step(MODEL, STAGE, (2, 3), 1000, 0, 1, 0)
    for _ in range(2):
        twice.charge_step(MODEL, STAGE, (2, 3), 1000, 0, 1, 0)
    pieces.charge_step(MODEL, STAGE.model_copy(update={"accumulate": 2}), (2, 3), 1000, 0, 1, 0)
    assert (twice.samples, twice.flops, twice.failures) == (2 * once.samples, 2 * once.flops, 2)
    assert pieces.flops * 3 == once.flops * 4


def test_dropped_frames_and_their_patches_are_not_charged() -> None:
    costs = Costs()
    costs.charge_step(MODEL, STAGE, (1, 5), 0, 0, 0, 0)
    heads = 2 * (2 * 3 + 2 * 3)
    assert costs.flops == 3 * 4 * (video_flops_by_hand(frames=1, visible=5) + heads)
    assert costs.visible_tokens == 4 * 1 * 5


def test_guidance_by_attention_costs_a_pass_up_to_the_last_class_token() -> None:
    masking = VideoMasking(strategy="attention_hide_low")
    found = guidance_flops(masking, MODEL.video, frames=2, patches=9).total
    assert found == class_attention_flops_by_hand(frames=2, patches=9)


@pytest.mark.parametrize("strategy", ["none", "random", "motion", "resize"])
def test_strategies_that_compute_no_attention_have_no_guidance_to_charge(strategy: str) -> None:
    masking = VideoMasking.model_validate({"strategy": strategy})
    assert guidance_flops(masking, MODEL.video, frames=2, patches=9).total == 0


def test_logged_costs_are_named_numbers() -> None:
    logged = Costs(samples=3).logged(seconds=1.5)
    assert logged == {
        "cost/samples": 3.0,
        "cost/visible_tokens": 0.0,
        "cost/flops": 0.0,
        "cost/seconds": 1.5,
        "cost/failures": 0.0,
        "cost/shortened": 0.0,
    }
