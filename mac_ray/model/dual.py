"""The two towers with their heads: clips and captions to unit vectors in one space.

B samples, F frames, F' of them seen, V visible patches per frame, L tokens, E embedding size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import Data, Model
from mac_ray.model.text import build_text_tower, encode, text_capacity
from mac_ray.model.video import DividedVideoTransformer
from mac_ray.model.views import Inputs, Views


class DualEncoder(nn.Module):
    """Dual encoder with the heads of Frozen in Time: video Linear, text ReLU and Linear."""

    def __init__(self, section: Model, data: Data, vocabulary_size: int, pad_token: int) -> None:
        super().__init__()
        self.video_model = DividedVideoTransformer(section.video, data.image_size)
        self.text_model = build_text_tower(section.text, vocabulary_size, data.max_caption_tokens, pad_token)
        self.vid_proj = nn.Linear(section.video.width, section.embedding_size)
        self.txt_proj = nn.Sequential(nn.ReLU(), nn.Linear(section.text.width, section.embedding_size))
        self.grid = self.video_model.grid

    def encode_video(self, clips: Tensor, visible: Tensor | None = None) -> Tensor:
        """clips (B, F, 3, H, W) uint8, visible (B, F', V) or None for all -> (B, E) unit vectors."""
        return self._video_head(self.video_model(clips, visible))

    def encode_text(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """tokens, attended (B, L) -> (B, E) unit vectors."""
        return self._text_head(encode(self.text_model, tokens, attended))

    def class_attention(self, clips: Tensor) -> Tensor:
        """clips (B, F, 3, H, W) uint8 -> where the class token looks, (B, F, N)."""
        return self.video_model.class_attention(clips)

    def forward(self, inputs: Inputs) -> Views:
        patches = self.video_model(inputs.clips, inputs.visible)
        words = encode(self.text_model, inputs.tokens, inputs.attended)
        return Views(self._video_head(patches), self._text_head(words), patches, words)

    def _video_head(self, patches: Tensor) -> Tensor:
        return F.normalize(self.vid_proj(patches[:, 0]).float(), dim=-1)

    def _text_head(self, words: Tensor) -> Tensor:
        return F.normalize(self.txt_proj(words[:, 0]).float(), dim=-1)


def build_model(section: Model, data: Data, vocabulary_size: int, pad_token: int, seed: int) -> DualEncoder:
    """Weights are a function of the seed; the process's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DualEncoder(section, data, vocabulary_size, pad_token)


def restore_model(section: Model, data: Data, pad_token: int, weights: Mapping[str, Tensor]) -> DualEncoder:
    """The model that had these weights. What its training began from need not be there any more.

    Raises KeyError or RuntimeError when they are not the weights of such a model.
    """
    vocabulary, positions = text_capacity(weights, "text_model.")
    text = section.text.model_copy(update={"pretrained": None})
    model = build_model(
        section.model_copy(update={"text": text}),
        data.model_copy(update={"max_caption_tokens": positions}),
        vocabulary,
        pad_token,
        seed=0,  # every weight is replaced
    )
    model.load_state_dict(weights)
    return model


def tower_of(parameter: str) -> str:
    """The parameter group of a parameter of DualEncoder, by its name: video, text or heads."""
    return {"video_model": "video", "text_model": "text"}.get(parameter.split(".")[0], "heads")
