"""What training will cost, by arithmetic, before any of it has been done; `costs` counts what it did cost."""

from dataclasses import dataclass

from mac_ray.config import Config, Stage, is_gradual, pieces, value_at
from mac_ray.model.flops import TRAINING_FACTOR, forward_flops
from mac_ray.model.masking import guidance_flops, seen_of
from mac_ray.objectives.costs import stage_costs, tokens_left

POINTS = 10  # of a stretch over which a ratio changes, where its cost is averaged


@dataclass(frozen=True)
class ForwardCost:
    """Of a sample's forward pass through both towers and heads, and what of the clip they see."""

    frames: int
    visible: int  # patches of each
    flops: int
    guidance_flops: int  # of choosing what to hide, beside that


def forward_cost(config: Config, stage: Stage, text_tokens: int, progress: float) -> ForwardCost:
    """As expected at some `progress` of a stage, for captions of `text_tokens` without padding."""
    masking, patches = config.stage_masking(stage), config.data.image_size // config.model.video.patch_size
    video, text = masking.video, masking.text
    seen = seen_of(video, value_at(video.ratio, progress), stage.frames, (patches, patches))
    left = tokens_left(text, value_at(text.ratio, progress), text_tokens)
    return ForwardCost(
        frames=seen.frames,
        visible=seen.visible,
        flops=forward_flops(config.model, seen.frames, seen.visible, left).total,
        guidance_flops=guidance_flops(video, config.model.video, stage.frames, patches**2).total,
    )


def training_flops(
    config: Config, stage: Stage, text_tokens: int, vocabulary_size: int, padding: float = 0.0
) -> float:
    """Of a sample, forward and backward, pretext tasks and guidance included: a mean over the stage.

    `padding`: how many of `text_tokens` are, in the mean.
    """
    masking = config.stage_masking(stage)
    ratios = masking.video.ratio, masking.text.ratio
    passes = TRAINING_FACTOR + (stage.accumulate > 1)
    points = POINTS if is_gradual(*ratios) else 1
    mean = 0.0
    for start, end in pieces(*ratios):
        for number in range(points):
            progress = start + (end - start) * (number + 0.5) / points
            cost = forward_cost(config, stage, text_tokens, progress)
            tasks = stage_costs(config, stage, text_tokens, vocabulary_size, progress, padding)
            pretext = sum(task.training_flops for task in tasks.values())
            mean += (end - start) / points * (passes * cost.flops + pretext + cost.guidance_flops)
    return mean
