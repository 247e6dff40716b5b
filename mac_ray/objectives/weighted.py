"""The objectives of a stage, built from their sections and summed with their weights, here and nowhere else."""

from torch import Tensor, nn

from mac_ray.config import Objectives
from mac_ray.objectives.contrastive import ContrastiveObjective


class WeightedObjectives(nn.Module):
    def __init__(self, section: Objectives) -> None:
        super().__init__()
        self.contrastive = ContrastiveObjective(section.contrastive) if section.contrastive else None
        self.section = section

    def forward(
        self, video: Tensor, text: Tensor, samples: Tensor, total: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This rank's (b, E) views and (b,) sample numbers -> the weighted sum and the unweighted parts."""
        losses: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        if self.contrastive is not None and self.section.contrastive is not None:
            loss, named = self.contrastive(video, text, samples, total)
            losses.append(self.section.contrastive.weight * loss)
            parts |= {"contrastive": loss} | {f"contrastive/{name}": value for name, value in named.items()}
        return sum(losses[1:], start=losses[0]), parts
