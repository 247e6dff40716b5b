"""A batch of clips as masking leaves it.

b samples of the global batch B on this rank, F frames, F' of them seen, N patches per frame, V visible.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mac_ray.config import VideoMasking
from mac_ray.model.dual import DualEncoder
from mac_ray.model.masking.guidance import GUIDES
from mac_ray.model.masking.video import Grid, Subject, seen_of, visible_patches


class ClipView(NamedTuple):
    clips: Tensor  # (b, F, 3, S', S') uint8; S' is below S for the control `resize`
    # (b, F', V), where it was drawn, on the CPU: patch p of frame f of these clips has the number f N + p
    visible: Tensor


def view_of_clips(
    section: VideoMasking,
    ratio: float,
    clips: Tensor,
    model: DualEncoder,
    generator: torch.Generator,
    batch: int | None = None,
    rows: slice | list[int] = slice(None),
    pieces: int = 1,
) -> ClipView:
    """clips (b, F, 3, S, S) uint8 are `rows` of the B of the global batch (None: they are all of it).

    What computes with the model or with floating-point pixels takes them in so many pieces.
    """
    batch, frames = batch or len(clips), clips.shape[1]
    seen = seen_of(section, ratio, frames, model.grid)
    scores = None
    if section.strategy in GUIDES:
        guide = GUIDES[section.strategy]
        with torch.no_grad():
            own = torch.cat([guide(model, piece) for piece in clips.tensor_split(pieces)])
        # the others' rows stay zero: chance is drawn for the global batch, but only the own rows are kept
        scores = torch.zeros(batch, *own.shape[1:])
        scores[rows] = own.float().cpu()
    subject = Subject(batch, frames, seen, section, scores)
    visible = visible_patches(subject, generator)[rows]
    if seen.grid != model.grid:  # in pieces too, as it is done in fp32
        clips = torch.cat([_resized(piece, seen.grid, model) for piece in clips.tensor_split(pieces)])
    return ClipView(clips, visible)


def _resized(clips: Tensor, grid: Grid, model: DualEncoder) -> Tensor:
    size = [side * model.video_model.patch_size for side in grid]
    pixels = F.interpolate(clips.flatten(0, 1).float(), size, mode="bilinear", antialias=True)
    return pixels.round().to(torch.uint8).view(*clips.shape[:3], *size)
