"""Losses and gradients of one step, in one pass or in several.

Cutting a contrastive batch into independent pieces would change the loss: fewer negatives. So with several
passes the pieces are first encoded without a graph, the losses over pairs are taken on all of them together, and
each piece is then encoded again to carry its part of the gradient on (Gao et al. 2021, gradient caching), and
its losses over positions with it. Costs one more forward pass of the towers.

b samples on this rank, B in the global batch, E embedding size.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mac_ray.model.dual import DualEncoder
from mac_ray.model.views import Inputs
from mac_ray.objectives.weighted import PositionObjectives
from mac_ray.training.distributed import Worker, seeded, summed, unsynchronised

Parts = dict[str, Tensor]
# by objective; plain numbers, as DistributedDataParallel would send a tensor to the GPU, and reading it there waits
Positions = Mapping[str, float]


class Learner(nn.Module):
    """What a rank computes from its own samples alone: their embeddings, and the losses over their positions."""

    def __init__(self, model: DualEncoder, objectives: PositionObjectives) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives

    def forward(
        self, inputs: Inputs, positions: Positions | None, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """Video and text (b, E), the weighted loss over positions and its parts; without `positions`, no loss."""
        views = self.model(inputs)
        if positions is None:
            return views.video, views.text, views.video.new_zeros(()), {}
        return views.video, views.text, *self.objectives(self.model, views, inputs, positions, progress)


@dataclass(frozen=True)
class Pass:
    """What a step's forward passes share."""

    step: int  # of the run
    progress: float  # share of the stage's steps made
    pieces: int
    seed: int
    worker: Worker
    dtype: torch.dtype | None  # of autocast; None: off


def global_positions(objectives: PositionObjectives, inputs: Inputs, now: Pass) -> Positions:
    """Positions of each objective in the global batch, per rank. Inputs on the CPU; every rank calls it."""
    local: Counter[str] = Counter()
    for piece in inputs.pieces(now.pieces):
        local.update(objectives.positions(piece))
    if not local:
        return {}
    counts = summed(torch.tensor([*local.values()], dtype=torch.float64), now.worker) / now.worker.num_ranks
    return dict(zip(local, counts.tolist(), strict=True))


def loss_and_gradients(
    learner: nn.Module, pairs: nn.Module, inputs: Inputs, positions: Positions, total: int, now: Pass
) -> tuple[Tensor, Parts]:
    """Add the gradients of a step to the weights; the loss, and its unweighted parts. total: B."""
    if now.pieces == 1:
        video, text, own_loss, own_parts = _forward(learner, inputs, positions, 0, now)
        loss, parts = pairs(video, text, inputs.samples, total, now.progress)
        loss = loss + own_loss
        loss.backward()
        return loss, parts | own_parts

    with torch.no_grad():
        encoded = [
            _forward(learner, piece, None, number, now)[:2]
            for number, piece in enumerate(inputs.pieces(now.pieces))
        ]
    embedded = [torch.cat(rows).requires_grad_() for rows in zip(*encoded, strict=True)]
    loss, parts = pairs(*embedded, inputs.samples, total, now.progress)
    loss.backward()
    cut = [rows.grad.tensor_split(now.pieces) for rows in embedded if rows.grad is not None]
    for number, piece in enumerate(inputs.pieces(now.pieces)):
        with unsynchronised(learner, skip=number < now.pieces - 1):
            video, text, own_loss, own_parts = _forward(learner, piece, positions, number, now)
            arrived = [cut[0][number], cut[1][number], torch.ones_like(own_loss)]
            outputs = [video, text, own_loss]
            with_graph = slice(None) if own_loss.requires_grad else slice(2)
            torch.autograd.backward(outputs[with_graph], arrived[with_graph])
        loss = loss.detach() + own_loss.detach()
        parts |= {name: parts.get(name, 0) + value.detach() for name, value in own_parts.items()}
    return loss, parts


def _forward(
    learner: nn.Module, inputs: Inputs, positions: Positions | None, number: int, now: Pass
) -> tuple[Tensor, Tensor, Tensor, Parts]:
    with (
        seeded(now.seed, now.step, now.worker.rank, number, device=now.worker.device),
        torch.autocast(now.worker.device.type, now.dtype or torch.bfloat16, enabled=now.dtype is not None),
    ):
        video, text, loss, parts = learner(inputs, positions, now.progress)
    return video, text, loss, parts
