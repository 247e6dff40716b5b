"""MLM: the hidden words of a caption, from the words around them and, if asked, from the visible patches.

b samples, L tokens, M of them hidden, D width of the text tower, U size of the vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import MaskedLanguage, Model
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import TRAINING_FACTOR
from mac_ray.model.text import word_embeddings
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.blocks import Block, block_flops, initialise, linear_flops
from mac_ray.objectives.position import PositionObjective, StepShape


class MaskedLanguageObjective(PositionObjective):
    """BERT's head: a layer, and scores by the word embeddings of the tower itself."""

    def __init__(
        self, section: MaskedLanguage, model: DualEncoder, mask_token: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.mask_token = mask_token
        vocabulary_size, width = word_embeddings(model.text_model).shape
        video_width = model.vid_proj.in_features
        self.look = Block(width, video_width) if section.context == "video" else None
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        initialise(self, generator)

    def positions(self, inputs: Inputs) -> int:
        """The tokens of hidden words: by chance, so their number varies."""
        return int((inputs.tokens == self.mask_token).sum())

    def forward(self, model: DualEncoder, views: Views, inputs: Inputs) -> Tensor:
        """The sum over hidden tokens of the cross-entropy, each."""
        words = views.words
        if self.look is not None:
            words = self.look(words, inputs.attended[:, None, None], views.patches)
        hidden = inputs.tokens == self.mask_token
        answers = self.transform(words[hidden])  # (M, D)
        scores = F.linear(answers, word_embeddings(model.text_model), self.bias).float()  # (M, U)
        return F.cross_entropy(scores, inputs.caption[hidden], reduction="sum")


def training_flops(section: MaskedLanguage, model: Model, shape: StepShape) -> int:
    """Per sample, forward and backward."""
    width = model.text.width
    cost = linear_flops(width, width + shape.vocabulary_size, shape.hidden_tokens)
    if section.context == "video":
        cost += block_flops(width, shape.text_tokens, model.video.width, 1 + shape.frames * shape.visible)
    return TRAINING_FACTOR * cost.total
