"""What an objective over positions of single samples is, and what its cost depends on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from mac_ray.model.dual import DualEncoder
from mac_ray.model.views import Inputs, Views


class PositionObjective(nn.Module, ABC):
    """A loss with a sum and a count, so that its mean is over the global batch however that is dealt out."""

    @abstractmethod
    def positions(self, inputs: Inputs) -> int:
        """How many positions the loss is a mean over; known before anything is encoded."""

    @abstractmethod
    def forward(self, model: DualEncoder, views: Views, inputs: Inputs) -> Tensor:
        """The sum over these positions."""

    def after_step(self, model: DualEncoder, progress: float) -> None:
        """What follows the weights once they have moved, `progress` into the stage."""


@dataclass(frozen=True)
class StepShape:
    """What the cost of a sample depends on, beside sections and towers; means where samples differ."""

    clip_frames: int  # before masking
    frames: int  # of them seen
    patches: int  # per frame, before masking
    visible: int  # of them, in a frame that is seen
    text_tokens: int  # padding included, as the text tower reads them
    caption_tokens: int  # the same before masking, which may take words out
    written_tokens: float  # of the caption without its first one or padding: what LM predicts
    hidden_tokens: float  # of the caption: what MLM predicts
    vocabulary_size: int

    @classmethod
    def of(cls, inputs: Inputs, patches: int, mask_token: int, vocabulary_size: int) -> "StepShape":
        """Of a step's inputs while they are on the CPU, where looking does not make a GPU wait."""
        samples, text_tokens = inputs.tokens.shape
        return cls(
            clip_frames=inputs.clips.shape[1],
            frames=inputs.visible.shape[1],
            patches=patches,
            visible=inputs.visible.shape[2],
            text_tokens=text_tokens,
            caption_tokens=inputs.caption.shape[1],
            written_tokens=int(inputs.caption_attended[:, 1:].sum()) / samples,
            hidden_tokens=int((inputs.tokens == mask_token).sum()) / samples,
            vocabulary_size=vocabulary_size,
        )
