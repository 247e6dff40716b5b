"""Scores of patches, and clips as masking leaves them."""

import pytest
import torch
from torch import Tensor

from mac_ray.config import Data, Model, TextTower, VideoMasking, VideoTower
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.masking import VIDEO_STRATEGIES, view_of_clips
from mac_ray.model.masking.guidance import GUIDES

PATCH, SIDE, FRAMES = 4, 4, 3  # a grid of 4 x 4 patches
PATCHES = SIDE * SIDE


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    section = Model(
        video=VideoTower(patch_size=PATCH, width=16, depth=2, num_heads=2, max_frames=4),
        text=TextTower(width=16, depth=1, num_heads=2),
        embedding_size=8,
    )
    return build_model(section, Data(image_size=PATCH * SIDE), vocabulary_size=30, pad_token=0, seed=0)


def clips_of(batch: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = PATCH * SIDE
    return torch.randint(0, 256, (batch, FRAMES, 3, size, size), generator=generator, dtype=torch.uint8)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_motion_is_the_mean_absolute_difference_by_plain_loops(model: DualEncoder) -> None:
    clips = clips_of(2)
    found = GUIDES["motion"](model, clips)
    assert found.shape == (2, FRAMES, PATCHES)
    for clip in range(2):
        for frame in range(FRAMES):
            now, then = max(frame, 1), max(frame, 1) - 1  # the first frame is compared with the second
            for patch in range(PATCHES):
                y, x = (place * PATCH for place in divmod(patch, SIDE))
                values = [
                    abs(int(clips[clip, now, c, y + i, x + j]) - int(clips[clip, then, c, y + i, x + j]))
                    for c in range(3)
                    for i in range(PATCH)
                    for j in range(PATCH)
                ]
                assert float(found[clip, frame, patch]) == pytest.approx(sum(values) / len(values))


def test_motion_keeps_the_patches_a_square_moves_through(model: DualEncoder) -> None:
    """A dark square goes from patch 5 to 6 to 10 over a bright, still ground."""
    clips = torch.full((1, FRAMES, 3, 16, 16), 250, dtype=torch.uint8)
    for frame, patch in enumerate((5, 6, 10)):
        y, x = (place * PATCH for place in divmod(patch, SIDE))
        clips[0, frame, :, y : y + PATCH, x : x + PATCH] = 3
    masking = VideoMasking(strategy="motion")
    _, visible = view_of_clips(masking, 14 / 16, clips, model, drawn())
    seen = [{number % PATCHES for number in frame} for frame in visible[0].tolist()]
    assert seen == [{5, 6}, {5, 6}, {6, 10}]


def test_attention_is_positive_and_leaves_a_share_to_the_class_token(model: DualEncoder) -> None:
    scores = GUIDES["attention_hide_low"](model, clips_of())
    assert scores.shape == (5, FRAMES, PATCHES)
    assert (scores > 0).all()
    assert (scores.sum(dim=(1, 2)) < 1).all()


@pytest.mark.parametrize("keeps_high", [True, False])
def test_attention_guides_by_the_model_as_it_is(model: DualEncoder, keeps_high: bool) -> None:
    clips = clips_of()
    masking = VideoMasking(strategy="attention_hide_low" if keeps_high else "attention_hide_high")
    _, visible = view_of_clips(masking, 0.75, clips, model, drawn())
    scores = model.class_attention(clips)
    for clip, own in zip(visible.tolist(), scores.tolist(), strict=True):
        for frame, numbers in enumerate(clip):
            ranked = sorted(range(PATCHES), key=lambda patch: own[frame][patch], reverse=keeps_high)
            assert {number - frame * PATCHES for number in numbers} == set(ranked[:4])


def test_guidance_leaves_no_gradient_and_no_trace_in_the_model(model: DualEncoder) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    view_of_clips(VideoMasking(strategy="attention_hide_low"), 0.75, clips_of(), model, drawn())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# ---------------------------------------------------------------- views


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_view_of_a_rank_is_its_rows_of_the_view_of_all(model: DualEncoder, strategy: str) -> None:
    clips, masking = clips_of(7), VideoMasking.model_validate({"strategy": strategy})
    whole = view_of_clips(masking, 0.5, clips, model, drawn())
    for rows in (slice(0, 3), slice(3, 5), slice(5, 7)):
        own = view_of_clips(masking, 0.5, clips[rows], model, drawn(), batch=7, rows=rows)
        assert torch.equal(own.visible, whole.visible[rows])
        assert torch.equal(own.clips, whole.clips[rows])
    in_pieces = view_of_clips(masking, 0.5, clips, model, drawn(), pieces=3)
    assert torch.equal(in_pieces.visible, whole.visible)


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_view_is_what_the_tower_takes_and_learns_from(model: DualEncoder, strategy: str) -> None:
    view = view_of_clips(VideoMasking.model_validate({"strategy": strategy}), 0.5, clips_of(), model, drawn())
    embedded = model.encode_video(*view)
    assert embedded.shape == (5, 8)
    assert torch.isfinite(embedded).all()


@pytest.mark.parametrize("strategy", sorted(set(VIDEO_STRATEGIES) - {"resize"}))
def test_clips_are_as_they_were_given_unless_resized(model: DualEncoder, strategy: str) -> None:
    clips = clips_of()
    assert (
        view_of_clips(VideoMasking.model_validate({"strategy": strategy}), 0.5, clips, model, drawn()).clips
        is clips
    )


def test_resize_averages_pixels_and_hides_none(model: DualEncoder) -> None:
    clips = clips_of()
    view = view_of_clips(VideoMasking(strategy="resize"), 0.75, clips, model, drawn())
    assert view.clips.dtype == torch.uint8
    assert view.clips.shape == (5, FRAMES, 3, 8, 8)
    assert (
        view.visible.tolist() == [[[frame * 4 + patch for patch in range(4)] for frame in range(FRAMES)]] * 5
    )
    flat = torch.full_like(clips, 77)
    assert (view_of_clips(VideoMasking(strategy="resize"), 0.75, flat, model, drawn()).clips == 77).all()
    # a fine checkerboard is grey from afar; without antialiasing it would be black or white
    fine = torch.zeros(1, 1, 3, 16, 16, dtype=torch.uint8)
    fine[..., ::2, ::2] = fine[..., 1::2, 1::2] = 200
    grey = view_of_clips(VideoMasking(strategy="resize"), 0.75, fine, model, drawn()).clips.float()
    assert (grey - 100).abs().max() < 15


@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_resize_to_the_nearest_grid_may_be_the_full_one(model: DualEncoder, ratio: float) -> None:
    clips = clips_of()
    view = view_of_clips(VideoMasking(strategy="resize"), ratio, clips, model, drawn())
    assert torch.equal(view.clips, clips)
    assert view.visible.shape == (5, FRAMES, PATCHES)
