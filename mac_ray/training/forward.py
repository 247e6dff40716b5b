"""Embeddings of a global batch that does not fit in memory at once.

Cutting a contrastive batch into independent pieces would change the loss: fewer negatives. So the pieces are
first encoded without a graph, the loss is taken on all of them together, and each piece is then encoded
again to carry its part of the gradient on (Gao et al. 2021, gradient caching). Costs one more forward pass.

b samples on this rank, F frames, V visible patches, L tokens, E embedding size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mac_ray.training.distributed import Worker, seeded, unsynchronised

Inputs = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # clips (b, F, 3, S, S), visible (b, F, V), tokens and attended (b, L)


def embed(
    encoder: nn.Module,
    inputs: Inputs,
    pieces: int,
    seed: int,
    step: int,
    worker: Worker,
    dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Video and text (b, E). With several pieces they are leaves, whose gradients `replay` takes on."""
    if pieces == 1:
        return _encoded(encoder, inputs, 0, seed, step, worker, dtype)
    with torch.no_grad():
        encoded = [
            _encoded(encoder, piece, number, seed, step, worker, dtype)
            for number, piece in enumerate(_pieces(inputs, pieces))
        ]
    video, text = (torch.cat(parts).requires_grad_() for parts in zip(*encoded, strict=True))
    return video, text


def replay(
    encoder: nn.Module,
    inputs: Inputs,
    embedded: tuple[Tensor, Tensor],
    pieces: int,
    seed: int,
    step: int,
    worker: Worker,
    dtype: torch.dtype | None,
) -> None:
    """Encode each piece again and take the gradients that arrived at its embeddings back to the weights."""
    cut = zip(*(rows.grad.tensor_split(pieces) for rows in embedded if rows.grad is not None), strict=True)
    for number, (piece, own) in enumerate(zip(_pieces(inputs, pieces), cut, strict=True)):
        with unsynchronised(encoder, skip=number < pieces - 1):
            encoded = _encoded(encoder, piece, number, seed, step, worker, dtype)
            torch.autograd.backward(encoded, own)


def _pieces(inputs: Inputs, pieces: int) -> Iterator[Inputs]:
    clips, visible, tokens, attended = (tensor.tensor_split(pieces) for tensor in inputs)
    return zip(clips, visible, tokens, attended, strict=True)


def _encoded(
    encoder: nn.Module,
    inputs: Inputs,
    number: int,
    seed: int,
    step: int,
    worker: Worker,
    dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    with (
        seeded(seed, step, worker.rank, number, device=worker.device),
        torch.autocast(worker.device.type, dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        video, text = encoder(*inputs)
    return video, text
