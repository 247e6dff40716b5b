"""What every section of a config is made of."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class ConfigError(ValueError):
    """A configuration that cannot be run, in a sentence per problem: the value, the place, the remedy."""


# what becomes part of the name of a parameter, of which MLflow takes no other letters
NAMED, LETTERS = r"^\w[\w. -]*$", "letters, digits, blanks and _.-"
Named = Annotated[str, Field(pattern=NAMED, description=f"of {LETTERS}")]


class Section(BaseModel):
    """Rules over several fields raise ValueError with a message that starts with the name of a field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)
Ratio = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Schedule(Section):
    """A value that changes over a stage, from `start` to `end`: a function of the share of its steps made."""

    shape: Literal["linear", "cosine", "step"]
    start: Annotated[float, Field(ge=0.0)]
    end: Annotated[float, Field(ge=0.0)]
    at: Ratio = 0.5  # share of the stage's steps after which "step" changes

    def value(self, progress: float) -> float:
        """`progress` in [0, 1]."""
        match self.shape:
            case "linear":
                way = progress
            case "cosine":
                way = (1 - math.cos(math.pi * progress)) / 2
            case "step":
                way = float(progress >= self.at)
        return self.start + way * (self.end - self.start)


def pieces(*given: float | Schedule) -> list[tuple[float, float]]:
    """Stretches of a stage, from and to a share of its steps, within which none of these knobs jumps."""
    jumps = {each.at for each in given if isinstance(each, Schedule) and each.shape == "step"}
    return list(pairwise(sorted({0.0, 1.0} | jumps)))


def is_gradual(*given: float | Schedule) -> bool:
    """Whether one of these knobs changes within such a stretch."""
    return any(isinstance(each, Schedule) and each.shape != "step" for each in given)


def value_at(given: float | Schedule, progress: float) -> float:
    """A knob that may be a number or a Schedule, at a share of the stage's steps."""
    return given.value(progress) if isinstance(given, Schedule) else given
