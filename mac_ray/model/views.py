"""What goes into the towers in a step, and what comes out: the terms in which objectives are written.

b samples of a rank, F frames, F' of them seen, N patches per frame, V visible, L tokens, D width of a tower,
E embedding size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """A rank's part of a step, as the towers see it and as it was before anything was hidden."""

    clips: Tensor  # (b, F, 3, S, S) uint8
    visible: Tensor  # (b, F', V): patch p of frame f is number f N + p, and a row is of one frame
    tokens: Tensor  # (b, L), words hidden
    attended: Tensor  # (b, L) bool, of `tokens`
    caption: Tensor  # (b, L'), nothing hidden
    caption_attended: Tensor  # (b, L') bool
    rows: Tensor  # (b,): places in the global batch
    samples: Tensor  # (b,): a number per sample
    draws: Tensor  # (b, 2), uniform in [0, 1): the chance that objectives get

    def to(self, device: torch.device) -> "Inputs":
        tensors = self._tensors()
        if device.type == "cuda":
            # what is not there yet is pinned, or the host would wait for what the GPU is doing
            tensors = (tensor.pin_memory() if tensor.device.type == "cpu" else tensor for tensor in tensors)
        return Inputs(*(tensor.to(device, non_blocking=True) for tensor in tensors))

    def pieces(self, count: int) -> Iterator["Inputs"]:
        """`count` parts of nearly equal size, in order."""
        return (
            Inputs(*parts)
            for parts in zip(*(tensor.tensor_split(count) for tensor in self._tensors()), strict=True)
        )

    def _tensors(self) -> Iterator[Tensor]:
        return (getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Views:
    """One encoding of a batch."""

    video: Tensor  # (b, E), unit length
    text: Tensor  # (b, E), unit length
    patches: Tensor  # (b, 1 + F' V, D), the video tower's tokens, the class token first
    words: Tensor  # (b, L, D), the text tower's
