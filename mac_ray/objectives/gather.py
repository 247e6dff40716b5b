"""Rows of all ranks, in rank order, with gradient: how an objective sees the global batch.

b rows on this rank, B on all ranks together.
"""

from typing import Any

import torch
from torch import Tensor, distributed

from mac_ray.data.order import shares


def gather(rows: Tensor, total: int) -> Tensor:
    """(b, …) -> (B, …), where B = total and b is this rank's share of it.

    The gradient is the true adjoint: the sum over ranks of each rank's gradient, cut to one's own rows. With
    DistributedDataParallel's mean over ranks, a loss that every rank computes on the whole batch then has
    the gradients of a single process.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows
    counts = shares(total, distributed.get_world_size())
    gathered: Tensor = _Gather.apply(rows, counts) if rows.is_floating_point() else _all_rows(rows, counts)
    return gathered


def _all_rows(rows: Tensor, counts: list[int]) -> Tensor:
    # collectives want equal shapes; shares differ by one row at most
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return _all_rows(rows, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # a copy: autograd may hand the same tensor to other branches, which a sum in place would change
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return torch.split(gradient, ctx.counts)[distributed.get_rank()], None
