"""What a study is: its question, its base config, what it varies, how runs are made comparable, what is measured.

A sweep is data. Its rows are the crossing of `factors` with `variants`, or the trials of a `search`; each row is
run once per seed. Nothing here imports torch, ray or mlflow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from mac_ray.config.section import ConfigError, Positive, Section
from mac_ray.config.sentences import sentences

Label = Annotated[str, Field(min_length=1)]


class Part(Section):
    """Of a study, as its file spells it out: what is wrong in it raises ConfigError there, a sentence per problem."""

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            said = "\n".join(sentences(error, type(self)))
            raise ConfigError(f"{type(self).__name__}: {said}") from None

    @model_validator(mode="before")
    @classmethod
    def _is_the_same_in_every_process(cls, given: Any) -> Any:
        """The first row is the baseline, and the order of a set of texts is another each time Python starts."""
        if not isinstance(given, Mapping):
            return given
        for place, value in _all_within(given, ""):
            is_set = isinstance(value, set | frozenset)
            if is_set:
                raise ValueError(f"{place} is the set {value!r}, which has no order; give a list")
            if isinstance(value, Mapping) and (strange := [key for key in value if not isinstance(key, str)]):
                raise ValueError(f"{place} has the key {strange[0]!r}; give text, in quotes")
            plain = value.item() if isinstance(value, np.integer | np.bool_) else value
            if plain is not value:
                raise ValueError(f"{place} is {value!r} of NumPy, which no config holds; give {plain!r}")
        return given


def _all_within(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Each value with its dotted path, sections and lists after what they are in."""
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple | np.ndarray):
        inner = enumerate(value)
    yield place, value
    for name, part in inner:
        yield from _all_within(part, f"{place}.{name}" if place else str(name))


class Budget(Part):
    """What every run of a study gets the same of. Epochs of all stages are scaled by one factor to spend it."""

    # samples: epochs stay as the config says; flops, seconds: as much as the baseline row takes
    equal: Literal["samples", "flops", "seconds"] = "samples"
    amount: Annotated[float, Field(gt=0)] | None = None  # per run, instead of what the baseline takes

    @property
    def is_as_configured(self) -> bool:
        """Whether epochs are those of the configs, so that samples are equal only where these say so."""
        return self.equal == "samples" and self.amount is None


def name_of(value: Any) -> str:
    """The text that stands for it in a study, which stores no sections: text as it is, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


class Choice(Part):
    """One of some values, each of which may be a section such as `{}`."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Any, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _names_each_once(self) -> Choice:
        try:
            names = list(self.named)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"values: {error}; give what a config holds: numbers, text, lists, sections"
            ) from error
        if len(names) < len(self.values):
            raise ValueError(f"values names a value twice: {list(self.values)}; name each once")
        return self

    @property
    def named(self) -> dict[str, Any]:
        """By their names in a study."""
        return {name_of(value): value for value in self.values}


class Range(Part):
    """A number between two bounds, both included."""

    kind: Literal["range"] = "range"
    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None
    whole: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; give the lower one first")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                f"log is true with low {self.low:g} and step {self.step}; it needs low above 0 and no step"
            )
        if self.whole and not all(float(end).is_integer() for end in (self.low, self.high, self.step or 1.0)):
            raise ValueError(
                f"whole is true with low {self.low:g}, high {self.high:g} and step {self.step}; give whole numbers"
            )
        steps = (self.high - self.low) / (self.step or 1.0)
        if self.step is not None and not math.isclose(steps, round(steps)):
            raise ValueError(
                f"step {self.step:g} does not lead from low {self.low:g} to high {self.high:g}; "
                f"give {self.low + math.floor(steps) * self.step:g} as high"
            )
        return self


class Conditional(Part):
    """A knob that exists only while another has one of some values."""

    on: str  # the dotted path of the other
    among: Annotated[tuple[Any, ...], Field(min_length=1)]


class Knob(Part):
    domain: Annotated[Choice | Range, Field(discriminator="kind")]
    only: Conditional | None = None


class Search(Part):
    """Instead of rows: Optuna proposes points of `space`, by dotted path of the config."""

    space: Annotated[Mapping[str, Knob], Field(min_length=1)]
    trials: Positive = 30  # in all; more of them continue the same study
    # nsga2 weighs the metric against the cost of a run, in FLOPs; the others see the metric alone
    sampler: Literal["tpe", "gp", "nsga2"] = "tpe"
    # Stop the worse half early, judged on val once a run masks as it does to its end. Which masking strategy is ahead
    # turns with the budget, so trials are compared with those of the same strategy and budget only, unless "everywhere"
    # is asked for
    prune: Literal["same_strategy", "everywhere"] | None = None
    storage: str | None = None  # an RDB's URL; None: a journal file in the sweep's folder

    @model_validator(mode="after")
    def _prunes_what_learns_from_it(self) -> Search:
        if self.prune and self.sampler == "gp":
            raise ValueError(
                f"prune is {self.prune!r} with sampler 'gp', which learns nothing of what was stopped and would "
                "propose it again, so leave prune out or take sampler 'tpe'"
            )
        if self.prune and self.sampler == "nsga2":
            raise ValueError(
                f"prune is {self.prune!r} with sampler 'nsga2'; stopping what has a low recall would take the cheap "
                "end of the front away, so leave prune out or take another sampler"
            )
        return self


LESS_IS_BETTER = ("MdR", "MnR")  # ranks


class Sweep(Part):
    """A study. `base` is a config file below the project's root or any path; see mac_ray.ablation.plan.expand."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", description="of letters, digits and _.-")]
    question: Label
    base: Label
    overrides: Mapping[str, Any] = {}  # by dotted path; of every run
    factors: Mapping[str, tuple[Any, ...]] = {}  # by dotted path; crossed
    # bundles of dotted paths under one label; or pairs of both
    variants: Mapping[Label, Mapping[str, Any]] = {}
    search: Search | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0, 1, 2)
    metric: Label = "t2v/R1"  # of the test split, as scored by the base's protocol
    direction: Literal["maximize", "minimize"] | None = None  # of the metric; None: as its name says
    baseline: str | None = None  # the label of the row others are compared with; None: the first
    reference: str | None = None  # a table of mac_ray.ablation.reference
    published: Mapping[Label, str] = {}  # row of this study -> row of that table, where the labels differ
    budget: Budget = Budget()

    @model_validator(mode="before")
    @classmethod
    def _variants_are_named_each_once(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("variants"), list | tuple):
            return given
        bundles: dict[Any, Any] = {}
        for number, pair in enumerate(given["variants"]):
            if not (isinstance(pair, list | tuple) and len(pair) == 2):
                raise ValueError(f"variants.{number} is {pair!r}; give a pair of a name and what it sets")
            name, bundle = pair
            if name in bundles:
                raise ValueError(f"variants names {name!r} twice; give each its own name")
            bundles[name] = bundle
        return {**given, "variants": bundles}

    @property
    def maximize(self) -> bool:
        return not self.metric.endswith(LESS_IS_BETTER)

    @model_validator(mode="after")
    def _has_the_direction_of_its_metric(self) -> Sweep:
        own = "maximize" if self.maximize else "minimize"
        if self.direction not in (None, own):
            raise ValueError(
                f"direction is {self.direction!r}, but of {self.metric} the {'most' if self.maximize else 'least'} is "
                "best; leave direction out"
            )
        return self

    @model_validator(mode="after")
    def _varies_something(self) -> Sweep:
        for path, values in self.factors.items():
            if not values:
                raise ValueError(f"factors.{path} is empty; give the values to try, or leave it out")
            if len(set(map(repr, values))) < len(values):
                raise ValueError(f"factors.{path} names a value twice: {list(values)}; name each once")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names a seed twice: {list(self.seeds)}; name each once")
        if self.search is not None and (self.factors or self.variants):
            raise ValueError(
                "search stands beside factors or variants; give either rows or a space to search"
            )
        if self.search is not None and (self.baseline or self.reference or self.published):
            raise ValueError(
                "search stands beside baseline, reference or published; a search has no rows to compare with these"
            )
        if not (self.search or self.factors or self.variants):
            raise ValueError("factors, variants and search are all empty; give at least one thing to vary")
        return self
