"""What is hidden from the towers: patches of a video (dropped), words of a caption (replaced by [MASK]).

B samples, F frames, N patches per frame, V visible patches per frame, L tokens.

Every video strategy has one signature and one contract: V distinct patches in every frame, so shapes are
static; drawn from the generator alone, so a step's masks are a function of (seed, step). The order of the
survivors is the caller's choice, not the strategy's: it decides which positions meet in temporal attention.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mac_ray.config import TextMasking, VideoMasking

Grid = tuple[int, int]
Strategy = Callable[[int, int, Grid, int, torch.Generator], Tensor]


def num_visible(num_patches: int, ratio: float) -> int:
    """Patches kept per frame: N - int(ratio N), so 79 of 196 at 0.6 (the count behind MAC's Table 4); at least 1."""
    # 0.29 * 100 is 28.999…; the nudge keeps int() from hiding one patch less than the ratio says
    return max(1, num_patches - int(ratio * num_patches + 1e-9))


def keep_all(batch: int, frames: int, grid: Grid, visible: int, generator: torch.Generator) -> Tensor:
    """Every patch, in raster order: (B, F, N)."""
    return torch.arange(grid[0] * grid[1]).expand(batch, frames, -1)


def random_patches(batch: int, frames: int, grid: Grid, visible: int, generator: torch.Generator) -> Tensor:
    """An independent draw in every frame, the paper's choice (MAC section 3.1): (B, F, V)."""
    noise = torch.rand(batch, frames, grid[0] * grid[1], generator=generator)
    return noise.argsort(dim=-1)[..., :visible]


def tube(batch: int, frames: int, grid: Grid, visible: int, generator: torch.Generator) -> Tensor:
    """One draw per clip, the same patches in every frame: (B, F, V)."""
    return random_patches(batch, 1, grid, visible, generator).expand(-1, frames, -1)


VIDEO_STRATEGIES: dict[str, Strategy] = {"none": keep_all, "random": random_patches, "tube": tube}


def visible_per_frame(section: VideoMasking, num_patches: int) -> int:
    return num_patches if section.strategy == "none" else num_visible(num_patches, section.ratio)


def visible_patches(
    section: VideoMasking, batch: int, frames: int, grid: Grid, generator: torch.Generator
) -> Tensor:
    """Indices (B, F, V) into the raster of each frame's N patches."""
    visible = visible_per_frame(section, grid[0] * grid[1])
    indices = VIDEO_STRATEGIES[section.strategy](batch, frames, grid, visible, generator)
    return indices.sort(dim=-1).values if section.order == "sorted" else indices


def keep_words(tokens: Tensor, words: Tensor, noise: Tensor, ratio: float, mask_token: int) -> Tensor:
    return tokens


def whole_words(tokens: Tensor, words: Tensor, noise: Tensor, ratio: float, mask_token: int) -> Tensor:
    """Each word hidden with probability `ratio`, all its pieces together, always as [MASK] (MAC section 3.1).

    A word is what the tokeniser's pre-tokeniser splits off, so punctuation is a word of its own.
    """
    hidden = (noise < ratio).gather(1, words.clamp(min=0)) & (words >= 0)
    return tokens.masked_fill(hidden, mask_token)


TEXT_STRATEGIES: dict[str, Callable[[Tensor, Tensor, Tensor, float, int], Tensor]] = {
    "none": keep_words,
    "whole_word": whole_words,
}


def masked_text(
    section: TextMasking, tokens: Tensor, words: Tensor, noise: Tensor, mask_token: int
) -> Tensor:
    """The captions as the text tower sees them: (B, L), same length, padding untouched.

    words (B, L) numbers the word of each token and is -1 on special tokens and padding; noise (B, L or
    more), uniform in [0, 1), is all the chance a strategy gets: it does not depend on the batch's padding.
    """
    return TEXT_STRATEGIES[section.strategy](tokens, words, noise, section.ratio, mask_token)
