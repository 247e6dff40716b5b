"""Scores of patches by what they show, for the strategies that go by them.

b samples, F frames, N patches per frame, S pixels.

A guide sees the whole clips that are about to be masked and computes without gradients. The teacher of the
attention strategies is the tower in training itself, as it is at this step.
"""

from collections.abc import Callable

import torch
from einops import rearrange, reduce
from torch import Tensor

from mac_ray.config import VideoMasking, VideoTower
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import Flops, class_attention_flops

Guide = Callable[[DualEncoder, Tensor], Tensor]


def attention(model: DualEncoder, clips: Tensor) -> Tensor:
    """Where the class token looks in the last spatial attention, mean over heads: (b, F, N), all of it positive."""
    return model.class_attention(clips)


def motion(model: DualEncoder, clips: Tensor) -> Tensor:
    """Mean absolute difference to the frame before, of the first frame to the one after: (b, F, N)."""
    # uint8 would wrap around
    steps = clips.to(torch.int16).diff(dim=1).abs().float()
    steps = torch.cat((steps[:, :1], steps), dim=1)  # (b, F, 3, S, S)
    patch = model.video_model.patch_size
    patches = reduce(steps, "b f c (y p) (x q) -> b f y x", "mean", p=patch, q=patch)
    return rearrange(patches, "b f y x -> b f (y x)")


GUIDES: dict[str, Guide] = {
    "attention_keep_high": attention,
    "attention_hide_high": attention,
    "attention_hide_low": attention,
    "motion": motion,
}


def guidance_flops(section: VideoMasking, tower: VideoTower, frames: int, patches: int) -> Flops:
    """Per sample, of the forward pass that comes before masking. Differences of pixels are no linear layer."""
    if GUIDES.get(section.strategy) is attention:
        return class_attention_flops(tower, frames, patches)
    return Flops(0, 0)
