"""Every knob of an experiment, typed, with its default. Imports no torch, ray or mlflow.

`Config()` is the embedded default: MAC on the moving-shapes set, on a laptop CPU, in minutes. YAML files
and dotted overrides say only what differs. The sections under "what is trained" identify a run; those
under "where it runs" do not, so that a run moved to other machines is still the same run.

Maskings, objectives and the optimiser are given once at the top. A stage names its differences, which are
merged over the top-level section: `masking.video.ratio=0.75` reaches every stage that masks.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class ConfigError(ValueError):
    """A configuration that cannot be run, in one sentence: the value, the place, the remedy."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


UNION_TAGS = ("moving_shapes", "manifest")  # pydantic names the member of a union in an error's path
DataSet = Annotated[MovingShapes | ManifestSet, Field(discriminator="kind")]


class Data(Section):
    sets: Mapping[str, DataSet] = {"shapes": MovingShapes()}
    image_size: Positive = 64  # pixels, square, what the tower sees
    crop_scale: tuple[float, float] = (1.0, 1.0)  # area kept by the training crop; MAC: (0.5, 1.0)
    horizontal_flip: bool = False  # off: the embedded captions say left and right
    pool_frames: Positive | None = None  # at most this many evenly spaced frames of a clip are ever used
    short_side: Positive | None = None  # pixels; clips are resized to this before the crop
    max_caption_tokens: Annotated[int, Field(ge=4)] = 64
    max_bad_share: Ratio = 0.01  # of the samples drawn in training; beyond it the run stops


# ---------------------------------------------------------------- what is trained: model


class VideoTower(Section):
    """Divided space-time ViT. MAC and Frozen: width 768, depth 12, heads 12, patch 16, frames 4."""

    patch_size: Positive = 8
    width: Positive = 128
    depth: Positive = 4
    num_heads: Positive = 4
    max_frames: Positive = 4  # rows of the temporal embedding
    # Frozen's zeros leave temporal attention uniform for ever (methods.md 1.3), so a copy is the default
    temporal_init: Literal["copy_spatial", "frozen_zeros", "random"] = "copy_spatial"
    residual: Literal["frozen", "timesformer"] = (
        "frozen"  # spatial branch added to: block input | time branch
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> VideoTower:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        return self


class TextTower(Section):
    """DistilBERT-type encoder: from a checkpoint by hub name or local path, or from these sizes."""

    pretrained: str | None = None  # e.g. distilbert-base-uncased
    tokenizer: str | None = (
        None  # name or path; None: the checkpoint's, or WordPiece of the training captions
    )
    vocabulary_size: Positive = 1000  # of a WordPiece trained here
    width: Positive = 128
    depth: Positive = 4
    num_heads: Positive = 4
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
            raise ValueError("every objective is null; give at least one, for instance contrastive: {}")
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
    data: tuple[str, ...]  # names of data.sets, drawn from as one set
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
    every_epochs: Annotated[float, Field(gt=0)] = 8.0  # of the stage under way; val split only
    allow_missing: bool = False  # score what can be decoded; coverage is reported beside the numbers
    bootstrap: Annotated[int, Field(ge=100)] = 1000  # resamples behind the 95% intervals


# ---------------------------------------------------------------- where it runs


class Cluster(Section):
    workers: Positive | tuple[Positive, Positive] = 1  # a pair (min, max) trains elastically
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    cpus_per_worker: Positive = 1
    threads: Positive | None = None  # torch threads per worker; None: cores of this machine / workers
    max_failures: Annotated[int, Field(ge=-1)] = 3  # worker-group restarts; -1: no limit
    start_timeout_s: Positive = 300  # how long to wait for the cluster to have the workers asked for
    loader_workers: Annotated[int, Field(ge=0)] = 0  # decoding processes per worker; 0: in the worker itself
    decoder: Literal["auto", "decord", "pyav"] = "auto"  # auto: decord where it has a wheel, else pyav
    cache_budget_gb: Annotated[float, Field(ge=0)] = 8.0  # decoded frames kept on disk, per set


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


class Config(Section):
    name: str = "shapes"  # for people; the identity is the hash
    # what is trained: these identify a run
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 autocast where the hardware has it
    data: Data = Data()
    model: Model = Model()
    masking: Masking = Masking()
    objectives: Objectives = Objectives()
    optimizer: Optimizer = Optimizer()
    stages: tuple[Stage, ...] = (
        Stage(name="masked", data=("shapes",), epochs=48, masking={"video": {"ratio": 0.9}}),
        Stage(
            name="unmasked",
            data=("shapes",),
            epochs=3,
            masking={"video": {"strategy": "none"}, "text": {"strategy": "none"}},
            optimizer={"learning_rate": 3e-4},
        ),
    )
    evaluation: Evaluation = Evaluation()
    # where it runs: these do not
    cluster: Cluster = Cluster()
    storage: Storage = Storage()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not self.stages:
            raise ValueError("stages is empty; give at least one stage")
        if self.data.image_size % self.model.video.patch_size:
            raise ValueError(
                f"data.image_size {self.data.image_size} is not a multiple of "
                f"model.video.patch_size {self.model.video.patch_size}"
            )
        known = sorted(self.data.sets)
        for number, stage in enumerate(self.stages):
            for name in stage.data:
                if name not in self.data.sets:
                    raise ValueError(f"stages.{number}.data: no set {name!r} in data.sets; there are {known}")
            self._require_frames(f"stages.{number}.frames", stage.frames)
            for section in ("masking", "objectives", "optimizer"):
                _merged(getattr(self, section), getattr(stage, section), f"stages.{number}.{section}")
        if self.evaluation.data not in self.data.sets:
            raise ValueError(
                f"evaluation.data: no set {self.evaluation.data!r} in data.sets; there are {known}"
            )
        self._require_frames("evaluation.frames", self.evaluation.frames)
        return self

    def _require_frames(self, place: str, frames: int) -> None:
        if frames > self.model.video.max_frames:
            raise ValueError(
                f"{place} is {frames}, but model.video.max_frames is {self.model.video.max_frames}; raise the latter"
            )

    def stage_masking(self, stage: Stage) -> Masking:
        return _merged(self.masking, stage.masking, f"stage {stage.name}: masking")

    def stage_objectives(self, stage: Stage) -> Objectives:
        return _merged(self.objectives, stage.objectives, f"stage {stage.name}: objectives")

    def stage_optimizer(self, stage: Stage) -> Optimizer:
        return _merged(self.optimizer, stage.optimizer, f"stage {stage.name}: optimizer")

    def trained(self, fingerprints: Mapping[str, str]) -> dict[str, Any]:
        """What identifies a run, as plain values. Sets are the fingerprint of their content, wherever they lie."""
        trained = self.model_dump(mode="json", exclude={"name", "cluster", "storage", "tracking"})
        trained["data"]["sets"] = dict(sorted(fingerprints.items()))
        # a stage is what it resolves to, so that saying a default again does not make another run
        for stage, dumped in zip(self.stages, trained["stages"], strict=True):
            dumped["masking"] = self.stage_masking(stage).model_dump(mode="json")
            dumped["objectives"] = self.stage_objectives(stage).model_dump(mode="json")
            dumped["optimizer"] = self.stage_optimizer(stage).model_dump(mode="json")
        for section in ("masking", "objectives", "optimizer"):
            del trained[section]
        return trained

    def identity(self, fingerprints: Mapping[str, str]) -> str:
        """Hash of what is trained; `fingerprints` by name, of the sets that are used."""
        return hashlib.sha256(json.dumps(self.trained(fingerprints), sort_keys=True).encode()).hexdigest()


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Defaults < YAML file < dotted overrides such as `masking.video.ratio=0.75` or `stages.0.epochs=2`.

    Raises ConfigError naming path, value and remedy.
    """
    where = str(path) if path else "the defaults"
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            text = Path(path).read_text()
        except OSError as error:
            raise ConfigError(f"cannot read the config {path}: {error.strerror or error}") from error
        try:
            parsed = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(parsed, dict | None):
            raise ConfigError(f"{path} holds a {type(parsed).__name__}; a config is a mapping of sections")
        raw = parsed or {}
    for override in overrides:
        raw = _overridden(raw, override)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(problem) for problem in error.errors())) from None


def to_yaml(config: Config) -> str:
    dumped: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=110)
    return dumped


def _overridden(raw: dict[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error
    parts = key.split(".")
    tree = json.loads(json.dumps(raw))
    # stages and sets are only written out when one of their members is overridden
    if parts[0] in ("stages", "data") and len(parts) > 1:
        defaults = Config().model_dump(mode="json")
        if parts[0] == "stages":
            tree.setdefault("stages", defaults["stages"])
        elif parts[1] == "sets" and len(parts) > 3:
            tree.setdefault("data", {}).setdefault("sets", defaults["data"]["sets"])
    node: Any = tree
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                place = ".".join(parts[:depth])
                raise ConfigError(f"override {override!r}: {place} has {len(node)} entries, no {part!r}")
            if last:
                node[int(part)] = value
            else:
                node = node[int(part)]
        elif isinstance(node, dict):
            if last:
                node[part] = value
            else:
                if node.get(part) is None:
                    node[part] = {}
                node = node[part]
        else:
            raise ConfigError(f"override {override!r}: {'.'.join(parts[:depth])} is a value, not a section")
    return dict(tree)


def _merged(section: SectionT, differences: Mapping[str, Any], place: str) -> SectionT:
    def merge(base: Any, change: Any) -> Any:
        if isinstance(base, dict) and isinstance(change, Mapping):
            return base | {key: merge(base.get(key), value) for key, value in change.items()}
        return change

    try:
        return type(section).model_validate(merge(section.model_dump(), dict(differences)))
    except ValidationError as error:
        raise ConfigError(
            "; ".join(f"{place}.{_explain(problem, type(section))}" for problem in error.errors())
        ) from None


def _explain(problem: Any, root: type[BaseModel] = Config) -> str:
    """One pydantic problem as a sentence: path, value, and the nearest valid name of an unknown key."""
    path = ".".join(str(part) for part in problem["loc"] if part not in UNION_TAGS)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path, list(_paths(root)), n=1, cutoff=0.6)
        hint = (
            f"; did you mean {near[0].rpartition('.')[2]!r}?"
            if near
            else "; see mac_ray/config.py for the names"
        )
        return f"unknown key {path} (= {problem['input']!r}){hint}"
    if problem["type"] == "value_error":
        return f"{path}: {message}" if path else str(message)
    return f"{path} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _paths(annotation: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted path of a section; `0` stands for any list position, `shapes` for any set."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield prefix + name
            yield from _paths(field.annotation, f"{prefix}{name}.")
    elif get_origin(annotation) is tuple:
        yield from _paths(get_args(annotation)[0], f"{prefix}0.")
    elif get_origin(annotation) is Mapping:
        yield from _paths(get_args(annotation)[1], f"{prefix}shapes.")
    else:
        for argument in get_args(annotation):
            yield from _paths(argument, prefix)
