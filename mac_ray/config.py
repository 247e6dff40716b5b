"""Every knob of an experiment, typed, with its default. Imports no torch, ray or mlflow.

`Config()` is the embedded default: MAC on the moving-shapes set, on a laptop CPU, in minutes. YAML files
and dotted overrides say only what differs. The sections under "what is trained" identify a run; those
under "where it runs" do not, so that a run moved to other machines is still the same run.

Maskings, objectives and the optimiser are given once at the top. A stage names its differences, which are
merged over the top-level section: `masking.video.ratio=0.75` reaches every stage that masks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mac_ray.config_errors import sentences


class ConfigError(ValueError):
    """A configuration that cannot be run, in a sentence per problem: the value, the place, the remedy."""


class Section(BaseModel):
    """Rules over several fields raise ValueError with a message that starts with the name of a field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)
Ratio = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


# ---------------------------------------------------------------- what is trained: data


class MovingShapes(Section):
    """The embedded set: H.264 clips of moving objects, made deterministically from (version, seed, index)."""

    kind: Literal["moving_shapes"] = "moving_shapes"
    train: Positive = 4000  # clips
    val: Positive = 200
    test: Positive = 500
    frames: Annotated[int, Field(ge=2)] = 8  # per clip
    size: Annotated[int, Field(ge=32, multiple_of=2)] = 64  # pixels; H.264's 4:2:0 needs an even size
    objects: Annotated[int, Field(ge=2, le=4)] = 2
    seed: Annotated[int, Field(ge=0)] = 0


class ManifestSet(Section):
    """Anyone's data: a manifest written by `python -m mac_ray.prepare manifest`."""

    kind: Literal["manifest"] = "manifest"
    path: str  # the Parquet file
    root: str | None = None  # folder of the media, if it moved since the manifest was written


DataSet = Annotated[MovingShapes | ManifestSet, Field(discriminator="kind")]


class Data(Section):
    sets: Mapping[str, DataSet] = {"shapes": MovingShapes()}  # given ones replace these as a whole
    image_size: Positive = 64  # pixels, square, what the tower sees
    crop_scale: tuple[float, float] = (1.0, 1.0)  # area kept by the training crop; MAC: (0.5, 1.0)
    horizontal_flip: bool = False  # off: the embedded captions say left and right
    pool_frames: Positive | None = None  # at most this many evenly spaced frames of a clip are ever used
    short_side: Positive | None = None  # pixels; clips are resized to this before the crop
    max_caption_tokens: Annotated[int, Field(ge=4)] = 64
    max_bad_share: Ratio = 0.01  # of the samples drawn in training; beyond it the run stops

    @model_validator(mode="after")
    def _crop_scale_is_a_range(self) -> Data:
        least, most = self.crop_scale
        if not 0 < least <= most <= 1:
            raise ValueError(
                f"crop_scale is [{least:g}, {most:g}]; give the least and the most of the area to keep, "
                "above 0, at most 1 and in this order"
            )
        return self


# ---------------------------------------------------------------- what is trained: model


class Tower(Section):
    width: Positive = 128
    depth: Positive = 4
    num_heads: Positive = 4

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}; change one of them"
            )
        return self


class VideoTower(Tower):
    """Divided space-time ViT. MAC and Frozen: width 768, depth 12, heads 12, patch 16, frames 4."""

    patch_size: Positive = 16
    max_frames: Positive = 4  # rows of the temporal embedding
    # Frozen's zeros leave temporal attention uniform for ever (methods.md 1.3), so a copy is the default
    temporal_init: Literal["copy_spatial", "frozen_zeros", "random"] = "copy_spatial"
    # what the spatial branch is added to: the block's input (frozen) or the temporal branch (timesformer)
    residual: Literal["frozen", "timesformer"] = "frozen"


class TextTower(Tower):
    """DistilBERT-type encoder: from a checkpoint by hub name or local path, or from these sizes."""

    pretrained: str | None = None  # e.g. distilbert-base-uncased
    # hub name or local path; None: the checkpoint's, or a WordPiece of the training captions
    tokenizer: str | None = None
    vocabulary_size: Positive = 1000  # of a WordPiece trained here
    depth: Positive = 2
    dropout: Ratio = 0.0  # DistilBERT's checkpoints were trained with 0.1


class Model(Section):
    video: VideoTower = VideoTower()
    text: TextTower = TextTower()
    embedding_size: Positive = 256


# ---------------------------------------------------------------- what is trained: masking, objectives


class VideoMasking(Section):
    strategy: Literal["none", "random", "tube"] = "random"
    ratio: Ratio = 0.6
    order: Literal["random", "sorted"] = "random"  # of the survivors: who meets whom in temporal attention


class TextMasking(Section):
    strategy: Literal["none", "whole_word"] = "whole_word"
    ratio: Ratio = 0.15


class Masking(Section):
    video: VideoMasking = VideoMasking()
    text: TextMasking = TextMasking()


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


# ---------------------------------------------------------------- what is trained: optimiser, stages


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

    name: str
    data: Annotated[tuple[str, ...], Field(min_length=1)]  # names of data.sets, drawn from as one set
    epochs: Annotated[float, Field(gt=0)]
    frames: Positive = 4
    batch_size: Annotated[int, Field(ge=2)] = 64  # global, over all workers
    accumulate: Positive = 1  # forward passes per step; the loss still sees the whole global batch
    fresh_optimizer: bool = False  # drop the moments of the stage before, as a separate training would
    masking: Mapping[str, Any] = {}
    objectives: Mapping[str, Any] = {}
    optimizer: Mapping[str, Any] = {}


class Evaluation(Section):
    data: str = "shapes"  # the set whose val and test splits are scored
    protocol: Literal["one_caption", "every_caption", "every_caption_max"] = "one_caption"
    frames: Positive = 4
    batch_size: Positive = 128
    every_epochs: Annotated[float, Field(gt=0)] = 5.0  # of the stage under way; val split only
    allow_missing: bool = False  # score what can be decoded; coverage is reported beside the numbers
    bootstrap: Annotated[int, Field(ge=100)] = 1000  # resamples behind the 95% intervals


# ---------------------------------------------------------------- where it runs


class Cluster(Section):
    # auto: every GPU, or two processes on CPUs; a pair (min, max) trains elastically
    workers: Positive | tuple[Positive, Positive] | Literal["auto"] = "auto"
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    cpus_per_worker: Positive = 1
    threads: Positive | None = None  # torch threads per worker; None: cores of its machine / workers there
    max_failures: Annotated[int, Field(ge=-1)] = 3  # worker-group restarts; -1: no limit
    start_timeout_s: Positive = 300  # how long to wait for the cluster to have the workers asked for
    loader_workers: Annotated[int, Field(ge=0)] = 0  # decoding processes per worker; 0: in the worker itself
    decoder: Literal["pyav", "decord"] = "pyav"  # decord gives wrong frames of HEVC with B-frames, unnoticed
    cache_budget_gb: Annotated[float, Field(ge=0)] = 8.0  # decoded frames kept on disk, per set

    @property
    def most_workers(self) -> int:
        """As many as the config promises; "auto" promises one."""
        if self.workers == "auto":
            return 1
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @model_validator(mode="after")
    def _workers_are_a_range(self) -> Cluster:
        if isinstance(self.workers, tuple) and self.workers[0] > self.workers[1]:
            least, most = self.workers
            raise ValueError(f"workers is [{least}, {most}]; give the least number first: [{most}, {least}]")
        return self


class Storage(Section):
    """Folders. Relative ones are taken from where the command is started."""

    runs: str = "runs"  # checkpoints, journals, artifacts; shared by all nodes
    cache: str = "~/.cache/mac_ray"  # made data, decoded frames, tokenisers; per node
    keep_checkpoints: Positive = 2
    checkpoint_every: Positive = 200  # steps


class Tracking(Section):
    enabled: bool = True
    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working folder
    experiment: str = "mac_ray"
    log_every: Positive = 20  # steps


# ---------------------------------------------------------------- the whole


STAGE_SECTIONS = ("masking", "objectives", "optimizer")  # given at the top, and as differences in a stage


class Config(Section):
    # for people, and the start of the folder's name; what identifies a run is its hash
    name: Annotated[str, Field(pattern=r"^\w[\w.,=+-]*$", description="of letters, digits and _.,=+-")] = (
        "shapes"
    )
    # what is trained: these identify a run
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 autocast where the hardware has it
    data: Data = Data()
    model: Model = Model()
    masking: Masking = Masking()
    objectives: Objectives = Objectives()
    optimizer: Optimizer = Optimizer()
    # Masked while there is much to learn and it is cheap, then whole clips at a rate that still learns: what takes
    # all of a clip, its shapes, places and motions, is learned then
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (  # given ones replace these as a whole
        Stage(name="masked", data=("shapes",), epochs=8, optimizer={"schedule": "constant"}),
        Stage(
            name="unmasked",
            data=("shapes",),
            epochs=10,
            masking={"video": {"strategy": "none"}, "text": {"strategy": "none"}},
        ),
    )
    evaluation: Evaluation = Evaluation()
    # where it runs: these do not
    cluster: Cluster = Cluster()
    storage: Storage = Storage()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        size, patch_size = self.data.image_size, self.model.video.patch_size
        if size % patch_size:
            raise ValueError(
                f"data.image_size {size} is not a multiple of model.video.patch_size {patch_size}; "
                f"the nearest is {max(1, round(size / patch_size)) * patch_size}"
            )
        names = [stage.name for stage in self.stages]
        for number, stage in enumerate(self.stages):
            if (first := names.index(stage.name)) < number:
                raise ValueError(
                    f"stages.{number}.name {stage.name!r} is already that of stages.{first}; give another"
                )
            for name in stage.data:
                self._require_set(f"stages.{number}.data", name)
            self._require_frames(f"stages.{number}.frames", stage.frames)
            self._require_sections(number, stage)
        self._require_set("evaluation.data", self.evaluation.data)
        self._require_frames("evaluation.frames", self.evaluation.frames)
        return self

    def _require_set(self, place: str, name: str) -> None:
        if name not in self.data.sets:
            known = ", ".join(map(repr, self.data.sets)) or "none"
            raise ValueError(
                f"{place} names {name!r}, but data.sets has {known}; name one of these or add it"
            )

    def _require_frames(self, place: str, frames: int) -> None:
        most = self.model.video.max_frames
        if frames > most:
            raise ValueError(
                f"{place} is {frames}, but model.video.max_frames is {most}; lower the one or raise the other"
            )

    def _require_sections(self, number: int, stage: Stage) -> None:
        for name in STAGE_SECTIONS:
            section = getattr(self, name)
            try:
                _merged(section, getattr(stage, name))
            except ValidationError as error:
                place = f"stages.{number}.{name}"
                raise ValueError("\n".join(sentences(error, type(section), place))) from error

    def stage_masking(self, stage: Stage) -> Masking:
        return _merged(self.masking, stage.masking)

    def stage_objectives(self, stage: Stage) -> Objectives:
        return _merged(self.objectives, stage.objectives)

    def stage_optimizer(self, stage: Stage) -> Optimizer:
        return _merged(self.optimizer, stage.optimizer)

    def trained(self, fingerprints: Mapping[str, str]) -> dict[str, Any]:
        """What identifies a run, as plain values: neither names for people nor where it runs.

        Sets are the fingerprints of their content, wherever they lie; their names stay, metrics are called by them.
        """
        trained = self.model_dump(mode="json", exclude={"name", "cluster", "storage", "tracking"})
        trained["data"]["sets"] = dict(sorted(fingerprints.items()))
        # a stage is what it resolves to, so that saying a default again does not make another run
        for stage, dumped in zip(self.stages, trained["stages"], strict=True):
            del dumped["name"]
            dumped["masking"] = self.stage_masking(stage).model_dump(mode="json")
            dumped["objectives"] = self.stage_objectives(stage).model_dump(mode="json")
            dumped["optimizer"] = self.stage_optimizer(stage).model_dump(mode="json")
        for section in STAGE_SECTIONS:
            del trained[section]
        return trained

    def identity(self, fingerprints: Mapping[str, str]) -> str:
        """Hash of what is trained; `fingerprints` by name, of the sets that are used."""
        return hashlib.sha256(json.dumps(self.trained(fingerprints), sort_keys=True).encode()).hexdigest()


def _merged(section: SectionT, differences: Mapping[str, Any]) -> SectionT:
    """Raises pydantic's ValidationError for differences that the section does not know."""

    def merge(base: Any, change: Any) -> Any:
        if isinstance(base, dict) and isinstance(change, Mapping):
            return base | {key: merge(base.get(key), value) for key, value in change.items()}
        return change

    return type(section).model_validate(merge(section.model_dump(), differences))
