"""Metrics against the textbook definitions, chance against counting every order."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from mac_ray.retrieval.metrics import NAMES, QueryRanks, chance, measure
from mac_ray.retrieval.ranks import Ranking


def plain(ranks: list[float]) -> dict[str, float]:
    recalls = {
        f"R{cutoff}": 100 * sum(rank <= cutoff for rank in ranks) / len(ranks) for cutoff in (1, 5, 10)
    }
    return recalls | {"MdR": statistics.median(ranks), "MnR": statistics.mean(ranks)}


def plain_both(t2v: list[float], v2t: list[float]) -> dict[str, float]:
    values = {f"t2v/{name}": value for name, value in plain(t2v).items()}
    values |= {f"v2t/{name}": value for name, value in plain(v2t).items()}
    values["Rsum"] = sum(value for name, value in values.items() if "/R" in name)
    return values


def queries(rank: list[float], sample: list[int]) -> QueryRanks:
    return QueryRanks(np.array(rank, dtype=np.float64), np.array(sample))


def test_names_are_the_fields_terms_of_both_directions():
    assert NAMES == (
        "t2v/R1", "t2v/R5", "t2v/R10", "t2v/MdR", "t2v/MnR",
        "v2t/R1", "v2t/R5", "v2t/R10", "v2t/MdR", "v2t/MnR",
        "Rsum",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("t2v", "v2t"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1]),
        ([1, 1.5, 5, 10.5], [12, 30, 11, 200]),
        ([3, 1, 10, 2.5], [5.5, 5, 1, 7]),
    ],
)
def test_measure_of_samples_taken_once_is_the_textbook_metric(t2v, v2t):
    directions = {"t2v": queries(t2v, [0, 1, 2, 3]), "v2t": queries(v2t, [0, 1, 2, 3])}
    measured = measure(directions, np.ones((1, 4), dtype=np.int64))
    assert dict(zip(NAMES, measured[0], strict=True)) == pytest.approx(plain_both(t2v, v2t))


def test_measure_of_a_perfect_model_reaches_an_rsum_of_600():
    directions = {"t2v": queries([1, 1, 1], [0, 1, 1]), "v2t": queries([1, 1], [0, 1])}
    assert measure(directions, np.ones((1, 2), dtype=np.int64))[0, -1] == 600


def test_measure_of_resamples_repeats_all_queries_of_a_sample():
    generator = np.random.default_rng(0)
    num_samples, captions = 7, [0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6]
    t2v = generator.integers(2, 40, size=len(captions)).tolist()
    v2t = (generator.integers(2, 40, size=num_samples) / 2).tolist()
    drawn = generator.integers(num_samples, size=(25, num_samples))
    multiplicity = np.array([np.bincount(row, minlength=num_samples) for row in drawn])

    directions = {"t2v": queries(t2v, captions), "v2t": queries(v2t, list(range(num_samples)))}
    measured = measure(directions, multiplicity)

    for values, row in zip(measured, drawn, strict=True):
        t2v_ranks = [t2v[query] for sample in row for query, owner in enumerate(captions) if owner == sample]
        expected = plain_both(t2v_ranks, [v2t[sample] for sample in row])
        assert dict(zip(NAMES, values, strict=True)) == pytest.approx(expected)


def ranking(num_positives: list[int], num_ranked: int) -> Ranking:
    nothing = np.zeros(len(num_positives))
    return Ranking(nothing, nothing.astype(np.int64), np.array(num_positives), num_ranked)


@pytest.mark.parametrize("gallery", [2, 7, 8, 12, 24, 1000, 27763])
def test_chance_with_one_positive_is_the_closed_form(gallery):
    both = ranking([1, 1, 1], gallery)
    values = chance({"t2v": both, "v2t": both})
    for direction in ("t2v", "v2t"):
        for cutoff in (1, 5, 10):
            assert values[f"{direction}/R{cutoff}"] == pytest.approx(100 * min(cutoff, gallery) / gallery)
        assert values[f"{direction}/MdR"] == (gallery + 1) / 2
        assert values[f"{direction}/MnR"] == pytest.approx((gallery + 1) / 2)
    assert values["Rsum"] == pytest.approx(sum(200 * min(cutoff, gallery) / gallery for cutoff in (1, 5, 10)))


def test_chance_with_several_positives_is_the_average_over_every_order():
    gallery, positives = 7, [1, 2, 3, 3]
    ranks = [
        1 + min(order.index(item) for item in range(count)) for count in positives
        for order in itertools.permutations(range(gallery))
    ]  # fmt: skip
    values = chance({"t2v": ranking([1], gallery), "v2t": ranking(positives, gallery)})
    for name, value in plain(ranks).items():
        assert values[f"v2t/{name}"] == pytest.approx(value)


def test_chance_where_owners_compete_by_their_best_item_is_the_average_over_every_order():
    owners = [0, 0, 0, 1, 1, 2]
    ranks = []
    for order in itertools.permutations(range(len(owners))):
        by_best_item = list(dict.fromkeys(owners[item] for item in order))
        ranks += [1 + by_best_item.index(owner) for owner in range(3)]
    values = chance({"t2v": ranking([1], 3), "v2t": ranking([1, 1, 1], 3)})
    for name, value in plain(ranks).items():
        assert values[f"v2t/{name}"] == pytest.approx(value)
