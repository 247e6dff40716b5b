"""What is minimised: one optional section per objective, off where it is null.

`weight` is the factor of an objective in the sum. A schedule lets one fade in or out over a stage.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mac_ray.config.section import Positive, Schedule, Section

Weight = Annotated[float, Field(gt=0)] | Schedule
Share = Annotated[float, Field(ge=0, le=1)]


class Contrastive(Section):
    """VTC: InfoNCE over the global batch (MAC eq. 2-4 with the sign put right)."""

    weight: Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.05
    learn_temperature: bool = False  # CLIP's learnable scale, clamped at 100
    directions: Literal["sum", "mean"] = "sum"  # Frozen and MAC sum the two directions, CLIP4Clip averages


class Sigmoid(Section):
    """Each pair of the global batch judged by itself, own or not (SigLIP, Zhai et al. 2023)."""

    weight: Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.1  # at the start; learned
    bias: float = -10.0  # at the start; learned. Most pairs do not belong together


class Reconstruction(Section):
    """MVM: what the hidden patches hold, from the visible ones, through a light decoder."""

    weight: Weight = 1.0
    # pixels: of the patch, normalised per patch; latent: what an average of the tower's past makes of the full clip
    target: Literal["pixels", "latent"] = "pixels"
    width: Positive | None = None  # of the decoder; None: half the video tower's
    depth: Positive = 4
    teacher_momentum: Share | Schedule = 0.998  # of the average; V-JEPA: linear from 0.998 to 1


class MaskedLanguage(Section):
    """MLM: the hidden words of the caption."""

    weight: Weight = 1.0
    context: Literal["text", "video"] = "text"  # video: hidden words may look at the visible patches first


class Language(Section):
    """LM: the caption word by word, from the visible patches and the words before."""

    weight: Weight = 1.0
    depth: Positive = 4  # of the causal decoder


class Matching(Section):
    """VTM: whether clip and caption belong together, against hard negatives of the same forward pass (ALBEF)."""

    weight: Weight = 1.0
    depth: Positive = 2  # of the encoder in which caption and clip meet
    temperature: Annotated[float, Field(gt=0)] = 0.05  # of the draw of hard negatives by similarity


class Objectives(Section):
    contrastive: Contrastive | None = Contrastive()
    sigmoid: Sigmoid | None = None
    reconstruction: Reconstruction | None = None
    masked_language: MaskedLanguage | None = None
    language: Language | None = None
    matching: Matching | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Objectives:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(
                "contrastive, like every objective, is null; give at least one, contrastive: {} for instance"
            )
        return self
