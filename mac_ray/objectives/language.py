"""LM: a caption written word by word, from the visible patches and the words before (MAC section 4.3).

b samples, L tokens of a caption, D width of the text tower, U size of the vocabulary.

The text tower takes no part but for its word embeddings: what a caption says has to come through the patches.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import Language, Model
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import TRAINING_FACTOR
from mac_ray.model.text import word_embeddings
from mac_ray.model.video import sinusoids
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.blocks import Block, block_flops, initialise, linear_flops
from mac_ray.objectives.position import PositionObjective, StepShape


class LanguageObjective(PositionObjective):
    """A causal decoder that looks across at the video tower's tokens."""

    def __init__(self, section: Language, model: DualEncoder, generator: torch.Generator) -> None:
        super().__init__()
        vocabulary_size, width = word_embeddings(model.text_model).shape
        # words are small beside places: DistilBERT's tower, too, normalises them before its first block
        self.word_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, model.vid_proj.in_features) for _ in range(section.depth))
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        initialise(self, generator)

    def positions(self, inputs: Inputs) -> int:
        """Every token of a caption but its first is predicted, the closing [SEP] too."""
        return int(inputs.caption_attended[:, 1:].sum())

    def forward(self, model: DualEncoder, views: Views, inputs: Inputs) -> Tensor:
        """The sum over tokens of the cross-entropy of each, given those before it."""
        words = word_embeddings(model.text_model)
        known = self.word_norm(F.embedding(inputs.caption[:, :-1], words))  # (b, L - 1, D)
        length, width = known.shape[1:]
        states = known + sinusoids(torch.arange(length, device=known.device), width)
        before = torch.ones(length, length, dtype=torch.bool, device=known.device).tril()
        for block in self.blocks:
            states = block(states, before, views.patches)
        predicted = inputs.caption_attended[:, 1:]
        scores = F.linear(self.norm(states)[predicted], words, self.bias).float()
        return F.cross_entropy(scores, inputs.caption[:, 1:][predicted], reduction="sum")


def training_flops(section: Language, model: Model, shape: StepShape) -> int:
    """Per sample, forward and backward; products with later words are made, and then masked."""
    width, length = model.text.width, shape.caption_tokens - 1
    cost = section.depth * block_flops(width, length, model.video.width, 1 + shape.frames * shape.visible)
    return TRAINING_FACTOR * (cost + linear_flops(width, shape.vocabulary_size, shape.written_tokens)).total
