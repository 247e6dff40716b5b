"""Randomness as a function of where it is drawn: the seed of a run, and what says the place (a step, a rank, a use).

torch's generators on the CPU keep the lower 32 bits of a seed and drop the others, so places are mixed, not packed.
"""

from hashlib import blake2b

import torch


def seed_at(*place: int | str) -> int:
    """For torch, of 64 bits: the seeds of two places have nothing to do with each other."""
    return int.from_bytes(blake2b(repr(place).encode(), digest_size=8).digest(), "little")


def generator_at(*place: int | str) -> torch.Generator:
    """On the CPU."""
    return torch.Generator().manual_seed(seed_at(*place))
