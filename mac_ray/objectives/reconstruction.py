"""MVM: the hidden patches, predicted from the visible ones (MAC section 4.3; He et al. 2022 for the decoder).

b samples, F frames, N patches per frame, F' V of the F N visible and M hidden, D width of the tower, W of the decoder.

The target is the patch's own pixels, normalised per patch, or what an average of the tower's past weights (the
teacher) makes of it when nothing is hidden. The paper names no decoder: this is MAE's, over all frames at once.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import Model, Reconstruction, value_at
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import TRAINING_FACTOR, video_flops
from mac_ray.model.video import grid_sinusoids, patchified, sinusoids
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.blocks import Block, block_flops, initialise, linear_flops
from mac_ray.objectives.position import PositionObjective, StepShape

SMALLEST_VARIANCE = 1e-6  # of a patch's pixels: one of a single colour has none


class ReconstructionObjective(PositionObjective):
    places: Tensor

    def __init__(self, section: Reconstruction, model: DualEncoder, generator: torch.Generator) -> None:
        super().__init__()
        self.section = section
        tower = model.video_model
        width = decoder_width(section, tower.cls_token.shape[-1])
        predicted = 3 * tower.patch_size**2 if section.target == "pixels" else tower.cls_token.shape[-1]
        self.embed = nn.Linear(tower.cls_token.shape[-1], width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("places", grid_sinusoids(tower.grid, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width) for _ in range(section.depth))
        self.norm = nn.LayerNorm(width)
        # by what is predicted, for where sizes agree one would go on as the other in the next stage
        self.heads = nn.ModuleDict({section.target: nn.Linear(width, predicted)})
        initialise(self, generator)
        self.teacher = copy.deepcopy(tower).requires_grad_(False) if section.target == "latent" else None

    def positions(self, inputs: Inputs) -> int:
        """b M, the hidden patches."""
        batch, frames = inputs.clips.shape[:2]
        return batch * frames * len(self.places) - inputs.visible.numel()

    def forward(self, model: DualEncoder, views: Views, inputs: Inputs) -> Tensor:
        """The sum over hidden patches of each one's mean error."""
        hidden = hidden_patches(inputs.visible, inputs.clips.shape[1] * len(self.places))
        predicted = self.predicted(views.patches, inputs.visible, hidden).float()
        if self.teacher is None:
            target = self.pixels(model, inputs.clips, hidden)
            return F.mse_loss(predicted, target, reduction="none").mean(dim=-1).sum()
        with torch.no_grad():
            features = self.teacher(inputs.clips)[:, 1:].float()
            target = F.layer_norm(_gathered(features, hidden), features.shape[-1:])
        return F.l1_loss(predicted, target, reduction="none").mean(dim=-1).sum()

    def pixels(self, model: DualEncoder, clips: Tensor, hidden: Tensor) -> Tensor:
        """Of the hidden patches, with mean 0 and variance 1 in each: (b, M, 3 P²)."""
        side = model.video_model.patch_size
        every = patchified(clips, side).flatten(1, 2)  # (b, F N, 3 P²)
        raw = _gathered(every, hidden)  # as bytes, a quarter of what numbers would take
        return F.layer_norm(model.video_model.normalised(raw), (3 * side**2,), eps=SMALLEST_VARIANCE)

    def predicted(self, patches: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """The tower's tokens (b, 1 + F' V, D), their numbers and those asked for -> (b, M, what is predicted)."""
        known = self.embed(patches)
        numbers = torch.cat((visible.flatten(1), hidden), dim=1)  # (b, F N), each once
        unknown = self.mask_token.expand(*hidden.shape, -1)
        tokens = torch.cat(
            (known[:, :1], torch.cat((known[:, 1:], unknown), dim=1) + self._places(numbers)), dim=1
        )
        for block in self.blocks:
            tokens = block(tokens)
        answers: Tensor = self.heads[self.section.target](self.norm(tokens[:, known.shape[1] :]))
        return answers

    def _places(self, numbers: Tensor) -> Tensor:
        """Numbers (b, F N) of all patches -> what says their place and time (b, F N, W)."""
        patches, width = self.places.shape
        times = sinusoids(torch.arange(numbers.shape[1] // patches, device=numbers.device), width)
        return self.places[numbers % patches] + times[numbers // patches]

    @torch.no_grad()
    def after_step(self, model: DualEncoder, progress: float) -> None:
        """The teacher follows the tower."""
        if self.teacher is not None:
            follow = 1 - value_at(self.section.teacher_momentum, progress)
            for average, now in zip(self.teacher.parameters(), model.video_model.parameters(), strict=True):
                average.lerp_(now, follow)


def decoder_width(section: Reconstruction, tower_width: int) -> int:
    return section.width or tower_width // 2


def hidden_patches(visible: Tensor, patches: int) -> Tensor:
    """Of the `patches` of a clip the numbers that `visible` (b, F', V) leaves out, in order: (b, M)."""
    numbers = visible.flatten(1)
    seen = torch.zeros(len(numbers), patches, dtype=torch.bool, device=visible.device)
    seen.scatter_(1, numbers, True)
    return seen.to(torch.uint8).argsort(dim=1, stable=True)[:, : patches - numbers.shape[1]]


def training_flops(section: Reconstruction, model: Model, shape: StepShape) -> int:
    """Per sample, forward and backward; the teacher only goes forward."""
    tower_width, patch_pixels = model.video.width, 3 * model.video.patch_size**2
    width = decoder_width(section, tower_width)
    every, visible = shape.clip_frames * shape.patches, shape.frames * shape.visible
    seen, hidden = 1 + visible, every - visible
    predicted = patch_pixels if section.target == "pixels" else tower_width
    cost = linear_flops(tower_width, width, seen) + linear_flops(width, predicted, hidden)
    cost += section.depth * block_flops(width, 1 + every)
    if section.target == "pixels":
        return TRAINING_FACTOR * cost.total
    return (
        TRAINING_FACTOR * cost.total
        + video_flops(model.video, shape.clip_frames, shape.patches, shape.patches).total
    )


def _gathered(rows: Tensor, indices: Tensor) -> Tensor:
    """(b, F N, …) at (b, M) -> (b, M, …)."""
    return rows.gather(1, indices[..., None].expand(-1, -1, rows.shape[-1]))
