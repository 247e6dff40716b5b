"""Which patches of a clip the tower sees.

B samples, F frames of a clip, F' frames of which something is seen, N patches per frame, V visible of them.

Every strategy has one signature and one contract: V distinct patches of each of F' distinct frames, so shapes are
static, drawn from the generator alone. Patch p of frame f has the number f N + p, so that a strategy may leave
frames out; a row of the result is of one frame. Which patches are seen is the strategy's; in which order is an
option of its own, because the k-th of each frame meet in temporal attention. The strategies that hide the same
patches in all frames also order them the same, so a patch meets itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mac_ray.config import VideoMasking
from mac_ray.config.masking import num_visible

Grid = tuple[int, int]  # rows, columns
ASPECTS = (0.75, 1.5)  # height to width of blocks, in I-JEPA and V-JEPA alike


@dataclass(frozen=True)
class Seen:
    """How much of a clip enters the tower."""

    frames: int  # F'
    grid: Grid  # of the clip as the tower is given it
    visible: int  # V


@dataclass(frozen=True)
class Subject:
    """What a strategy is drawn for."""

    batch: int
    frames: int  # F
    seen: Seen
    section: VideoMasking
    scores: Tensor | None = None  # (B, F, N), of the strategies that have a guide

    @property
    def patches(self) -> int:
        return self.seen.grid[0] * self.seen.grid[1]


Strategy = Callable[[Subject, torch.Generator], Tensor]


def seen_of(section: VideoMasking, ratio: float, frames: int, grid: Grid) -> Seen:
    """What `section` leaves of clips of F frames of `grid` patches, at a ratio that is its own or of its schedule."""
    patches = grid[0] * grid[1]
    match section.strategy:
        case "none":
            return Seen(frames, grid, patches)
        case "frame":
            return Seen(num_visible(frames, ratio), grid, patches)
        case "resize":
            side = (num_visible(patches, ratio) / patches) ** 0.5
            rows, columns = (max(1, round(side * full)) for full in grid)
            return Seen(frames, (rows, columns), rows * columns)
        case _:
            return Seen(frames, grid, num_visible(patches, ratio))


def visible_patches(subject: Subject, generator: torch.Generator) -> Tensor:
    """(B, F', V), int64: the numbers f N + p of what is seen.

    A ratio too small to hide anything leaves patches in their places, as strategy none does: frames that are whole
    have nothing to order.
    """
    if (subject.seen.frames, subject.seen.visible) == (subject.frames, subject.patches):
        return keep_all(subject, generator)
    visible = VIDEO_STRATEGIES[subject.section.strategy](subject, generator)
    return visible.sort(dim=-1).values if subject.section.order == "sorted" else visible


# ---------------------------------------------------------------- frames left whole


def keep_all(subject: Subject, generator: torch.Generator) -> Tensor:
    """Every patch, in raster order; of a smaller input, for the control `resize`."""
    patches = torch.arange(subject.patches).expand(subject.batch, 1, -1)
    return _numbered(patches, torch.arange(subject.frames), subject)


def frame(subject: Subject, generator: torch.Generator) -> Tensor:
    """Some frames whole and nothing of the others, which keep their place in time: F' is below F, V is N."""
    noise = torch.rand(subject.batch, subject.frames, generator=generator)
    frames = noise.argsort(dim=-1)[:, : subject.seen.frames].sort(dim=-1).values
    return _numbered(torch.arange(subject.patches).expand(subject.batch, 1, -1), frames, subject)


# ---------------------------------------------------------------- by chance and place


def random_patches(subject: Subject, generator: torch.Generator) -> Tensor:
    """An independent draw in every frame, the paper's choice (MAC section 3.1)."""
    return _random(subject, subject.frames, generator)


def tube(subject: Subject, generator: torch.Generator) -> Tensor:
    """One draw per clip, the same patches in every frame."""
    return _random(subject, 1, generator)


def block(subject: Subject, generator: torch.Generator) -> Tensor:
    """One contiguous block hidden through all frames.

    As a rule no rectangle has the exact area, so the block is a rectangle but for the end of its last row.
    """
    rows, columns = subject.seen.grid
    hidden = rows * columns - subject.seen.visible
    aspect, *place = torch.rand(5, subject.batch, 1, 1, generator=generator)
    least, most = ASPECTS
    height = (hidden * (least + aspect * (most - least))).sqrt().round()
    width = (hidden / height.clamp(max(1, -(-hidden // columns)), rows)).ceil().clamp(min=1)
    height = (hidden / width).ceil()
    y = torch.arange(rows)[:, None] - (place[0] * (rows - height + 1)).floor()
    x = torch.arange(columns) - (place[1] * (columns - width + 1)).floor()
    # counted from any of the four corners, so that no side is favoured by what is missing from the last row
    y, x = torch.where(place[2] < 0.5, y, height - 1 - y), torch.where(place[3] < 0.5, x, width - 1 - x)
    inside = (y >= 0) & (x >= 0) & (x < width) & (y * width + x < hidden)  # (B, rows, columns)
    kept = inside.flatten(1).to(torch.uint8).argsort(dim=-1, stable=True)[:, None, : subject.seen.visible]
    return _numbered(_shuffled(kept, generator), torch.arange(subject.frames), subject)


def multi_block(subject: Subject, generator: torch.Generator) -> Tensor:
    """The union of several rectangles hidden through all frames (I-JEPA and V-JEPA).

    As there, the size is one per step and the places one per sample. What the union hides varies, and JEPA cuts to
    the least of the batch; here random patches are revealed or hidden as well, up to the one count of the ratio.
    """
    rows, columns = subject.seen.grid
    least, most = subject.section.block_area
    area, aspect = torch.rand(2, generator=generator).tolist()
    area = (least + area * (most - least)) * rows * columns
    aspect = ASPECTS[0] + aspect * (ASPECTS[1] - ASPECTS[0])
    height = min(rows, max(1, round((area * aspect) ** 0.5)))
    width = min(columns, max(1, round((area / aspect) ** 0.5)))
    place = torch.rand(2, subject.batch, subject.section.num_blocks, 1, generator=generator)
    y = torch.arange(rows) - (place[0] * (rows - height + 1)).floor()  # (B, blocks, rows)
    x = torch.arange(columns) - (place[1] * (columns - width + 1)).floor()
    within_rows, within_columns = (y >= 0) & (y < height), (x >= 0) & (x < width)
    union = (within_rows[..., None] & within_columns[..., None, :]).any(dim=1).flatten(1)  # (B, N)
    noise = torch.rand(union.shape, generator=generator)
    kept = (noise + union).argsort(dim=-1)[:, None, : subject.seen.visible]
    return _numbered(_shuffled(kept, generator), torch.arange(subject.frames), subject)


def grid(subject: Subject, generator: torch.Generator) -> Tensor:
    """Evenly spread patches kept through all frames: at 0.75 one of each 2 x 2, at 0.5 a checkerboard.

    Ratios between are filled up in the order of Bayer's dither matrix, which spreads any count evenly. A clip
    has its own offset.
    """
    rows, columns = subject.seen.grid
    matrix = torch.zeros(1, 1, dtype=torch.int64)
    while len(matrix) < max(rows, columns):
        four = 4 * matrix
        matrix = torch.cat((torch.cat((four, four + 2), dim=1), torch.cat((four + 3, four + 1), dim=1)))
    offset = torch.randint(len(matrix), (2, subject.batch, 1), generator=generator)
    y, x = (torch.arange(rows) + offset[0]) % len(matrix), (torch.arange(columns) + offset[1]) % len(matrix)
    ranks = matrix[y[:, :, None], x[:, None, :]].flatten(1)  # (B, N)
    kept = ranks.argsort(dim=-1)[:, None, : subject.seen.visible]
    return _numbered(_shuffled(kept, generator), torch.arange(subject.frames), subject)


# ---------------------------------------------------------------- by what patches show


def highest(subject: Subject, generator: torch.Generator) -> Tensor:
    """Of each frame the patches of the highest scores: what moves, or what hiding the low leaves (A-CLIP)."""
    return _lowest(subject, -_scores(subject), generator)


def lowest(subject: Subject, generator: torch.Generator) -> Tensor:
    """Of each frame the patches of the lowest scores: the most attended are hidden (AttMask; MASCOT hides places
    of a whole run of frames, and replaces them)."""
    return _lowest(subject, _scores(subject), generator)


def sampled_high(subject: Subject, generator: torch.Generator) -> Tensor:
    """Of each frame a draw without replacement in proportion to the scores (UMT).

    Whoever has the shortest of exponential waiting times at these rates is drawn first.
    """
    scores = _scores(subject)
    waiting = -torch.log1p(-torch.rand(scores.shape, generator=generator))
    return _lowest(subject, waiting / scores.clamp(min=torch.finfo(scores.dtype).tiny), generator)


VIDEO_STRATEGIES: dict[str, Strategy] = {
    "none": keep_all,
    "random": random_patches,
    "tube": tube,
    "block": block,
    "multi_block": multi_block,
    "frame": frame,
    "grid": grid,
    "attention_keep_high": sampled_high,
    "attention_hide_high": lowest,
    "attention_hide_low": highest,
    "motion": highest,
    "resize": keep_all,
}


# ---------------------------------------------------------------- shared by strategies


def _numbered(patches: Tensor, frames: Tensor, subject: Subject) -> Tensor:
    """Patches (B, F' or 1, V) and frames (F',) or (B, F') -> numbers (B, F', V)."""
    return frames[..., None] * subject.patches + patches


def _random(subject: Subject, draws: int, generator: torch.Generator) -> Tensor:
    noise = torch.rand(subject.batch, draws, subject.patches, generator=generator)
    kept = noise.argsort(dim=-1)[..., : subject.seen.visible]
    return _numbered(kept, torch.arange(subject.frames), subject)


def _shuffled(kept: Tensor, generator: torch.Generator) -> Tensor:
    """Each last row in another order."""
    return kept.gather(-1, torch.rand(kept.shape, generator=generator).argsort(dim=-1))


def _lowest(subject: Subject, scores: Tensor, generator: torch.Generator) -> Tensor:
    """Of each frame the patches of the lowest scores (B, F, N); chance decides between equal ones."""
    anyhow = torch.rand(scores.shape, generator=generator).argsort(dim=-1)
    by_score = scores.gather(-1, anyhow).argsort(dim=-1, stable=True)
    kept = anyhow.gather(-1, by_score)[..., : subject.seen.visible]
    return _numbered(_shuffled(kept, generator), torch.arange(subject.frames), subject)


def _scores(subject: Subject) -> Tensor:
    assert subject.scores is not None, f"{subject.section.strategy} goes by scores"
    return subject.scores
