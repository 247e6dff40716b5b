"""The two towers together: what comes out, what the seed decides, how large the paper's model is."""

from dataclasses import replace

import pytest
import torch

from mac_ray.config import Data, Model, TextTower, VideoTower
from mac_ray.model.dual import DualEncoder, build_model, tower_of
from mac_ray.model.views import Inputs

VOCABULARY = 50
DATA = Data(image_size=16, max_caption_tokens=12)
SMALL = Model(
    video=VideoTower(patch_size=8, width=16, depth=2, num_heads=2),
    text=TextTower(width=24, depth=1, num_heads=2),
    embedding_size=10,
)
PAPER = Model(
    video=VideoTower(patch_size=16, width=768, depth=12, num_heads=12),
    text=TextTower(width=768, depth=6, num_heads=12),
    embedding_size=256,
)


def small(seed: int = 0) -> DualEncoder:
    return build_model(SMALL, DATA, VOCABULARY, pad_token=0, seed=seed)


def inputs(batch: int = 3, frames: int = 2) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, VOCABULARY, (batch, 9), generator=generator)
    return Inputs(
        clips=torch.randint(0, 256, (batch, frames, 3, 16, 16), generator=generator, dtype=torch.uint8),
        visible=torch.rand(batch, frames, 4, generator=generator).argsort(-1)[..., :2]
        + 4 * torch.arange(frames)[:, None],
        tokens=tokens,
        attended=torch.ones(batch, 9, dtype=torch.bool),
        caption=tokens,
        caption_attended=torch.ones(batch, 9, dtype=torch.bool),
        rows=torch.arange(batch),
        samples=torch.arange(batch),
        draws=torch.rand(batch, 2, generator=generator),
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_embeddings_have_unit_length_in_single_precision_in_one_space(autocast: bool):
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        views = small()(inputs())
    for embedded in (views.video, views.text):
        assert embedded.shape == (3, 10)
        assert embedded.dtype == torch.float32
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))


def test_views_hold_the_tokens_that_the_embeddings_are_made_of():
    model, given = small().eval(), inputs()
    views = model(given)
    assert views.patches.shape == (3, 1 + 2 * 2, 16)
    assert views.words.shape == (3, 9, 24)
    assert torch.equal(views.video, model.encode_video(given.clips, given.visible))
    assert torch.equal(views.text, model.encode_text(given.tokens, given.attended))
    every = torch.arange(2 * 4).view(2, 4).expand(3, -1, -1)
    whole = model(replace(given, visible=every))
    torch.testing.assert_close(whole.video, model.encode_video(given.clips))


def test_heads_are_those_of_frozen_in_time():
    model, given = small().eval(), inputs()
    pixels = given.clips.double() / 255
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        pixels[:, :, channel] = (pixels[:, :, channel] - mean) / std
    clip = model.video_model(pixels.float(), given.visible)[:, 0]
    caption = model.text_model(given.tokens, given.attended.long()).last_hidden_state[:, 0]
    linear = model.txt_proj[1]
    expected = (
        clip @ model.vid_proj.weight.T + model.vid_proj.bias,
        caption.clamp(min=0) @ linear.weight.T + linear.bias,
    )
    views = model(given)
    for found, raw in zip((views.video, views.text), expected, strict=True):
        torch.testing.assert_close(found, raw / raw.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_weights_are_a_function_of_the_seed_and_not_of_the_global_state():
    torch.manual_seed(1)
    first = small(seed=4).state_dict()
    torch.manual_seed(2)
    again, other = small(seed=4).state_dict(), small(seed=5).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not torch.equal(first["vid_proj.weight"], other["vid_proj.weight"])


def test_building_a_model_leaves_the_global_random_state_as_it_was():
    before = torch.get_rng_state()
    small()
    assert torch.equal(before, torch.get_rng_state())


def test_every_parameter_is_reached_by_the_gradient():
    model = small()
    views = model(inputs())
    (views.video[:, 0].sum() + views.text[:, 0].sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_every_parameter_belongs_to_one_of_three_groups():
    groups = {name: tower_of(name) for name, _ in small().named_parameters()}
    assert groups["video_model.cls_token"] == "video"
    assert groups["text_model.embeddings.word_embeddings.weight"] == "text"
    assert {name for name, group in groups.items() if group == "heads"} == {
        "vid_proj.weight",
        "vid_proj.bias",
        "txt_proj.1.weight",
        "txt_proj.1.bias",
    }


def test_parameters_of_mac_are_those_counted_from_its_published_parts():
    with torch.device("meta"):
        model = DualEncoder(PAPER, Data(image_size=224, max_caption_tokens=512), 30522, pad_token=0)
    counts = dict.fromkeys(("video", "text", "heads"), 0)
    for name, parameter in model.named_parameters():
        counts[tower_of(name)] += parameter.numel()
    assert counts == {"video": 114_168_576, "text": 66_362_880, "heads": 2 * 196_864}
    assert sum(counts.values()) == 180_925_184
