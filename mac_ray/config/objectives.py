"""What is minimised: one optional section per objective, off where it is null.

`weight` is the factor of an objective in the sum. A schedule lets one fade in or out over a stage.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mac_ray.config.section import Positive, Schedule, Section, value_at

Share = Annotated[float, Field(ge=0, le=1)]


class Objective(Section):
    weight: Annotated[float, Field(gt=0)] | Schedule = 1.0

    @model_validator(mode="after")
    def _counts_at_some_time(self) -> Self:
        if not (value_at(self.weight, 0.0) or value_at(self.weight, 1.0)):
            raise ValueError(
                "weight is 0 throughout, so this objective would never count; set it to null instead"
            )
        return self


class Contrastive(Objective):
    """VTC: InfoNCE over the global batch (MAC eq. 2-4 with the sign put right)."""

    temperature: Annotated[float, Field(gt=0)] = 0.05
    learn_temperature: bool = False  # CLIP's learnable scale, clamped at 100
    directions: Literal["sum", "mean"] = "sum"  # Frozen and MAC sum the two directions, CLIP4Clip averages


class Sigmoid(Objective):
    """Each pair of the global batch judged by itself, own or not (SigLIP, Zhai et al. 2023).

    The learned scale, 1 / temperature, is clamped at 100 as CLIP's is, which SigLIP's is not.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.1  # at the start; learned
    bias: float = -10.0  # at the start; learned. Most pairs do not belong together


class Reconstruction(Objective):
    """MVM: what the hidden patches hold, from the visible ones, through a light decoder."""

    # pixels: of the patch, normalised per patch; latent: what an average of the tower's past makes of the full clip
    target: Literal["pixels", "latent"] = "pixels"
    width: Positive | None = None  # of the decoder; None: half the video tower's
    depth: Positive = 4
    # of the average; V-JEPA's is linear from 0.998 to 1, which here is from the start to the end of each stage
    teacher_momentum: Share | Schedule = 0.998

    @model_validator(mode="after")
    def _momentum_is_a_share(self) -> Reconstruction:
        momentum = self.teacher_momentum
        if isinstance(momentum, Schedule) and (highest := max(momentum.start, momentum.end)) > 1:
            raise ValueError(f"teacher_momentum goes up to {highest:g}; give a start and an end of at most 1")
        return self


class MaskedLanguage(Objective):
    """MLM: the hidden words of the caption."""

    context: Literal["text", "video"] = "text"  # video: hidden words may look at the visible patches first


class Language(Objective):
    """LM: the caption word by word, from the visible patches and the words before."""

    depth: Positive = 4  # of the causal decoder


class Matching(Objective):
    """VTM: whether clip and caption belong together, against hard negatives (ALBEF)."""

    depth: Positive = 2  # of the encoder in which caption and clip meet
    temperature: Annotated[float, Field(gt=0)] = 0.05  # of the draw of hard negatives by similarity
    # hard negatives are drawn among this many neighbours of the batch, as far as these are in the same pass of a rank
    group_size: Annotated[int, Field(ge=2)] = 32


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
