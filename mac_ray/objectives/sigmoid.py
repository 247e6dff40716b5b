"""Sigmoid loss of video-text pairs over the global batch (SigLIP, Zhai et al. 2023, section 3.2).

B samples of the global batch, E embedding size.

Each of the B² pairs is judged by itself, so unlike in InfoNCE nothing is shared out among a row. The sum over
pairs is divided by B, the paper's choice, which leaves the loss of a sample's own pair its full weight.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import Sigmoid
from mac_ray.objectives.contrastive import LARGEST_SCALE
from mac_ray.objectives.gather import gather


class SigmoidObjective(nn.Module):
    def __init__(self, section: Sigmoid) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(section.temperature)))
        self.bias = nn.Parameter(torch.tensor(section.bias))

    def forward(
        self, video: Tensor, text: Tensor, samples: Tensor, total: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """video, text: this rank's (b, E) unit vectors; samples: (b,) sample numbers; total: B.

        Returns the loss of the global batch, the same on every rank, and its named parts. Another entry of
        the same sample is neither a match nor a mismatch, and left out.
        """
        video, text, samples = gather(video, total), gather(text, total), gather(samples, total)
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        logits = video @ text.T * self.log_scale.exp() + self.bias  # (B, B)
        own = torch.eye(total, dtype=torch.bool, device=logits.device)
        judged = own | (samples[:, None] != samples[None, :])
        losses = F.softplus(torch.where(own, -logits, logits)) * judged
        parts = {
            "own": losses.diagonal().mean(),
            "temperature": 1 / self.log_scale.exp(),
            "bias": self.bias.detach().clone(),  # the optimiser's step changes it before it is read
        }
        return losses.sum() / total, parts
