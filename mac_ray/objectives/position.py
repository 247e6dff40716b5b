"""What an objective over positions of single samples is."""

from abc import ABC, abstractmethod

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
