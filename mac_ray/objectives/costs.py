"""What each pretext task costs beside the towers: weights and operations.

Objectives over pairs are not listed: they take the embeddings as they are.
"""

from dataclasses import dataclass

import torch
from torch import nn

from mac_ray.config import Config, Model, Objectives, Stage, TextMasking, value_at
from mac_ray.model.masking import seen_of
from mac_ray.model.text import word_embeddings
from mac_ray.model.untrained import untrained_model
from mac_ray.objectives import language, masked_language, matching, reconstruction
from mac_ray.objectives.position import StepShape
from mac_ray.objectives.weighted import build_objectives

NEVER_HIDDEN = 2  # tokens of a caption: [CLS] and [SEP]


@dataclass(frozen=True)
class PretextCost:
    parameters: int  # trained
    teacher_parameters: int  # that only follow the trained ones
    training_flops: int  # of a sample, forward and backward


def tokens_left(masking: TextMasking, ratio: float, tokens: int) -> int:
    """Of captions of `tokens`, what the text tower is given at a ratio: words may be taken out, or stay as [MASK]."""
    return tokens if masking.leaves_mask_tokens else tokens - round(ratio * (tokens - NEVER_HIDDEN))


def stage_costs(
    config: Config,
    stage: Stage,
    text_tokens: int,
    vocabulary_size: int,
    progress: float = 0.0,
    padding: float = 0.0,
) -> dict[str, PretextCost]:
    """By objective, as expected at some `progress` of a stage of captions of `text_tokens`, `padding` of them padding.

    `vocabulary_size` is the tokeniser's. Towers and blocks read padding too, but nothing is predicted there.
    """
    section, masking = config.stage_objectives(stage), config.stage_masking(stage)
    asked = (section.reconstruction, section.masked_language, section.language, section.matching)
    if not any(asked):  # as in most rows of most sweeps, and a model takes long to build, even without memory
        return {}
    with torch.device("meta"):  # shapes without memory
        model = untrained_model(config.model, config.data, vocabulary_size, config.seed)
        heads = build_objectives(section, model, mask_token=0, seed=config.seed).positions.objectives
    patches = model.grid[0] * model.grid[1]
    seen = seen_of(masking.video, value_at(masking.video.ratio, progress), stage.frames, model.grid)
    hidden_words = value_at(masking.text.ratio, progress)
    shape = StepShape(
        clip_frames=stage.frames,
        frames=seen.frames,
        patches=patches,
        visible=seen.visible,
        text_tokens=tokens_left(masking.text, hidden_words, text_tokens),
        caption_tokens=text_tokens,
        written_tokens=text_tokens - padding - 1,
        hidden_tokens=hidden_words * (text_tokens - padding - NEVER_HIDDEN),
        vocabulary_size=word_embeddings(model.text_model).shape[0],
    )
    return {
        name: PretextCost(
            parameters=_count(heads[name], trained=True),
            teacher_parameters=_count(heads[name], trained=False),
            training_flops=flops,
        )
        for name, flops in pretext_flops(section, config.model, shape).items()
    }


def pretext_flops(section: Objectives, model: Model, shape: StepShape) -> dict[str, int]:
    """What objectives over positions cost per sample, forward and backward."""
    costs: dict[str, int] = {}
    if section.reconstruction is not None:
        costs["reconstruction"] = reconstruction.training_flops(section.reconstruction, model, shape)
    if section.masked_language is not None:
        costs["masked_language"] = masked_language.training_flops(section.masked_language, model, shape)
    if section.language is not None:
        costs["language"] = language.training_flops(section.language, model, shape)
    if section.matching is not None:
        costs["matching"] = matching.training_flops(section.matching, model, shape)
    return costs


def _count(head: nn.Module, trained: bool) -> int:
    return sum(parameter.numel() for parameter in head.parameters() if parameter.requires_grad == trained)
