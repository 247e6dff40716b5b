"""The whole config of a run, the rules that hold across its sections, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from mac_ray.config.cluster import Cluster, Storage, Tracking
from mac_ray.config.data import Data
from mac_ray.config.masking import NEEDS_TWO_FRAMES, Masking, TextMasking, VideoMasking, num_visible
from mac_ray.config.model import Model
from mac_ray.config.objectives import Objectives
from mac_ray.config.section import ConfigError, Section, SectionT, value_at
from mac_ray.config.sentences import sentences
from mac_ray.config.training import Evaluation, Optimizer, Stage

INFLATING = ", or say with model.video.inflate how the trained rows become so many"
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
    # Given ones replace these as a whole; without any, model.pretrained is scored as it is.
    stages: tuple[Stage, ...] = (
        Stage(name="masked", data=("shapes",), epochs=8, optimizer={"schedule": "constant"}),
        Stage(
            name="unmasked",
            data=("shapes",),
            epochs=10,
            masking={"video": {"strategy": "none"}, "text": {"strategy": "none"}},
            # nothing is hidden here to be predicted, and what is scored is the contrast
            objectives=dict.fromkeys(("reconstruction", "masked_language", "language", "matching")),
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
        if not self.stages:
            self._require_weights_to_score()
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
            place = f"stages.{number}"
            self._require_something_visible(
                self.stage_masking(stage).video, f"{place}.masking.video", stage.frames, f"{place}.frames"
            )
            self._require_something_hidden(number, stage)
            self._require_masked_views(number, stage)
        self._require_set("evaluation.data", self.evaluation.data)
        if self.model.video.inflate == "keep":
            self._require_frames("evaluation.frames", self.evaluation.frames, INFLATING)
            for number, sampling in enumerate(self.evaluation.also):
                self._require_frames(f"evaluation.also.{number}.frames", sampling.frames, INFLATING)
        return self

    def _require_weights_to_score(self) -> None:
        if self.model.pretrained is None:
            raise ValueError(
                "stages is empty, so nothing is trained, and model.pretrained is null, so there is nothing to score; "
                "give one of the two"
            )
        if self.evaluation.masked_views is not None:
            raise ValueError(
                "evaluation.masked_views follows training, but stages is empty; set evaluation.masked_views=null"
            )

    def _require_set(self, place: str, name: str) -> None:
        if name not in self.data.sets:
            known = ", ".join(map(repr, self.data.sets)) or "none"
            raise ValueError(
                f"{place} names {name!r}, but data.sets has {known}; name one of these or add it"
            )

    def _require_frames(self, place: str, frames: int, otherwise: str = "") -> None:
        most = self.model.video.max_frames
        if frames > most:
            raise ValueError(
                f"{place} is {frames}, but model.video.max_frames is {most}; lower the one or raise the other"
                + otherwise
            )

    def _require_sections(self, number: int, stage: Stage) -> None:
        for name in STAGE_SECTIONS:
            section = getattr(self, name)
            try:
                _merged(section, getattr(stage, name))
            except ValidationError as error:
                place = f"stages.{number}.{name}"
                raise ValueError("\n".join(sentences(error, type(section), place))) from error

    def _require_something_hidden(self, number: int, stage: Stage) -> None:
        """An objective that predicts what is hidden needs something to be."""
        masking, objectives = self.stage_masking(stage), self.stage_objectives(stage)
        predicted: list[tuple[str, Any, str, VideoMasking | TextMasking]] = [
            ("reconstruction", objectives.reconstruction, "video", masking.video),
            ("masked_language", objectives.masked_language, "text", masking.text),
        ]
        for name, objective, modality, hidden in predicted:
            if objective is not None and hidden.hides_nothing:
                ratio = f"{hidden.ratio:g}" if isinstance(hidden.ratio, float) else "0 throughout"
                raise ValueError(
                    f"stages.{number}.objectives.{name} predicts what is hidden, but this stage hides nothing "
                    f"(masking.{modality}: strategy {hidden.strategy}, ratio {ratio}); mask, or set "
                    f"stages.{number}.objectives.{name}=null"
                )
        num, what, ratios = self._maskable(self.stage_masking(stage).video, stage.frames)
        if objectives.reconstruction is not None and all(num_visible(num, ratio) == num for ratio in ratios):
            raise ValueError(
                f"stages.{number}.objectives.reconstruction predicts what is hidden, but masking.video.ratio comes to "
                f"{max(ratios)!r}, which hides none of the {num} {what}; raise it, or set "
                f"stages.{number}.objectives.reconstruction=null"
            )
        if objectives.masked_language is not None and not masking.text.leaves_mask_tokens:
            raise ValueError(
                f"stages.{number}.objectives.masked_language predicts words at their [MASK], but masking.text.strategy "
                f"{masking.text.strategy!r} takes them out; hide them by 'whole_word', 'token' or 'span', or set "
                f"stages.{number}.objectives.masked_language=null"
            )

    def _require_something_visible(
        self, masking: VideoMasking, place: str, frames: int, frames_place: str
    ) -> None:
        num, what, ratios = self._maskable(masking, frames)
        ratio = max(ratios)
        if masking.strategy != "none" and num_visible(num, ratio) < 1:
            raise ValueError(
                f"{place}.ratio comes to {ratio!r}, which leaves none of the {num} {what}; lower it"
            )
        reason = NEEDS_TWO_FRAMES.get(masking.strategy)
        if reason is not None and frames < 2:
            raise ValueError(
                f"{place}.strategy {masking.strategy!r} {reason}, but {frames_place} is {frames}; "
                "give another strategy or more frames"
            )

    def _require_masked_views(self, number: int, stage: Stage) -> None:
        if self.evaluation.masked_views is None:
            return
        masking = self.masked_views_masking(stage)
        if masking.hides_nothing:
            raise ValueError(
                f"evaluation.masked_views compares masked views with the full view, but neither stages.{number} nor "
                "the top level hides anything; set masking.video or masking.text, and strategy none in the stages "
                "that are to train without, or set evaluation.masked_views=null"
            )
        place = "masking.video" if masking == self.masking else f"stages.{number}.masking.video"
        self._require_something_visible(masking.video, place, self.evaluation.frames, "evaluation.frames")

    def _maskable(self, masking: VideoMasking, frames: int) -> tuple[int, str, tuple[float, float]]:
        """Of how many things video masking hides a share, what they are, and the shares at either end of a stage."""
        ratios = (value_at(masking.ratio, 0.0), value_at(masking.ratio, 1.0))
        if masking.strategy == "frame":
            return frames, "frames", ratios
        return (self.data.image_size // self.model.video.patch_size) ** 2, "patches of a frame", ratios

    def stage_masking(self, stage: Stage) -> Masking:
        return _merged(self.masking, stage.masking)

    def masked_views_masking(self, stage: Stage) -> Masking:
        """What evaluation.masked_views hides: the stage's masking or, where that hides nothing, the top level's."""
        masking = self.stage_masking(stage)
        return self.masking if masking.hides_nothing else masking

    def stage_objectives(self, stage: Stage) -> Objectives:
        return _merged(self.objectives, stage.objectives)

    def stage_optimizer(self, stage: Stage) -> Optimizer:
        return _merged(self.optimizer, stage.optimizer)

    def trained(
        self, fingerprints: Mapping[str, str], sources: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, Any]:
        """What identifies a run, as plain values: neither names for people nor where it runs.

        Sets are the fingerprints of their content, wherever they lie; their names stay, metrics are called by them.
        So is what else is read from files: `sources` has fingerprints by dotted path, "model.video.pretrained" say.
        """
        trained = self.model_dump(mode="json", exclude={"name", "cluster", "storage", "tracking"})
        trained["data"]["sets"] = dict(sorted(fingerprints.items()))
        for path, fingerprint in sources.items():
            *sections, name = path.split(".")
            reduce(getitem, sections, trained)[name] = fingerprint
        # a stage is what it resolves to, so that saying a default again does not make another run
        for stage, dumped in zip(self.stages, trained["stages"], strict=True):
            del dumped["name"]
            dumped["masking"] = self.stage_masking(stage).model_dump(mode="json")
            dumped["objectives"] = self.stage_objectives(stage).model_dump(mode="json")
            dumped["optimizer"] = self.stage_optimizer(stage).model_dump(mode="json")
            if self.evaluation.masked_views is not None:
                dumped["masked_views"] = self.masked_views_masking(stage).model_dump(mode="json")
        for section in STAGE_SECTIONS:
            del trained[section]
        return trained

    def identity(
        self, fingerprints: Mapping[str, str], sources: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """Hash of what is trained; `fingerprints` by name, of the sets that are used, `sources` as in `trained`."""
        trained = self.trained(fingerprints, sources)
        return hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()


def require_stages(config: Config, reason: str) -> None:
    """Raises ConfigError for a config that trains nothing."""
    if not config.stages:
        raise ConfigError(f"stages is empty, so nothing is trained, but {reason}; give at least one stage")


def _merged(section: SectionT, differences: Mapping[str, Any]) -> SectionT:
    """Raises pydantic's ValidationError for differences that the section does not know."""

    def merge(base: Any, change: Any) -> Any:
        if isinstance(base, dict) and isinstance(change, Mapping):
            return base | {key: merge(base.get(key), value) for key, value in change.items()}
        return change

    return type(section).model_validate(merge(section.model_dump(), differences))
