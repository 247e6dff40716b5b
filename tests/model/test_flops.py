"""The formulas against what torch counts in a real forward pass, and against the figures of MAC's Table 4."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mac_ray.config import Data, Model, TextTower, VideoTower
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import (
    Flops,
    class_attention_flops,
    forward_flops,
    head_flops,
    text_flops,
    video_flops,
)

MAC = Model(
    video=VideoTower(patch_size=16, width=768, depth=12, num_heads=12),
    text=TextTower(width=768, depth=6, num_heads=12),
    embedding_size=256,
)
SMALL = Model(
    video=VideoTower(patch_size=8, width=16, depth=3, num_heads=2),
    text=TextTower(width=24, depth=2, num_heads=2),
    embedding_size=10,
)


@pytest.mark.parametrize(
    ("kept", "linear", "with_attention"),
    [
        (196, 189.59, 195.79),
        (147, 145.20, 148.86),
        (98, 100.81, 102.64),
        (79, 83.60, 84.91),
        (78, 82.69, 83.98),
        (69, 74.54, 75.62),
        (49, 56.42, 57.13),
        (20, 30.14, 30.53),
        (19, 29.24, 29.61),
    ],
)
def test_flops_of_mac_at_four_frames_and_128_tokens_are_those_worked_out_by_hand(
    kept: int, linear: float, with_attention: float
):
    flops = forward_flops(MAC, frames=4, visible=kept, text_tokens=128, embedded=196)
    assert flops.linear / 1e9 == pytest.approx(linear, abs=0.005)
    assert flops.total / 1e9 == pytest.approx(with_attention, abs=0.005)


@pytest.mark.parametrize(("kept", "published"), [(196, 189.3), (79, 83.3)])
def test_flops_of_mac_in_the_paper_s_convention_are_within_half_a_percent_of_its_table_4(
    kept: int, published: float
):
    flops = forward_flops(MAC, frames=4, visible=kept, text_tokens=128, embedded=196)
    assert flops.linear / 1e9 == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("kept", "linear", "with_attention"), [(196, 178.72, 184.62), (79, 72.72, 73.74)])
def test_flops_of_the_video_tower_alone(kept: int, linear: float, with_attention: float):
    flops = video_flops(MAC.video, frames=4, visible=kept, embedded=196)
    assert flops.linear / 1e9 == pytest.approx(linear, abs=0.005)
    assert flops.total / 1e9 == pytest.approx(with_attention, abs=0.005)


def test_flops_as_executed_embed_only_what_is_visible():
    everything = forward_flops(MAC, frames=4, visible=79, text_tokens=128, embedded=196)
    executed = forward_flops(MAC, frames=4, visible=79, text_tokens=128)
    assert everything.linear - executed.linear == 2 * 4 * (196 - 79) * 768 * 768
    assert executed.linear / 1e9 == pytest.approx(83.04, abs=0.01)


@pytest.mark.usefixtures("attention_in_groups")
@pytest.mark.parametrize(("frames", "visible", "tokens"), [(4, 5, 9), (2, 16, 3), (1, 4, 12)])
def test_flops_by_formula_are_what_torch_counts(frames: int, visible: int, tokens: int):
    model = DualEncoder(SMALL, Data(image_size=32, max_caption_tokens=12), 50, pad_token=0)
    clips = torch.zeros(1, frames, 3, 32, 32, dtype=torch.uint8)
    mask = torch.arange(visible) + 16 * torch.arange(frames)[None, :, None]
    caption = torch.ones(1, tokens, dtype=torch.long)

    def counted(*, video: bool, text: bool) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if video:
                model.encode_video(clips, mask)
            if text:
                model.encode_text(caption, caption.bool())
        return int(counter.get_total_flops())

    heads = head_flops(SMALL)
    video = video_flops(SMALL.video, frames, visible, embedded=visible)
    text = text_flops(SMALL.text, tokens)
    assert counted(video=True, text=True) == forward_flops(SMALL, frames, visible, tokens).total
    assert forward_flops(SMALL, frames, visible, tokens) == video + text + heads
    assert counted(video=True, text=False) == video.total + 2 * 10 * 16
    assert counted(video=False, text=True) == text.total + 2 * 10 * 24


@pytest.mark.usefixtures("attention_in_groups")
@pytest.mark.parametrize("frames", [1, 3])
def test_class_attention_takes_the_flops_that_torch_counts(frames: int):
    model = DualEncoder(SMALL, Data(image_size=32, max_caption_tokens=12), 50, pad_token=0)
    clips = torch.zeros(1, frames, 3, 32, 32, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.class_attention(clips)
    assert counter.get_total_flops() == class_attention_flops(SMALL.video, frames, 16).total


def test_flops_add_up_by_kind():
    assert Flops(1, 2) + Flops(10, 20) == Flops(11, 22)
    assert Flops(11, 22).total == 33
