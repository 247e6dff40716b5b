"""Weights of other towers as this video tower holds them: a timm image ViT, or a divided space-time ViT.

An image ViT gives everything but time, which then starts as model.video.temporal_init says. Its pixels were
normalised in one of two ways, model.video.pixels; the wrong one is warned about, because it costs without failing.

F frames, N patches of a grid, D width, P patch size.
"""

import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mac_ray.config import ConfigError, VideoTower
from mac_ray.model.positions import inflate_time, resize_grid
from mac_ray.model.video import PIXELS, TEMPORAL_INITS, DividedVideoTransformer
from mac_ray.model.weights import Weights, fill, read_weights, require_sizes

PLACE = "model.video.pretrained"
log = logging.getLogger(__name__)

LOCAL_NAMES = ("model.safetensors", "pytorch_model.bin")  # what timm and the hub call weights in a folder
VIT_HEAD = 64  # width of a head, whatever the size of the ViT
CLASSIFIER = ("head.", "head_dist.", "pre_logits.", "fc_norm.")  # behind the class token
NEEDED = (
    *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"),
    *("norm.weight", "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"),
)
PLAIN = re.compile(
    r"cls_token|pos_embed|(patch_embed\.proj|norm|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12]))"
    r"\.(weight|bias)"
)
TEMPORAL = re.compile(r"blocks\.\d+\.(timeattn|norm3)\.|temporal_embed$|_extra_state$")
TRAINED_FRAMES = "_extra_state"  # torch's name for what the tower keeps beside its weights


@dataclass(frozen=True)
class ImageTower:
    """An image ViT under this tower's names, in its own sizes."""

    weights: Weights
    num_heads: int | None  # None: the file does not say
    pixels: tuple[Sequence[float], Sequence[float]] | None  # mean and deviation; None: the file does not say


def read_image_tower(source: str) -> ImageTower:
    """By timm name, with its tag, or from a file or folder in timm's format.

    Raises ConfigError for what is none of these, or no ViT with a class token.
    """
    path = Path(source)
    if path.is_dir():
        files = [path / name for name in LOCAL_NAMES if (path / name).is_file()]
        if not files:
            raise ConfigError(f"{PLACE} = {source!r}: the folder has neither {' nor '.join(LOCAL_NAMES)}")
        return ImageTower(_named(read_weights(files[0], PLACE), source), None, _recorded_pixels(path))
    if path.is_file():
        return ImageTower(_named(read_weights(path, PLACE), source), None, None)
    import timm  # seconds to import, and only runs that start from images need it

    try:
        model = timm.create_model(source, pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigError(
            f"{PLACE} = {source!r}: neither a file or folder, nor a ViT that timm has or can reach "
            f"({str(error).splitlines()[0]}); give timm's name with its tag, or a local copy of the weights"
        ) from error
    if not isinstance(model, timm.models.VisionTransformer):
        raise ConfigError(
            f"{PLACE} = {source!r} is a {type(model).__name__}, no plain ViT; give one such as "
            "vit_base_patch16_224.orig_in21k_ft_in1k"
        )
    cfg = model.pretrained_cfg
    heads = int(model.blocks[0].attn.num_heads)
    return ImageTower(_named(model.state_dict(), source), heads, (cfg["mean"], cfg["std"]))


def _named(weights: Weights, source: str) -> Weights:
    """timm's names are Frozen's and therefore the tower's; layer scales are multiplied into what they scale."""
    named = {name: tensor for name, tensor in weights.items() if not name.startswith(CLASSIFIER)}
    scales = {name: named.pop(name) for name in list(named) if name.endswith((".ls1.gamma", ".ls2.gamma"))}
    for name, scale in scales.items():
        block, _, which = name.removesuffix(".gamma").rpartition(".")
        for part in ("weight", "bias"):
            scaled = f"{block}.{'attn.proj' if which == 'ls1' else 'mlp.fc2'}.{part}"
            named[scaled] = named[scaled] * (scale[:, None] if part == "weight" else scale)
    strange = [f"it has {name}" for name in named if not PLAIN.fullmatch(name)]
    lacking = [f"it lacks {name}" for name in NEEDED if name not in named]
    if strange or lacking:
        raise ConfigError(
            f"{PLACE} = {source!r} is no plain ViT with a class token in timm's format, {(strange + lacking)[0]}; "
            "give one such as vit_base_patch16_224.orig_in21k_ft_in1k"
        )
    positions = named["pos_embed"]
    if (
        math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]
    ):  # of DeiT III and FlexiViT, the class token has none
        named["pos_embed"] = F.pad(positions, (0, 0, 1, 0))
    return named


def _recorded_pixels(folder: Path) -> tuple[Sequence[float], Sequence[float]] | None:
    """What timm's config.json beside the weights says of their normalisation."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        recorded = json.loads(file.read_text())
    except ValueError as error:
        raise ConfigError(f"{PLACE}: {file} is no JSON ({error}); fetch it again or remove it") from error
    recorded = recorded.get("pretrained_cfg", recorded)
    return (recorded["mean"], recorded["std"]) if {"mean", "std"} <= recorded.keys() else None


# ---------------------------------------------------------------- into the tower


def start_from_image(tower: DividedVideoTransformer, section: VideoTower, image: ImageTower) -> None:
    """Space from the image ViT; time as section.temporal_init says, over a temporal embedding of zeros.

    That embedding is Frozen's: sinusoids, with which towers from scratch start, would drown imported positions.
    Raises ConfigError for other sizes.
    """
    source = f"{PLACE} = {section.pretrained!r}"
    width = image.weights["cls_token"].shape[-1]
    given = {"width": section.width, "depth": section.depth}
    require_sizes("model.video", source, given, {"width": width, "depth": depth_of(image.weights)})
    if image.num_heads is not None:
        require_sizes("model.video", source, {"num_heads": section.num_heads}, {"num_heads": image.num_heads})
    elif width % VIT_HEAD == 0 and section.num_heads * VIT_HEAD != width:
        log.warning(
            "%s does not say how many heads it has, and model.video.num_heads=%d makes them %g wide, where a ViT's "
            "are %d: with other heads than it was trained with, it computes other things",
            source,
            section.num_heads,
            width / section.num_heads,
            VIT_HEAD,
        )
    if image.pixels is not None:
        mean, deviation = PIXELS[section.pixels]
        if tuple(image.pixels[0]) != mean or tuple(image.pixels[1]) != deviation:
            log.warning(
                "%s was trained on pixels of mean %s and deviation %s, but model.video.pixels is %s (%s and %s)",
                *(source, *image.pixels, section.pixels, mean, deviation),
            )
    own = tower.state_dict()
    time = {name: own[name] for name in own if TEMPORAL.search(name)}
    time["temporal_embed"] = torch.zeros_like(own["temporal_embed"])
    fill(tower, fitted(image.weights | time, section, tower.grid, source), source)
    TEMPORAL_INITS[section.temporal_init](tower)


def fitted(weights: Weights, section: VideoTower, grid: tuple[int, int], source: str) -> Weights:
    """A divided tower's weights, Frozen's names or this one's, at the patch size, grid and frames of `section`.

    Patch embeddings are resampled as FlexiViT does (timm), positions bicubically. The tower is told which of its
    temporal rows were trained, all of Frozen's, and inflates from these when a clip has more frames.
    Raises ConfigError when the positions are those of no square grid.
    """
    fitted = {name: tensor for name, tensor in weights.items() if not name.startswith("patch_embed.")}
    name = "patch_embed.proj" if "patch_embed.proj.weight" in weights else "patch_embed"
    fitted["patch_embed.weight"] = _patches(weights[f"{name}.weight"], section.patch_size)
    fitted["patch_embed.bias"] = weights[f"{name}.bias"]
    try:
        fitted["pos_embed"] = resize_grid(weights["pos_embed"], grid)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}; give a tower of square pictures") from error
    times = weights["temporal_embed"]
    trained = int(weights[TRAINED_FRAMES]) if TRAINED_FRAMES in weights else times.shape[1]
    fitted["temporal_embed"] = inflate_time(times, section.max_frames, "zeros")
    fitted[TRAINED_FRAMES] = torch.tensor(min(trained, section.max_frames))
    return fitted


def _patches(weight: Tensor, patch_size: int) -> Tensor:
    """A convolution (D, 3, P', P') or linear layer (D, 3 P'²) over patches as a linear one (D, 3 P²)."""
    from timm.layers.patch_embed import resample_patch_embed

    side = round((weight[0].numel() / 3) ** 0.5)
    kernels = weight.reshape(len(weight), 3, side, side)
    resampled: Tensor = resample_patch_embed(kernels, [patch_size, patch_size])
    return rearrange(resampled, "d c p q -> d (c p q)")


def depth_of(weights: Weights) -> int:
    """Blocks of a tower."""
    return len({name.split(".")[1] for name in weights if name.startswith("blocks.")})


def time_is_uniform(weights: Weights) -> bool:
    """Whether all temporal queries and keys are zero: attention is then a plain average, and stays one."""
    temporal = [
        tensor for name, tensor in weights.items() if re.search(r"timeattn\.qkv\.(weight|bias)$", name)
    ]
    return bool(temporal) and not any(tensor.chunk(3)[part].any() for tensor in temporal for part in (0, 1))
