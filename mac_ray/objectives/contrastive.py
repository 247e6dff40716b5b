"""Video-text contrast: InfoNCE over the global batch (MAC equations 2 to 4, with the printed sign put right).

B samples of the global batch, E embedding size.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mac_ray.config import Contrastive
from mac_ray.objectives.gather import gather

LARGEST_SCALE = 100.0  # CLIP's bound on a learned 1 / temperature


class ContrastiveObjective(nn.Module):
    """Symmetric cross-entropy of cosine / temperature, where entries of one sample are never negatives."""

    log_scale: Tensor

    def __init__(self, section: Contrastive) -> None:
        super().__init__()
        log_scale = torch.tensor(-math.log(section.temperature))
        if section.learn_temperature:
            self.log_scale = nn.Parameter(log_scale)
        else:  # each stage says its own, so it is no state that goes on from one to the next
            self.register_buffer("log_scale", log_scale, persistent=False)
        self.sum_directions = section.directions == "sum"

    def forward(
        self, video: Tensor, text: Tensor, samples: Tensor, total: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """video, text: this rank's (b, E) unit vectors; samples: (b,) sample numbers; total: B.

        Returns the loss of the global batch, the same on every rank, and its named parts.
        """
        video, text, samples = gather(video, total), gather(text, total), gather(samples, total)
        if self.log_scale.requires_grad:
            # the bound is put on the parameter, as in CLIP: a clamp in the graph would stop its gradient for ever
            with torch.no_grad():
                self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        logits = video @ text.T * self.log_scale.exp()  # (B, B)
        same_sample = samples[:, None] == samples[None, :]
        same_sample.fill_diagonal_(False)
        logits = logits.masked_fill(same_sample, -torch.inf)
        own = torch.arange(total, device=logits.device)
        video_to_text = F.cross_entropy(logits, own)
        text_to_video = F.cross_entropy(logits.T, own)
        loss = video_to_text + text_to_video
        if not self.sum_directions:
            loss = loss / 2
        return loss, {"v2t": video_to_text, "t2v": text_to_video, "temperature": 1 / self.log_scale.exp()}
