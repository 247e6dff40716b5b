"""VTM: do this clip and this caption belong together? (ALBEF, Li et al. 2021, section 3.2)

b samples of one forward pass, L tokens, D width of the text tower.

Each clip is shown with its own caption and with a hard wrong one, each caption with its own clip and a hard
wrong one. Hard ones are drawn by how similar the two towers find them, among neighbours in the global batch: their
tokens are then on the same rank, where ALBEF looks for them too, and which rank that is makes no difference, as
long as ranks and passes take whole groups of neighbours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import Matching, Model
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import TRAINING_FACTOR
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.blocks import Block, block_flops, initialise, linear_flops
from mac_ray.objectives.position import PositionObjective, StepShape

PAIRS_PER_SAMPLE = 3  # its own, its clip with a wrong caption, its caption with a wrong clip


class MatchingObjective(PositionObjective):
    """A small encoder in which caption meets clip, and a verdict from its class token."""

    def __init__(self, section: Matching, model: DualEncoder, generator: torch.Generator) -> None:
        super().__init__()
        self.temperature, self.group_size = section.temperature, section.group_size
        width = model.text_model.config.hidden_size
        self.blocks = nn.ModuleList(Block(width, model.vid_proj.in_features) for _ in range(section.depth))
        self.norm = nn.LayerNorm(width)
        self.verdict = nn.Linear(width, 1)
        initialise(self, generator)

    def positions(self, inputs: Inputs) -> int:
        """Pairs: own ones, and wrong ones for samples that have another beside them."""
        has_wrong = wrong_ones(inputs, self.group_size).any(dim=1)
        return len(has_wrong) + (PAIRS_PER_SAMPLE - 1) * int(has_wrong.sum())

    def forward(self, model: DualEncoder, views: Views, inputs: Inputs) -> Tensor:
        """The sum over pairs of the binary cross-entropy of each."""
        wrong = wrong_ones(inputs, self.group_size)
        with torch.autocast(
            views.video.device.type, enabled=False
        ):  # bf16 would round cosines to steps of 0.004
            similarity = (
                views.video.detach().float() @ views.text.detach().float().T / self.temperature
            )  # (b, b)
        own = torch.arange(len(similarity), device=similarity.device)
        video = torch.cat((own, own, drawn(similarity.T, wrong, inputs.draws[:, 1])))
        text = torch.cat((own, drawn(similarity, wrong, inputs.draws[:, 0]), own))
        # not views.words[text], whose gradient several threads of a CPU sum in any order
        words, patches = views.words.index_select(0, text), views.patches.index_select(0, video)
        attended = inputs.attended[text][:, None, None]
        for block in self.blocks:
            words = block(words, attended, patches)
        verdicts = self.verdict(self.norm(words[:, 0]))[:, 0].float()  # (3 b,)
        belong = (torch.arange(len(text), device=text.device) < len(own)).float()
        losses = F.binary_cross_entropy_with_logits(verdicts, belong, reduction="none")
        has_wrong = wrong.any(dim=1)
        return (losses * torch.cat((torch.ones_like(has_wrong), has_wrong, has_wrong))).sum()


def wrong_ones(inputs: Inputs, group_size: int) -> Tensor:
    """(b, b): whether two rows are neighbours and of different samples."""
    group = inputs.rows // group_size
    return (group[:, None] == group) & (inputs.samples[:, None] != inputs.samples)


def drawn(similarity: Tensor, allowed: Tensor, draws: Tensor) -> Tensor:
    """One column per row, drawn by softmax among those allowed: (b,). A row without any gets an arbitrary one."""
    weights = similarity.masked_fill(~allowed, -torch.inf).softmax(dim=1).nan_to_num(0.0)
    reached = weights.cumsum(dim=1)
    # the last allowed column where rounding left the sum below the draw
    last = (allowed * torch.arange(1, allowed.shape[1] + 1, device=allowed.device)).argmax(dim=1)
    return torch.minimum((reached <= draws[:, None] * reached[:, -1:]).sum(dim=1), last)


def training_flops(section: Matching, model: Model, shape: StepShape) -> int:
    """Per sample of PAIRS_PER_SAMPLE pairs, forward and backward."""
    width, seen = model.text.width, 1 + shape.frames * shape.visible
    pair = section.depth * block_flops(width, shape.text_tokens, model.video.width, seen)
    return TRAINING_FACTOR * PAIRS_PER_SAMPLE * (pair + linear_flops(width, 1, 1)).total
