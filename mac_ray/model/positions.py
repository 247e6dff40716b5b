"""Position embeddings of other sizes: clips of other lengths.

F frames, D width.
"""

from typing import Literal

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

Inflation = Literal["zeros", "nearest", "linear"]


def inflate_time(embedding: Tensor, frames: int, inflation: Inflation) -> Tensor:
    """The temporal embedding (1, F', D) for `frames` frames: (1, frames, D), a tensor of its own.

    More frames than F' are zeros after the first F' (Frozen's default), or the F' stretched over all of them,
    by the nearest or linearly. Fewer are the first ones, whatever the inflation, as in Frozen, whose tower also
    takes the front of its embedding for a shorter clip.
    """
    given = embedding.shape[1]
    if frames <= given:
        return embedding[:, :frames].clone()
    if inflation == "zeros":
        return F.pad(embedding, (0, 0, 0, frames - given))
    steps = rearrange(embedding, "one f d -> one d f")
    corners = None if inflation == "nearest" else True  # the first and last frame keep theirs
    stretched = F.interpolate(steps, size=frames, mode=inflation, align_corners=corners)
    return rearrange(stretched, "one d f -> one f d").contiguous()
