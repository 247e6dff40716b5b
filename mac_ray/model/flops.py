"""Floating-point operations of a forward pass, in the two conventions of the literature.

F frames, N patches per frame, V visible of them, D width, L tokens; 2 operations per multiply-accumulate.

`linear` counts linear layers only, which is what hook-based counters see and what MAC's Table 4 reports;
`attention` is the products of queries, keys and values on top. The paper embeds all N patches and drops
afterwards; this code embeds only the visible ones, so its own linear count is lower by that difference. Costs are those
of the method: that a CPU takes short clips through one attention, masked and faster, is not counted.
"""

from dataclasses import dataclass

from mac_ray.config import Model, TextTower, VideoTower

TRAINING_FACTOR = 3  # forward, and a backward of twice its size


@dataclass(frozen=True)
class Flops:
    """Per sample, forward."""

    linear: int
    attention: int

    @property
    def total(self) -> int:
        return self.linear + self.attention

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.linear + other.linear, self.attention + other.attention)

    def __rmul__(self, times: int) -> "Flops":
        return Flops(times * self.linear, times * self.attention)


def video_flops(section: VideoTower, frames: int, visible: int, embedded: int) -> Flops:
    """`visible` and `embedded`: patches per frame that enter the blocks and that are embedded."""
    width = section.width
    patches = frames * visible
    tokens = 1 + patches
    embedding = frames * embedded * 3 * section.patch_size**2 * width
    block = 16 * width**2 * tokens  # time 4, space 4, MLP 8
    # each patch meets the class token and its group; the class token meets every token, in time and in space
    products = 2 * width * (patches * (frames + 1) + patches * (visible + 1) + 2 * tokens)
    return Flops(2 * (embedding + section.depth * block), 2 * section.depth * products)


def class_attention_flops(section: VideoTower, frames: int, patches: int) -> Flops:
    """Up to the class token's attention in the last block's spatial attention; all `patches` per frame."""
    width, tokens = section.width, 1 + frames * patches
    before = video_flops(section.model_copy(update={"depth": section.depth - 1}), frames, patches, patches)
    # time as in any block; then one query, all keys, and the products of the two
    linear = 4 * width**2 * tokens + width**2 + width**2 * tokens
    products = 2 * width * (frames * patches * (frames + 1) + tokens) + width * tokens
    return before + Flops(2 * linear, 2 * products)


def text_flops(section: TextTower, tokens: int) -> Flops:
    width = section.width
    return Flops(2 * section.depth * 12 * width**2 * tokens, 2 * section.depth * 2 * width * tokens**2)


def head_flops(section: Model) -> Flops:
    return Flops(2 * section.embedding_size * (section.video.width + section.text.width), 0)


def forward_flops(
    section: Model, frames: int, visible: int, text_tokens: int, embedded: int | None = None
) -> Flops:
    """One sample through both towers and heads. `embedded` defaults to what this code embeds: the visible."""
    video = video_flops(section.video, frames, visible, visible if embedded is None else embedded)
    return video + text_flops(section.text, text_tokens) + head_flops(section)
