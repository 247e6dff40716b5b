"""What a config costs by arithmetic alone: parameters, and operations of a forward pass against what it masks.

Nothing is computed and nothing is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mac_ray.ablation.reference import TABLES
from mac_ray.config import Config, Schedule, Stage, value_at
from mac_ray.config.masking import num_visible
from mac_ray.model.dual import tower_of
from mac_ray.model.flops import TRAINING_FACTOR, Flops, forward_flops
from mac_ray.model.masking import Seen, guidance_flops, seen_of
from mac_ray.model.untrained import untrained_model
from mac_ray.objectives.costs import PretextCost, stage_costs, tokens_left

RATIOS = (0.0, 0.25, 0.5, 0.6, 0.75, 0.9)
TOWERS = ("video", "text", "heads")

# what MAC's Table 4 is about: pixels, ViT-B/16, DistilBERT, embedding size; then frames and caption length
PAPER_SIZES = (224, 16, 768, 12, 768, 6, 256)
PAPER_FRAMES, PAPER_TOKENS = 4, 128


@dataclass(frozen=True)
class Published:
    value: float  # parameters, or operations
    source: str


TABLE = TABLES["mac/table4"]
PUBLISHED_PARAMETERS = Published(1e6 * TABLE.rows["MAC"]["parameters_m"], TABLE.source)
PUBLISHED_FLOPS = {  # by visible patches per frame
    visible: Published(1e9 * TABLE.rows[row]["gflops"], f"{TABLE.source}: {row}")
    for visible, row in ((196, "Frozen"), (79, "MAC"))
}
# of towers that are not here
PUBLISHED_OTHERS = {row: values for row, values in TABLE.rows.items() if row not in ("Frozen", "MAC")}


@dataclass(frozen=True)
class CostRow:
    """Operations of one sample's forward pass through both towers and heads; 2 per multiply-accumulate."""

    what: str
    frames: int
    visible: int  # patches per frame
    patches: int  # per frame, before masking
    linear: int  # the paper's convention: linear layers only, all patches embedded
    with_attention: int  # and the products of attention
    executed: int  # as this code does it: visible patches embedded only, products of attention included
    published: Published | None  # in the paper's convention


@dataclass(frozen=True)
class PretextRow:
    """An objective of a stage that needs more than the embeddings."""

    stage: str
    objective: str
    cost: PretextCost
    # of a sample at the start of this stage, forward and backward: what the cost comes on top of
    towers_training_flops: int


def cost_rows(config: Config, text_tokens: int, ratios: Sequence[float] = RATIOS) -> list[CostRow]:
    """The ratios at the most frames that any stage has, then each stage as it is masked.

    A stage whose ratio has a schedule has a row for its start and one for its end.
    """
    side = config.data.image_size // config.model.video.patch_size
    frames = max(stage.frames for stage in config.stages)
    rows = []
    for ratio in ratios:
        seen = Seen(frames, (side, side), num_visible(side**2, ratio))
        rows.append(_row(config, f"{100 * ratio:g}% masked", seen, text_tokens, Flops(0, 0), frames))
    for stage in config.stages:
        masking = config.stage_masking(stage)
        guidance = guidance_flops(masking.video, config.model.video, stage.frames, side**2)
        changes = any(isinstance(each.ratio, Schedule) for each in (masking.video, masking.text))
        for progress, end in enumerate((", start", ", end") if changes else ("",)):
            seen, tokens = _given(config, stage, text_tokens, progress)
            rows.append(_row(config, stage.name + end, seen, tokens, guidance, stage.frames))
    return rows


def parameter_counts(config: Config) -> dict[str, int]:
    """Number of trained values by tower."""
    with torch.device("meta"):  # shapes without memory
        model = untrained_model(config.model, config.data, config.model.text.vocabulary_size, config.seed)
    counts = dict.fromkeys(TOWERS, 0)
    for name, parameter in model.named_parameters():
        counts[tower_of(name)] += parameter.numel()
    return counts


def published_parameters(config: Config) -> Published | None:
    return PUBLISHED_PARAMETERS if _is_paper_model(config) and config.model.text.pretrained else None


def pretext_rows(config: Config, text_tokens: int) -> list[PretextRow]:
    """Of each stage, every objective that costs more than the towers."""
    rows = []
    for stage in config.stages:
        seen, tokens = _given(config, stage, text_tokens, 0.0)
        towers = TRAINING_FACTOR * forward_flops(config.model, seen.frames, seen.visible, tokens).total
        costs = stage_costs(config, stage, text_tokens, config.model.text.vocabulary_size)
        rows += [PretextRow(stage.name, name, cost, towers) for name, cost in costs.items()]
    return rows


def _given(config: Config, stage: Stage, text_tokens: int, progress: float) -> tuple[Seen, int]:
    """What the towers are given at some progress of a stage: of a clip, and tokens of a caption of `text_tokens`."""
    side, masking = config.data.image_size // config.model.video.patch_size, config.stage_masking(stage)
    seen = seen_of(masking.video, value_at(masking.video.ratio, progress), stage.frames, (side, side))
    return seen, tokens_left(masking.text, value_at(masking.text.ratio, progress), text_tokens)


def _row(
    config: Config, what: str, seen: Seen, text_tokens: int, guidance: Flops, clip_frames: int
) -> CostRow:
    """`guidance`: what choosing the mask takes, in every convention. `clip_frames`: before masking."""
    frames, visible, patches = seen.frames, seen.visible, seen.grid[0] * seen.grid[1]
    everything = (
        forward_flops(config.model, frames, visible, text_tokens, embedded=patches * clip_frames // frames)
        + guidance
    )
    executed = forward_flops(config.model, frames, visible, text_tokens) + guidance
    as_published = _is_paper_model(config) and (frames, text_tokens) == (PAPER_FRAMES, PAPER_TOKENS)
    return CostRow(
        what=what,
        frames=frames,
        visible=visible,
        patches=patches,
        linear=everything.linear,
        with_attention=everything.total,
        executed=executed.total,
        published=PUBLISHED_FLOPS.get(visible) if as_published and not guidance.total else None,
    )


def _is_paper_model(config: Config) -> bool:
    video, text = config.model.video, config.model.text
    towers = (video.patch_size, video.width, video.depth, text.width, text.depth)
    return (config.data.image_size, *towers, config.model.embedding_size) == PAPER_SIZES
