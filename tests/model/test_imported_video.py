"""The video tower started from image ViTs that timm made, against what timm computes."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import ConfigError, VideoTower
from mac_ray.model.imported_video import read_image_tower, start_from_image
from mac_ray.model.video import DividedVideoTransformer

SIZES = {"width": 16, "depth": 2, "num_heads": 2, "patch_size": 4}
IMAGE_SIZE = 16


def image_vit(**options: Any) -> nn.Module:
    """A tiny ViT in timm's own code with random values everywhere, norms and biases included."""
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": IMAGE_SIZE, "patch_size": 4}
    model = timm.create_model("vit_tiny_patch16_224", **(sizes | {"num_classes": 5} | options))
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def saved(model: nn.Module, path: Path) -> str:
    save_file(model.state_dict(), path)
    return str(path)


def started(source: str, image_size: int = IMAGE_SIZE, **section: Any) -> DividedVideoTransformer:
    video = VideoTower(pretrained=source, **(SIZES | section))
    torch.manual_seed(1)
    tower = DividedVideoTransformer(video, image_size)
    start_from_image(tower, video, read_image_tower(source))
    return tower


def images_of(size: int = IMAGE_SIZE, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temporal_init", ["copy_spatial", "frozen_zeros"])
def test_tower_from_an_image_vit_sees_one_frame_as_timm_does(tmp_path: Path, temporal_init: str) -> None:
    vit = image_vit()
    tower = started(saved(vit, tmp_path / "vit.safetensors"), temporal_init=temporal_init)
    expected = vit.forward_features(images_of())
    torch.testing.assert_close(tower(images_of()[:, None]), expected, rtol=1e-5, atol=1e-5)


def test_tower_from_an_image_vit_sees_patches_of_each_frame_as_timm_does_until_time_is_learned(
    tmp_path: Path,
) -> None:
    """One block, because the class token of the next sees all frames."""
    vit = image_vit(depth=1)
    tower = started(saved(vit, tmp_path / "vit.safetensors"), depth=1)
    clip = images_of()[None]  # its three images as three frames
    patches = tower(clip)[0, 1:].unflatten(0, (3, -1))
    torch.testing.assert_close(patches, vit.forward_features(clip[0])[:, 1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["vit.pth", "vit.bin", "folder/model.safetensors", "folder/pytorch_model.bin"]
)
def test_tower_is_the_same_from_every_local_form_of_a_checkpoint(tmp_path: Path, name: str) -> None:
    vit = image_vit()
    expected = started(saved(vit, tmp_path / "vit.safetensors")).state_dict()
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(vit.state_dict(), path)
    else:
        torch.save(vit.state_dict(), path)
    source = path.parent if name.startswith("folder") else path
    found = started(str(source)).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("image_size", [24, 8])
def test_tower_of_another_input_size_has_positions_as_timm_resizes_them(
    tmp_path: Path, image_size: int
) -> None:
    vit = image_vit()
    tower = started(saved(vit, tmp_path / "vit.safetensors"), image_size=image_size)
    vit.set_input_size((image_size, image_size))
    images = images_of(image_size)
    torch.testing.assert_close(tower(images[:, None]), vit.forward_features(images), rtol=1e-4, atol=1e-4)


def test_tower_of_another_patch_size_embeds_a_picture_of_that_scale_alike(tmp_path: Path) -> None:
    """Twice the patch on twice the picture gives nearly the same embedding, where pixels are smooth."""
    source = saved(image_vit(), tmp_path / "vit.safetensors")
    small, large = started(source), started(source, image_size=32, patch_size=8)
    picture = F.interpolate(images_of(4), IMAGE_SIZE, mode="bilinear")
    doubled = F.interpolate(picture, 32, mode="bilinear")
    expected, found = small(picture[:, None])[:, 0], large(doubled[:, None])[:, 0]
    assert F.cosine_similarity(expected, found).min() > 0.99
    assert torch.equal(small.pos_embed, large.pos_embed)


def test_class_token_without_a_position_has_none(tmp_path: Path) -> None:
    """As in DeiT III and FlexiViT."""
    vit = image_vit(no_embed_class=True)
    assert vit.state_dict()["pos_embed"].shape == (1, 16, 16)
    tower = started(saved(vit, tmp_path / "vit.safetensors"))
    expected = vit.forward_features(images_of())
    torch.testing.assert_close(tower(images_of()[:, None]), expected, rtol=1e-5, atol=1e-5)


def test_layer_scales_are_multiplied_into_the_layers(tmp_path: Path) -> None:
    vit = image_vit(init_values=0.1)
    assert "blocks.0.ls1.gamma" in vit.state_dict()
    tower = started(saved(vit, tmp_path / "vit.safetensors"))
    expected = vit.forward_features(images_of())
    torch.testing.assert_close(tower(images_of()[:, None]), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- how time starts


def test_time_of_copy_spatial_is_space_and_silent(tmp_path: Path) -> None:
    tower = started(saved(image_vit(), tmp_path / "vit.safetensors"), temporal_init="copy_spatial")
    assert torch.count_nonzero(tower.temporal_embed) == tower.trained_frames == 0
    for block in tower.blocks:
        for space, time in ((block.attn.qkv, block.timeattn.qkv), (block.norm1, block.norm3)):
            assert torch.equal(space.weight, time.weight)
            assert torch.equal(space.bias, time.bias)
        assert torch.count_nonzero(block.timeattn.proj.weight) == 0


def test_time_of_frozen_zeros_is_that_of_frozen(tmp_path: Path) -> None:
    tower = started(saved(image_vit(), tmp_path / "vit.safetensors"), temporal_init="frozen_zeros")
    assert torch.count_nonzero(tower.temporal_embed) == 0
    for block in tower.blocks:
        assert torch.count_nonzero(block.timeattn.qkv.weight) == 0
        assert torch.count_nonzero(block.timeattn.qkv.bias) == 0
        assert torch.equal(block.timeattn.proj.weight, torch.ones_like(block.timeattn.proj.weight))
        assert torch.count_nonzero(block.timeattn.proj.bias) == 0
        assert torch.equal(block.norm3.weight, torch.ones_like(block.norm3.weight))


def test_time_of_random_init_is_drawn_and_not_of_the_checkpoint(tmp_path: Path) -> None:
    tower = started(saved(image_vit(), tmp_path / "vit.safetensors"), temporal_init="random")
    for block in tower.blocks:
        assert not torch.equal(block.timeattn.qkv.weight, block.attn.qkv.weight)
        assert block.timeattn.proj.weight.std() > 0


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize(("pixels", "warned"), [("half", False), ("imagenet", True)])
def test_other_pixels_than_the_checkpoint_was_trained_on_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pixels: str, warned: bool
) -> None:
    save_file(image_vit().state_dict(), tmp_path / "model.safetensors")
    recorded = {"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    with caplog.at_level(logging.WARNING):
        started(str(tmp_path), pixels=pixels)
    assert bool(caplog.records) == warned


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("sizes", [{"width": 32}, {"depth": 3}])
def test_image_vit_of_other_sizes_is_refused_with_both_sizes(tmp_path: Path, sizes: dict[str, int]) -> None:
    (name, value), *_ = sizes.items()
    with pytest.raises(
        ConfigError, match=rf"model\.video says .*'{name}': {value}.*has .*'{name}': {SIZES[name]}"
    ):
        started(saved(image_vit(), tmp_path / "vit.safetensors"), **sizes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_token": False, "global_pool": "avg"}, "it lacks cls_token"),
        ({"pre_norm": True}, r"it has norm_pre"),
        ({"reg_tokens": 2}, "it has reg_token"),
        ({"qkv_bias": False}, r"it lacks blocks\.0\.attn\.qkv\.bias"),
    ],
)
def test_vit_of_another_kind_is_refused_by_what_it_has_or_lacks(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"model\.video\.pretrained = .*{said}"):
        started(saved(image_vit(**options), tmp_path / "vit.safetensors"))


def test_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = saved(timm.create_model("resnet10t"), tmp_path / "resnet.safetensors")
    with pytest.raises(ConfigError, match=r"no plain ViT with a class token .*it has "):
        started(path)


def test_name_that_timm_does_not_have_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'vit_of_nobody': neither a file or folder, nor a ViT that timm has"
    ):
        started("vit_of_nobody")


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        started(str(tmp_path))
