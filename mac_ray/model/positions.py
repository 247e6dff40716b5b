"""Position embeddings of other sizes: grids of other patches or pictures, clips of other lengths.

F frames, N patches of a grid, D width.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

Inflation = Literal["zeros", "nearest", "linear"]
Grid = tuple[int, int]


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


def resize_grid(embedding: Tensor, grid: Grid, given: Grid | None = None) -> Tensor:
    """The spatial embedding (1, 1 + N', D), class token first, for another grid: (1, 1 + N, D), of its own.

    Bicubic with antialiasing, as timm does it; the class token's row stays. `given` is the grid (rows, columns)
    of N' patches, a square one if left out. Raises ValueError when N' is not that of a grid.
    """
    patches = embedding.shape[1] - 1
    side = round(patches**0.5)
    rows, columns = given or (side, side)
    if rows * columns != patches:
        raise ValueError(f"{patches} positions are not those of a grid of {rows} x {columns} patches")
    if (rows, columns) == grid:
        return embedding.clone()
    places = rearrange(embedding[:, 1:].float(), "one (y x) d -> one d y x", y=rows)
    resized = F.interpolate(places, size=grid, mode="bicubic", antialias=True, align_corners=False)
    resized = rearrange(resized, "one d y x -> one (y x) d").to(embedding.dtype)
    return torch.cat((embedding[:, :1], resized), dim=1)
