"""What is trained on: sets of samples, and what becomes of them before the towers see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mac_ray.config.section import LETTERS, NAMED, Positive, Ratio, Section


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
    """Anyone's data: a manifest written by `python -m mac_ray.prepare`."""

    kind: Literal["manifest"] = "manifest"
    path: str  # the Parquet file; may be a URL
    root: str | None = None  # folder of the media, if it moved since the manifest was written


DataSet = Annotated[MovingShapes | ManifestSet, Field(discriminator="kind")]


class Data(Section):
    sets: Mapping[str, DataSet] = {"shapes": MovingShapes()}  # given ones replace these as a whole
    image_size: Positive = 64  # pixels, square, what the tower sees
    crop_scale: tuple[float, float] = (1.0, 1.0)  # area kept by the training crop; MAC: (0.5, 1.0)
    horizontal_flip: bool = False  # off: the embedded captions say left and right
    pool_frames: Positive | None = None  # at most this many evenly spaced frames of a clip are ever used
    short_side: Positive | None = None  # pixels; clips are resized to this before the crop
    captions: Literal["one", "paragraph"] = (
        "one"  # of a sample in training: any one of them, or all as one text
    )
    max_caption_tokens: Annotated[int, Field(ge=4)] = 64  # what is longer loses its end, which is reported
    max_bad_share: Ratio = 0.01  # of the samples drawn in a stage; beyond it the run stops

    @model_validator(mode="after")
    def _sets_have_names_that_can_be_tracked(self) -> Data:
        for name in self.sets:
            if not re.fullmatch(NAMED, name):
                raise ValueError(f"sets has a set {name!r}; name it with {LETTERS}")
        return self

    @model_validator(mode="after")
    def _crop_scale_is_a_range(self) -> Data:
        least, most = self.crop_scale
        if not 0 < least <= most <= 1:
            raise ValueError(
                f"crop_scale is [{least:g}, {most:g}]; give the least and the most of the area to keep, "
                "above 0, at most 1 and in this order"
            )
        return self
