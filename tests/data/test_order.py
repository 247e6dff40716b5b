"""The global order: every sample once an epoch, whoever asks, whenever."""

import pickle
import random

import pytest

from mac_ray.data.order import GlobalOrder, share_of, shares


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


def test_order_asked_for_in_any_sequence_is_the_same() -> None:
    whole = list(GlobalOrder(10, seed=3, stage=0).at(range(80)))
    ranges = [range(first, first + 7) for first in range(0, 70, 7)]
    random.Random(0).shuffle(ranges)
    order = GlobalOrder(10, seed=3, stage=0)
    for positions in ranges:
        expected = [whole[position] for position in positions]
        assert list(order.at(positions)) == expected
        assert list(GlobalOrder(10, seed=3, stage=0).at(positions)) == expected
        assert list(pickle.loads(pickle.dumps(order)).at(positions)) == expected


def test_order_of_another_epoch_stage_or_seed_is_another() -> None:
    drawn = [
        tuple(sample for _, sample in GlobalOrder(30, seed, stage).at(range(first, first + 30)))
        for seed, stage, first in [(0, 0, 0), (0, 0, 30), (0, 1, 0), (1, 0, 0)]
    ]
    assert len(set(drawn)) == 4
