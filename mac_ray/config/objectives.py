"""What is minimised: one optional section per objective, off where it is null."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mac_ray.config.section import Section


class Contrastive(Section):
    """InfoNCE over the global batch (MAC eq. 2-4 with the sign put right)."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.05
    learn_temperature: bool = False  # CLIP's learnable scale, clamped at 100
    directions: Literal["sum", "mean"] = "sum"  # Frozen and MAC sum the two directions, CLIP4Clip averages


class Objectives(Section):
    contrastive: Contrastive | None = Contrastive()

    @model_validator(mode="after")
    def _at_least_one(self) -> Objectives:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(
                "contrastive, like every objective, is null; give at least one, contrastive: {} for instance"
            )
        return self
