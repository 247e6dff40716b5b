"""The objectives of a stage, built from their sections and summed with their weights, here and nowhere else.

There are two kinds. Those over pairs compare every clip with every caption of the global batch and need nothing
but embeddings. Those over positions (patches, words) judge each sample by itself, so a rank computes them on its
own samples: as a sum, divided by how many positions the global batch has. Either way the gradient is that of
one mean over the global batch, however it is dealt out.

b samples on this rank, B in the global batch, E embedding size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mac_ray.config import Objectives, value_at
from mac_ray.model.dual import DualEncoder
from mac_ray.model.views import Inputs, Views
from mac_ray.objectives.contrastive import ContrastiveObjective
from mac_ray.objectives.language import LanguageObjective
from mac_ray.objectives.masked_language import MaskedLanguageObjective
from mac_ray.objectives.matching import MatchingObjective
from mac_ray.objectives.position import PositionObjective
from mac_ray.objectives.reconstruction import ReconstructionObjective
from mac_ray.objectives.sigmoid import SigmoidObjective
from mac_ray.seeds import generator_at


class PairObjectives(nn.Module):
    """Over the B x B pairs of the global batch."""

    def __init__(self, section: Objectives) -> None:
        super().__init__()
        self.section = section
        self.objectives = nn.ModuleDict()
        if section.contrastive is not None:
            self.objectives["contrastive"] = ContrastiveObjective(section.contrastive)
        if section.sigmoid is not None:
            self.objectives["sigmoid"] = SigmoidObjective(section.sigmoid)

    def forward(
        self, video: Tensor, text: Tensor, samples: Tensor, total: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This rank's (b, E) embeddings and (b,) sample numbers -> the weighted sum and the unweighted parts.

        total: B; progress: share of the stage's steps made, for weights that are schedules.
        """
        losses: dict[str, Tensor] = {}
        parts: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            losses[name], named = objective(video, text, samples, total)
            parts |= {f"{name}/{part}": value for part, value in named.items()}
        if not losses:  # the heads stay part of the graph: DistributedDataParallel waits for every gradient
            return 0.0 * (video.sum() + text.sum()), {}
        return _weighted_sum(self.section, losses, progress), losses | parts


class PositionObjectives(nn.Module):
    """Over positions of each sample by itself: patches, words, or pairs with its neighbours on this rank."""

    def __init__(self, section: Objectives, model: DualEncoder, mask_token: int, seed: int) -> None:
        super().__init__()
        self.section = section
        self._named: dict[str, PositionObjective] = {}

        def start(name: str) -> torch.Generator:
            """One for each, so that a head starts the same whatever else is trained beside it."""
            return generator_at(seed, name)

        if section.reconstruction is not None:
            self._named["reconstruction"] = ReconstructionObjective(
                section.reconstruction, model, start("reconstruction")
            )
        if section.masked_language is not None:
            self._named["masked_language"] = MaskedLanguageObjective(
                section.masked_language, model, mask_token, start("masked_language")
            )
        if section.language is not None:
            self._named["language"] = LanguageObjective(section.language, model, start("language"))
        if section.matching is not None:
            self._named["matching"] = MatchingObjective(section.matching, model, start("matching"))
        self.objectives = nn.ModuleDict(self._named)

    def positions(self, inputs: Inputs) -> dict[str, int]:
        """How many positions each objective has in these inputs."""
        return {name: objective.positions(inputs) for name, objective in self._named.items()}

    def forward(
        self,
        model: DualEncoder,
        views: Views,
        inputs: Inputs,
        positions: Mapping[str, float],
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of this rank's share of the losses, and the unweighted shares.

        positions: of the global batch, divided by the number of ranks, as gradients are averaged over these.
        """
        losses = {
            # by chance, no word may be hidden in the whole batch: a sum over nothing
            name: objective(model, views, inputs) / (positions[name] or 1.0)
            for name, objective in self._named.items()
        }
        return _weighted_sum(self.section, losses, progress) if losses else views.video.new_zeros(()), losses

    def after_step(self, model: DualEncoder, progress: float) -> None:
        """What follows the weights once they have moved."""
        for objective in self._named.values():
            objective.after_step(model, progress)


class StageObjectives(nn.Module):
    """All objectives of a stage."""

    def __init__(self, section: Objectives, model: DualEncoder, mask_token: int, seed: int) -> None:
        super().__init__()
        self.section = section
        self.pairs = PairObjectives(section)
        self.positions = PositionObjectives(section, model, mask_token, seed)


def build_objectives(section: Objectives, model: DualEncoder, mask_token: int, seed: int) -> StageObjectives:
    """Weights are a function of the seed; the process's own random state is left as it was."""
    with torch.random.fork_rng(
        devices=[]
    ):  # which torch's layers draw from before they get their weights here
        return StageObjectives(section, model, mask_token, seed)


def _weighted_sum(section: Objectives, losses: Mapping[str, Tensor], progress: float) -> Tensor:
    weighted = [value_at(getattr(section, name).weight, progress) * loss for name, loss in losses.items()]
    return sum(weighted[1:], start=weighted[0])
