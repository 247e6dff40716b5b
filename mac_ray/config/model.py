"""The two towers and the space in which they meet."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mac_ray.config.section import Positive, Ratio, Section


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

    # a ViT of timm by name and tag, or its weights at a local path. Frozen's are
    # vit_base_patch16_224.orig_in21k_ft_in1k: the name without a tag is another checkpoint in newer timm
    pretrained: str | None = None
    # channel statistics that pixels are normalised with: Frozen's and MAC's, or the 0.5 of most ViTs' own training
    pixels: Literal["imagenet", "half"] = "imagenet"
    patch_size: Positive = 16
    max_frames: Positive = 4  # rows of the temporal embedding
    # where the rows come from when a clip has more frames than were trained before: they stay as they began (keep),
    # or are zeros or the trained rows spread out over the clip (as Frozen's, but that linear keeps both ends). What
    # imported weights have no rows for began as zeros
    inflate: Literal["keep", "zeros", "nearest", "linear"] = "keep"
    # Frozen's zeros leave temporal attention uniform for ever: its keys are equal, so a copy is the default
    temporal_init: Literal["copy_spatial", "frozen_zeros", "random"] = "copy_spatial"
    # what the spatial branch is added to: the block's input (frozen) or the temporal branch (timesformer)
    residual: Literal["frozen", "timesformer"] = "frozen"


class TextTower(Tower):
    """Encoder of transformers: from a checkpoint by hub name or local path, or from these sizes."""

    architecture: Literal["distilbert", "bert"] = "distilbert"
    pretrained: str | None = None  # e.g. distilbert-base-uncased
    # hub name or local path; None: the checkpoint's, or a WordPiece of the training captions
    tokenizer: str | None = None
    vocabulary_size: Positive = 1000  # of a WordPiece trained here
    depth: Positive = 2
    dropout: Ratio = 0.0  # DistilBERT's checkpoints were trained with 0.1


class Model(Section):
    # both towers and heads at once: a Frozen in Time checkpoint (.pth.tar), or a run, checkpoint or export of ours
    pretrained: str | None = None
    video: VideoTower = VideoTower()
    text: TextTower = TextTower()
    embedding_size: Positive = 256

    @model_validator(mode="after")
    def _one_source_per_tower(self) -> Self:
        for name in ("video", "text"):
            if self.pretrained and getattr(self, name).pretrained:
                raise ValueError(
                    f"pretrained {self.pretrained!r} brings both towers, but model.{name}.pretrained is "
                    f"{getattr(self, name).pretrained!r}; set one of the two to null"
                )
        return self
