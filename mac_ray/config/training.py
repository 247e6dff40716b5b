"""How it is trained and scored: optimiser, stages, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mac_ray.config.section import Named, Positive, Ratio, Section


class TowerRates(Section):
    """Factors on the learning rate, by parameter group."""

    video: Annotated[float, Field(ge=0)] = 1.0
    text: Annotated[float, Field(ge=0)] = 1.0
    heads: Annotated[float, Field(ge=0)] = 1.0


class Optimizer(Section):
    """AdamW. Weight decay spares biases, norms, and class, mask and position embeddings."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    warmup: Ratio = 0.05  # share of the stage's steps
    milestones: tuple[Ratio, ...] = (0.6, 0.8)  # of schedule "step", as shares of the stage's steps
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1  # factor at each milestone
    final: Annotated[float, Field(ge=0, le=1)] = 0.0  # where the cosine ends, as a share of the rate
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Ratio, Ratio] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-6
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    tower_rates: TowerRates = TowerRates()


class Stage(Section):
    """One leg of training. masking, objectives and optimizer hold differences from the top level."""

    name: Named
    data: Annotated[tuple[str, ...], Field(min_length=1)]  # names of data.sets, mixed in every batch
    # how often each set is drawn from, relative to the others; null: as large as they are, as if they were one set
    mix: Mapping[str, Annotated[float, Field(gt=0)]] | None = None
    epochs: Annotated[float, Field(gt=0)]  # one is as many samples as the sets have together, mixed or not
    frames: Positive = 4
    batch_size: Annotated[int, Field(ge=2)] = 64  # global, over all workers
    accumulate: Positive = 1  # forward passes per step; the loss still sees the whole global batch
    fresh_optimizer: bool = False  # drop the moments of the stage before, as a separate training would
    masking: Mapping[str, Any] = {}
    objectives: Mapping[str, Any] = {}
    optimizer: Mapping[str, Any] = {}

    @model_validator(mode="after")
    def _names_each_set_once(self) -> Stage:
        if len(set(self.data)) < len(self.data):  # a sample would be its own negative
            twice = next(name for name in self.data if self.data.count(name) > 1)
            raise ValueError(f"data names {twice!r} twice; name it once, and give it more weight with mix")
        return self

    @model_validator(mode="after")
    def _mix_weighs_each_set_once(self) -> Stage:
        if self.mix is not None and sorted(self.mix) != sorted(self.data):
            raise ValueError(
                f"mix weighs {_listed(self.mix)}, but data names {_listed(self.data)}; "
                "give each of these one weight and no other, or leave mix out"
            )
        return self


class ClipSampling(Section):
    """Which frames of a sample stand for it when it is scored: the middles of equal intervals of all of it.

    Several windows take one frame of each interval too, evenly spaced within it, and their embeddings are averaged.
    """

    frames: Positive
    windows: Positive = 1


class MaskedViews(Section):
    """How alike masked views of a sample are to its full view, wherever the val split is scored (MAC, Figure 4)."""

    videos: Annotated[int, Field(ge=2)] = (
        64  # the first of the val split, each with the first of its scored texts
    )
    masks: Positive = 100  # drawn anew for each sample every time; each costs a pass of both towers


Protocol = Literal[
    # conventions, for any set
    "one_caption",
    "every_caption",
    "every_caption_max",
    "paragraph",
    # benchmarks: a convention and the size of the gallery, so that numbers are those that others publish
    "msrvtt_1ka",
    "msrvtt_1kb",
    "msrvtt_full",
    "msvd",
    "msvd_every_caption",
    "didemo_paragraph",
    "activitynet_paragraph",
    "lsmdc_1k",
    "flickr30k_1k",
    "coco_5k",
    "moving_shapes",
]


class Evaluation(Section):
    data: str = "shapes"  # the set whose val and test splits are scored
    protocol: Protocol = "one_caption"
    frames: Positive = 4
    also: tuple[ClipSampling, ...] = ()  # what the test split is scored with besides, at the end
    batch_size: Positive = 128
    every_epochs: Annotated[float, Field(gt=0)] = 5.0  # of the stage under way; val split only
    # score what can be decoded, and of a benchmark what there is; coverage is reported beside the numbers
    allow_missing: bool = False
    bootstrap: Annotated[int, Field(ge=100)] = 1000  # resamples behind the 95% intervals
    masked_views: MaskedViews | None = None

    @property
    def sampling(self) -> ClipSampling:
        """Of the val split, and of the test split's main scores."""
        return ClipSampling(frames=self.frames)

    @model_validator(mode="after")
    def _samplings_differ(self) -> Evaluation:
        for number, sampling in enumerate(self.also):
            if sampling in (self.sampling, *self.also[:number]):
                raise ValueError(
                    f"also.{number} scores frames {sampling.frames} and windows {sampling.windows} once more; "
                    "change one of the two, or leave it out"
                )
        return self


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
