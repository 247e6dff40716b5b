"""Transformer blocks for the light decoders of the pretext tasks.

B samples, Q queries, K tokens looked at, D width, H heads, E = D / H.
"""

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn

from mac_ray.model.flops import Flops
from mac_ray.model.video import attend
from mac_ray.model.views import Inputs

HEAD_WIDTH = 64  # ViT-B's


def num_heads(width: int) -> int:
    """As near to HEAD_WIDTH wide as divides `width`."""
    return min(
        (heads for heads in range(1, width + 1) if width % heads == 0),
        key=lambda heads: abs(width // heads - HEAD_WIDTH),
    )


class Attention(nn.Module):
    """Multi-head attention of one sequence to another, or to itself."""

    def __init__(self, width: int, looked_at_width: int) -> None:
        super().__init__()
        self.heads = num_heads(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(looked_at_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, looked_at: Tensor, allowed: Tensor | None = None) -> Tensor:
        """tokens (B, Q, D), looked_at (B, K, D'), allowed: booleans that broadcast to (B, H, Q, K) -> (B, Q, D)."""
        query = rearrange(self.query(tokens), "b q (h e) -> b h q e", h=self.heads)
        key, value = rearrange(self.key_value(looked_at), "b k (two h e) -> two b h k e", two=2, h=self.heads)
        attended = attend(query, key, value, allowed)
        output: Tensor = self.proj(rearrange(attended, "b h q e -> b q (h e)"))
        return output


class Block(nn.Module):
    """Pre-norm: a look at oneself, at another sequence where there is one, and an MLP."""

    def __init__(self, width: int, other_width: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, width)
        if other_width is not None:
            self.other_norm = nn.LayerNorm(width)
            self.other_attention = Attention(width, other_width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, allowed: Tensor | None = None, other: Tensor | None = None) -> Tensor:
        """tokens (B, Q, D), allowed for the look at oneself, other (B, K, D') -> (B, Q, D)."""
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed, allowed)
        if other is not None:
            tokens = tokens + self.other_attention(self.other_norm(tokens), other)
        output: Tensor = tokens + self.mlp(tokens)
        return output


@dataclass(frozen=True)
class StepShape:
    """What the cost of an objective depends on, beside its section and the towers'."""

    clip_frames: int  # before masking
    frames: int  # of them seen
    patches: int  # per frame, before masking
    visible: int  # of them, in a frame that is seen
    text_tokens: int
    hidden_tokens: int  # of the text tokens, as expected
    vocabulary_size: int

    @classmethod
    def of(cls, inputs: Inputs, patches: int, hidden_words: float, vocabulary_size: int) -> "StepShape":
        """`hidden_words`: the share of words that is hidden, as expected."""
        text_tokens = inputs.tokens.shape[1]
        return cls(
            clip_frames=inputs.clips.shape[1],
            frames=inputs.visible.shape[1],
            patches=patches,
            visible=inputs.visible.shape[2],
            text_tokens=text_tokens,
            hidden_tokens=round(hidden_words * text_tokens),
            vocabulary_size=vocabulary_size,
        )


def block_flops(width: int, tokens: int, other_width: int = 0, other_tokens: int = 0) -> Flops:
    """Forward operations of one Block on one sample."""
    linear = 12 * width**2 * tokens
    products = 2 * width * tokens**2
    if other_tokens:
        linear += 2 * width**2 * tokens + 2 * width * other_width * other_tokens
        products += 2 * width * tokens * other_tokens
    return Flops(2 * linear, 2 * products)


def linear_flops(inputs: int, outputs: int, tokens: int) -> Flops:
    return Flops(2 * inputs * outputs * tokens, 0)


def initialise(head: nn.Module) -> None:
    """As the towers start: weights keep the variance of what they are given, biases are zero."""
    for part in head.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=part.in_features**-0.5)
            nn.init.zeros_(part.bias)
