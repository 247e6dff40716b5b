"""What is hidden from the towers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mac_ray.config.section import Positive, Ratio, Schedule, Section, value_at


def num_visible(num: int, ratio: float) -> int:
    """Kept of `num` patches or frames: n - int(ratio n), so 79 of 196 at 0.6 (the count behind MAC's Table 4)."""
    # 0.29 * 100 is 28.999…; the nudge keeps int() from hiding one less than the ratio says
    return num - int(ratio * num + 1e-9)


def _within_bounds(ratio: float | Schedule) -> float | Schedule:
    for end in ("start", "end"):
        if isinstance(ratio, Schedule) and (value := getattr(ratio, end)) >= 1:
            raise ValueError(f"{end} is {value:g}; give a number, at least 0 and below 1")
    return ratio


def _is_zero(ratio: float | Schedule) -> bool:
    return max(value_at(ratio, progress) for progress in (0.0, 1.0)) == 0


def _null_is_off(section: Any) -> Any:
    return {"strategy": "none"} if section is None else section


ScheduledRatio = Annotated[Ratio | Schedule, AfterValidator(_within_bounds)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]

VideoStrategy = Literal[
    "none",
    "random",  # anew in every frame: MAC's choice
    "tube",
    "block",
    "multi_block",
    "frame",
    "grid",
    "attention_keep_high",
    "attention_hide_high",
    "attention_hide_low",
    "motion",
    "resize",  # the control: about as few patches, by a smaller input of the same shape; nothing hidden
]
# what cannot be done to a single frame, and why
NEEDS_TWO_FRAMES = {"frame": "drops whole frames", "motion": "keeps what differs between frames"}

# in the caption's place, as [MASK], or taken out of it, which makes it shorter
TextStrategy = Literal[
    "none",
    "whole_word",  # [MASK]: MAC's choice
    "token",  # [MASK]
    "span",  # [MASK]
    "drop",  # taken out
    "truncate",  # taken out
    "frequency",  # taken out
    "word_class",  # taken out
]


class VideoMasking(Section):
    strategy: VideoStrategy = "random"
    ratio: ScheduledRatio = 0.6  # of the patches of each frame; of the frames for "frame"
    # of the survivors: who meets whom in temporal attention; frames that stay whole have nothing to order
    order: Literal["random", "sorted"] = "random"
    # of multi_block: V-JEPA's small blocks; its large ones are 2 of [0.7, 0.7], I-JEPA's 4 of [0.15, 0.2]
    num_blocks: Positive = 8
    block_area: tuple[PositiveShare, PositiveShare] = (0.15, 0.15)  # least and most, as a share of the frame

    @property
    def hides_nothing(self) -> bool:
        return self.strategy in ("none", "resize") or _is_zero(self.ratio)

    @model_validator(mode="after")
    def _block_area_is_a_range(self) -> VideoMasking:
        least, most = self.block_area
        if least > most:
            raise ValueError(
                f"block_area is [{least:g}, {most:g}]; give the least first: [{most:g}, {least:g}]"
            )
        return self


class TextMasking(Section):
    strategy: TextStrategy = "whole_word"
    # of the words of each caption; of its tokens for "token"; of all training captions together for "frequency"
    ratio: ScheduledRatio = 0.15
    # max(1, round(ratio * words)) of each caption, instead of a number that is random and right on average
    exact: bool = False

    @property
    def hides_nothing(self) -> bool:
        return self.strategy == "none" or _is_zero(self.ratio)

    @property
    def leaves_mask_tokens(self) -> bool:
        """Whether hidden words are still there as [MASK], and not taken out."""
        return self.strategy in ("none", "whole_word", "token", "span")


class Masking(Section):
    """A modality that is null is not masked, as with strategy none."""

    video: Annotated[VideoMasking, BeforeValidator(_null_is_off)] = VideoMasking()
    text: Annotated[TextMasking, BeforeValidator(_null_is_off)] = TextMasking()

    @property
    def hides_nothing(self) -> bool:
        return self.video.hides_nothing and self.text.hides_nothing
