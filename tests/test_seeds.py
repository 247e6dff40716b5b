"""Places that differ draw differently, however they differ."""

from itertools import combinations

import pytest
import torch

from mac_ray.seeds import generator_at, seed_at

# in bits above the 32nd, which torch drops on the CPU, in order, in length, in use
PLACES: list[tuple[int | str, ...]] = [
    *((0, 5), (1, 5), (2, 5), (2**31 - 1, 5), (5, 0), (0, 5 + 2**32), (0, 5, 0), (0, 5, 1), (0, 0, 5)),
    *((0, 5, "video"), (0, 5, "text")),
]


@pytest.mark.parametrize(("one", "other"), combinations(PLACES, 2))
def test_another_place_draws_something_else(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    first, second = (torch.rand(8, generator=generator_at(*place)) for place in (one, other))
    assert not torch.equal(first, second)


def test_the_same_place_draws_the_same() -> None:
    first, again = (torch.rand(8, generator=generator_at(3, 4)) for _ in range(2))
    assert torch.equal(first, again)


def test_what_torch_keeps_of_a_seed_tells_places_apart() -> None:
    kept = [seed_at(seed, step) % 2**32 for seed in range(10) for step in range(1000)]
    assert len(set(kept)) > len(kept) - 3  # 10,000 among 4 billion: 0.01 pairs meet by chance
