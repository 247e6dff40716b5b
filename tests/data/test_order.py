"""The global order: every sample once an epoch, whoever asks, whenever."""

import pickle
import random

import numpy as np
import pytest

from mac_ray.data.order import GlobalOrder, MixedOrder, Order, apportioned, share_of, shares


@pytest.mark.parametrize("total", [0, 1, 7, 8, 64])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8, 9])
def test_shares_deal_out_every_row_in_order(total: int, num_ranks: int) -> None:
    rows = [share_of(total, rank, num_ranks) for rank in range(num_ranks)]
    assert [row for part in rows for row in part] == list(range(total))
    assert [len(part) for part in rows] == shares(total, num_ranks)
    assert max(shares(total, num_ranks)) - min(shares(total, num_ranks)) <= 1


def test_order_has_every_sample_once_an_epoch() -> None:
    order = list(GlobalOrder(10, seed=3, stage=0).at(range(50)))
    for epoch in range(5):
        within = order[epoch * 10 : epoch * 10 + 10]
        assert {number for number, _ in within} == {epoch}
        assert sorted(sample for _, sample in within) == list(range(10))


def test_order_of_sets_drawn_as_one_stays_what_it_was() -> None:
    """Written down once: runs that were killed go on with it."""
    assert list(GlobalOrder(7, seed=3, stage=1).at(range(9))) == [
        *((0, number) for number in (2, 0, 3, 6, 4, 5, 1)),
        (1, 4),
        (1, 0),
    ]


def test_order_is_that_of_numpys_permutations() -> None:
    """What a process keeps of an epoch is smaller than what numpy gives; the order is the same."""
    whole = [number for _, number in GlobalOrder(1000, seed=3, stage=1).at(range(3000))]
    for epoch in range(3):
        drawn = np.random.default_rng([3, 1, epoch, 1000]).permutation(1000).tolist()
        assert whole[1000 * epoch : 1000 * epoch + 1000] == drawn
    mixed = [set_of(number, [300, 700]) for _, number in MixedOrder([300, 700], [1, 1], 3, 1).at(range(1000))]
    sets = np.repeat(np.arange(2, dtype=np.int32), 500)
    assert mixed == np.random.default_rng([3, 1, 0, 1000]).permutation(sets).tolist()


@pytest.mark.parametrize("order", [GlobalOrder(10**6, 3, 0), MixedOrder([10**5, 10**6], [1, 3], 3, 0)])
def test_order_that_was_used_is_pickled_without_what_it_drew(order: Order) -> None:
    used = list(order.at(range(5, 8)))
    assert len(pickle.dumps(order)) < 2000
    assert list(pickle.loads(pickle.dumps(order)).at(range(5, 8))) == used


@pytest.mark.parametrize("order", [GlobalOrder(10, 3, 0), MixedOrder([6, 4], [1, 3], 3, 0)])
def test_order_asked_for_in_any_sequence_is_the_same(order: Order) -> None:
    fresh = pickle.dumps(order)
    whole = list(order.at(range(80)))
    ranges = [range(first, first + 7) for first in range(0, 70, 7)]
    random.Random(0).shuffle(ranges)
    for positions in ranges:
        expected = [whole[position] for position in positions]
        assert list(order.at(positions)) == expected
        assert list(pickle.loads(fresh).at(positions)) == expected
        assert list(pickle.loads(pickle.dumps(order)).at(positions)) == expected


@pytest.mark.parametrize("mixed", [False, True])
def test_order_of_another_epoch_stage_or_seed_is_another(mixed: bool) -> None:
    def order(seed: int, stage: int) -> Order:
        return MixedOrder([10, 20], [1, 1], seed, stage) if mixed else GlobalOrder(30, seed, stage)

    drawn = [
        tuple(sample for _, sample in order(seed, stage).at(range(first, first + 30)))
        for seed, stage, first in [(0, 0, 0), (0, 0, 30), (0, 1, 0), (1, 0, 0)]
    ]
    assert len(set(drawn)) == 4


# ---------------------------------------------------------------- sets by weight

MIXES = [
    ([6, 4], [1.0, 3.0]),
    ([300, 700], [1.0, 1.0]),
    ([5, 50, 7], [0.2, 0.3, 0.5]),
    ([40, 3], [0.1, 0.9]),  # the small set comes round many times an epoch
]
EVERY_MIX = pytest.mark.parametrize(("sizes", "weights"), MIXES)


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1], [5, 5]),
        (10, [1, 1, 1], [4, 3, 3]),
        (10, [0.55, 0.45], [6, 4]),  # 5.5 and 4.5: of equal remainders, the first
        (100, [0.334, 0.333, 0.333], [34, 33, 33]),
        (7, [1, 2, 4], [1, 2, 4]),
        (10, [1, 1000], [0, 10]),
    ],
)
def test_whole_parts_are_those_of_the_largest_remainder(
    total: int, weights: list[float], expected: list[int]
) -> None:
    assert apportioned(total, weights) == expected


def test_whole_parts_add_up_and_are_within_one_of_the_exact() -> None:
    generator = random.Random(0)
    for _ in range(200):
        weights = [generator.uniform(0.01, 9) for _ in range(generator.randint(1, 6))]
        total = generator.randint(1, 1000)
        counts = apportioned(total, weights)
        assert sum(counts) == total
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - total * weight / sum(weights)) < 1


def set_of(number: int, sizes: list[int]) -> int:
    """Which set a sample number belongs to, one set after the other."""
    for which, size in enumerate(sizes):
        if number < size:
            return which
        number -= size
    raise AssertionError


@EVERY_MIX
def test_mixed_order_has_the_exact_shares_in_every_epoch(sizes: list[int], weights: list[float]) -> None:
    total = sum(sizes)
    order = MixedOrder(sizes, weights, seed=3, stage=0)
    for epoch in range(4):
        drawn = [set_of(number, sizes) for _, number in order.at(range(epoch * total, (epoch + 1) * total))]
        assert [drawn.count(which) for which in range(len(sizes))] == apportioned(total, weights)


@EVERY_MIX
def test_mixed_order_repeats_no_sample_before_its_set_is_exhausted(
    sizes: list[int], weights: list[float]
) -> None:
    drawn: list[list[tuple[int, int]]] = [[] for _ in sizes]
    for epoch, number in MixedOrder(sizes, weights, seed=3, stage=0).at(range(15 * sum(sizes))):
        drawn[set_of(number, sizes)].append((epoch, number))
    for which, (size, own) in enumerate(zip(sizes, drawn, strict=True)):
        first = sum(sizes[:which])
        walks = [own[start : start + size] for start in range(0, len(own), size)]
        for epoch, walk in enumerate(walks):
            assert {own_epoch for own_epoch, _ in walk} == {epoch}
            numbers = [number for _, number in walk]
            assert len(set(numbers)) == len(numbers)
            assert set(numbers) <= set(range(first, first + size))
        assert len(walks) > 1
        assert [number for _, number in walks[0]] != [number for _, number in walks[1]]


def test_mixed_order_mixes_every_batch() -> None:
    sizes = [300, 700]
    order = MixedOrder(sizes, [1.0, 1.0], seed=3, stage=0)
    for start in range(0, 3000, 50):
        first = sum(set_of(number, sizes) == 0 for _, number in order.at(range(start, start + 50)))
        assert 10 < first < 40


@EVERY_MIX
def test_alternatives_of_a_sample_are_those_of_its_set(sizes: list[int], weights: list[float]) -> None:
    order = MixedOrder(sizes, weights, seed=0, stage=0)
    for number in range(sum(sizes)):
        own = set_of(number, sizes)
        assert list(order.alternatives(number)) == [
            other for other in range(sum(sizes)) if set_of(other, sizes) == own
        ]
