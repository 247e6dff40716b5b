"""What is hidden from the towers."""

from __future__ import annotations

from typing import Literal

from mac_ray.config.section import Ratio, Section


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
