"""Errors over crossed seeds and samples against the analysis of variance written out; levels on made data."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mac_ray.ablation.statistics import Uncertainty, agreement, estimate, holm


def resampled_means(scores: np.ndarray, num_resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(S, N) from (S, V): the same samples for all seeds."""
    num_samples = scores.shape[1]
    drawn = generator.integers(num_samples, size=(num_resamples, num_samples))
    return scores[:, drawn].mean(axis=2)


def made(generator: np.random.Generator, seeds: int, samples: int, spread: float) -> np.ndarray:
    """Hits in percent (S, V) of models that differ by their seed's luck and by what each finds hard."""
    hardness = np.random.default_rng(1).normal(size=samples)
    luck = generator.normal(scale=spread, size=(seeds, 1))
    return 100.0 * (hardness + luck + generator.normal(size=(seeds, samples)) > 0.4)


def test_estimate_of_seeds_and_samples_agrees_with_the_mean_squares() -> None:
    generator = np.random.default_rng(3)
    seeds, samples = 4, 150
    scores = (
        generator.normal(scale=3, size=(seeds, 1))
        + generator.normal(scale=20, size=(1, samples))
        + generator.normal(scale=10, size=(seeds, samples))
    )
    found = estimate(scores.mean(axis=1), resampled_means(scores, 4000, generator))
    grand = scores.mean()
    of_seed = [sum(scores[s]) / samples for s in range(seeds)]
    of_sample = [sum(scores[:, v]) / seeds for v in range(samples)]
    seed_square = samples * sum((mean - grand) ** 2 for mean in of_seed) / (seeds - 1)
    sample_square = seeds * sum((mean - grand) ** 2 for mean in of_sample) / (samples - 1)
    both_square = sum(
        (scores[s, v] - of_seed[s] - of_sample[v] + grand) ** 2 for s in range(seeds) for v in range(samples)
    ) / ((seeds - 1) * (samples - 1))
    together = seed_square + sample_square - both_square
    assert found.mean == pytest.approx(grand)
    _, both, of_seeds = found.uncertainties
    assert both.error == pytest.approx(math.sqrt(together / (seeds * samples)), rel=0.05)
    assert both.freedom == pytest.approx((seeds - 1) * (together / seed_square) ** 2, rel=0.15)
    assert of_seeds.error == pytest.approx(math.sqrt(seed_square / (seeds * samples)), rel=1e-6)
    assert of_seeds.freedom == seeds - 1


def test_estimate_of_one_seed_is_the_spread_of_its_resamples() -> None:
    resampled = np.random.default_rng(0).normal(40.0, 2.0, size=(1, 5000))
    found = estimate(np.array([40.0]), resampled)
    low, high = found.interval
    assert low == pytest.approx(40 - 1.96 * 2, abs=0.15)
    assert high == pytest.approx(40 + 1.96 * 2, abs=0.15)


def test_estimate_of_seeds_that_agree_by_luck_is_no_surer_than_its_samples() -> None:
    generator = np.random.default_rng(0)
    resampled = 40 + generator.normal(scale=2.0, size=(2, 2000))
    found = estimate(np.array([40.0, 40.0]), resampled)
    assert found.interval[1] - 40 == pytest.approx(1.96 * 2 / math.sqrt(2), rel=0.1)


def test_interval_of_seeds_that_differ_needs_the_quantile_of_few_degrees_of_freedom() -> None:
    values = np.array([30.0, 40.0, 50.0])
    found = estimate(values, np.repeat(values[:, None], 10, axis=1))  # every sample says the same
    assert found.interval[1] - 40 == pytest.approx(4.303 * 10 / math.sqrt(3), rel=1e-3)  # Student, 2 degrees


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_p_values_without_a_difference_are_small_about_as_often_as_they_say(spread: float) -> None:
    generator = np.random.default_rng(7)
    trials, found = 500, 0
    for _ in range(trials):
        difference = made(generator, 3, 120, spread) - made(generator, 3, 120, spread)
        resampled = resampled_means(difference, 150, generator)
        found += estimate(difference.mean(axis=1), resampled).p_value < 0.05
    assert 0.004 < found / trials < 0.075


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("of_samples", [0.0, 1.0])  # what they do to all seeds of a row alike
@pytest.mark.parametrize("luck", [1.0, 10.0])
def test_p_values_hold_at_the_small_levels_that_holm_asks_for(
    seeds: int, of_samples: float, luck: float
) -> None:
    """Variances relative to that of what samples do to each seed by itself."""
    generator = np.random.default_rng(7)
    trials, level = 4000, 0.05 / 11
    found = 0
    for _ in range(trials):
        values = generator.normal(scale=math.sqrt(1 + luck), size=(seeds, 1))
        values = values + generator.normal(scale=math.sqrt(of_samples))
        noise = generator.normal(size=(seeds, 60))
        noise += generator.normal(scale=math.sqrt(of_samples), size=60)
        found += estimate(values[:, 0], values + noise).p_value < level
    assert found / trials < 1.6 * level


def test_p_value_of_a_clear_difference_is_small() -> None:
    generator = np.random.default_rng(7)
    difference = made(generator, 5, 400, 0.02) - 0.5 * made(generator, 5, 400, 0.02)
    found = estimate(difference.mean(axis=1), resampled_means(difference, 300, generator))
    assert found.p_value < 0.01


def test_p_values_are_those_of_tables_of_student_s_t() -> None:
    assert Uncertainty(1.0, 10).p_value(2.2281, 99) == pytest.approx(0.05, rel=1e-3)
    assert Uncertainty(2.0, 2).p_value(-2 * 4.3027, 99) == pytest.approx(0.05, rel=1e-3)
    assert Uncertainty(1.0, math.inf).p_value(-1.96, 99) == pytest.approx(0.05, abs=1e-3)


def test_p_value_without_any_spread_is_one_only_where_there_is_no_difference() -> None:
    assert estimate(np.zeros(2), np.zeros((2, 99))).p_value == 1.0
    assert estimate(np.ones(2), np.ones((2, 99))).p_value == pytest.approx(0.01)


def test_seeds_that_tie_in_hits_are_no_surer_than_the_rounding() -> None:
    """Of two seeds that differ from the baseline alike, as recalls of 500 queries do now and then."""
    noise = np.random.default_rng(0).normal(scale=1.1 * math.sqrt(2), size=(2, 2000))
    noise = noise / noise.mean(axis=0).std() * 1.1
    tied, near = (
        estimate(values, values[:, None] + noise, 2 * 0.2**2 / 12)
        for values in (np.array([3.0, 3.0]), np.array([2.8, 3.2]))
    )
    assert 0.01 < tied.p_value < near.p_value < 0.05


def test_medians_of_one_rank_and_another_are_as_sure_as_their_resamples() -> None:
    """Of ranks that are 1 as often as not, medians of 1 and 2 differ by chance; their standard deviation says not."""
    generator = np.random.default_rng(7)
    trials, queries, found = 300, 201, 0
    for _ in range(trials):
        ranks = 1 + generator.integers(2, size=(2, queries))
        drawn = generator.integers(queries, size=(400, queries))
        medians = np.median(ranks[:, drawn], axis=2)
        difference = np.median(ranks, axis=1) @ [1, -1]
        estimated = estimate(
            np.array([difference]), (medians[0] - medians[1])[None], rounding=1 / 6, is_coarse=True
        )
        found += estimated.p_value < 0.05
        low, high = estimated.interval
        assert (low > 0 or high < 0) == (estimated.p_value < 0.05)
    assert found / trials < 0.07


@pytest.mark.parametrize(("seeds", "is_found"), [(2, False), (3, False), (5, True)])
def test_seeds_whose_whole_ranks_agree_are_no_surer_than_the_rounding(seeds: int, is_found: bool) -> None:
    """Of medians that are 1 or 2 by chance, three seeds in thirty-two differ alike."""
    found = estimate(np.full(seeds, -1.0), np.full((seeds, 99), -1.0), rounding=1 / 6)
    assert (found.p_value < 0.05) == is_found
    assert (found.interval[1] < 0) == is_found
    assert found.p_value > 0.0045  # Holm's first of eleven


def test_holm_agrees_with_a_worked_example() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.6, "b": 0.7}) == pytest.approx({"a": 1.0, "b": 1.0})
    assert holm({}) == {}


def test_agreement_counts_pairs_and_gives_tau_b() -> None:
    ours, theirs = [3.0, 1.0, 2.0, 5.0, 2.0], [30.0, 10.0, 25.0, 20.0, 20.0]
    signs = [
        ((ours[i] > ours[j]) - (ours[i] < ours[j]), (theirs[i] > theirs[j]) - (theirs[i] < theirs[j]))
        for i, j in combinations(range(5), 2)
    ]
    expected = sum(a * b for a, b in signs) / math.sqrt(
        sum(a * a for a, _ in signs) * sum(b * b for _, b in signs)
    )
    found = agreement(np.array(ours), np.array(theirs))
    assert found.tau == pytest.approx(expected)
    # of those published as different, the ones that are tied here do not agree
    assert (found.pairs, found.pairs - found.agreeing) == (9, 3)
    assert found.pairs == sum(b != 0 for _, b in signs)
    assert found.agreeing == sum(a * b > 0 for a, b in signs)


def test_agreement_of_what_one_side_ties_counts_the_pairs_that_theirs_orders() -> None:
    tied, ordered = np.array([1.0, 1.0, 1.0]), np.array([10.0, 20.0, 30.0])
    for ours, theirs, pairs in ((tied, ordered, 3), (ordered, tied, 0)):
        found = agreement(ours, theirs)
        assert (found.pairs, found.agreeing) == (pairs, 0)
        assert math.isnan(found.tau)


def test_agreement_of_three_rows_can_not_be_told_from_chance() -> None:
    found = agreement(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))
    assert found.tau == pytest.approx(1.0)
    assert found.p_value == pytest.approx(found.smallest_p_value) == pytest.approx(1 / 3)


def test_agreement_of_tied_rows_is_judged_by_all_their_orders() -> None:
    """The normal approximation would find 0.0495 for the best that can be had."""
    published = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    found = agreement(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), published)
    assert (found.pairs, found.agreeing) == (9, 9)
    assert found.p_value == pytest.approx(found.smallest_p_value) == pytest.approx(2 / math.comb(6, 3))


@pytest.mark.parametrize(("groups", "smallest"), [((8, 1), 2 / 9), ((5, 4), 2 / math.comb(9, 4))])
def test_agreement_of_many_rows_with_ties_is_judged_by_drawn_orders(
    groups: tuple[int, int], smallest: float
) -> None:
    published = np.repeat([1.0, 2.0], groups)
    found = agreement(np.arange(9.0), published)
    assert found.smallest_p_value == found.p_value == pytest.approx(smallest, rel=0.15)


@pytest.mark.parametrize("rows", [5, 8, 9])
def test_agreement_without_ties_is_the_exact_test(rows: int) -> None:
    generator = np.random.default_rng(rows)
    ours, theirs = generator.permutation(rows).astype(float), generator.permutation(rows).astype(float)
    found = agreement(ours, theirs)
    assert found.p_value == pytest.approx(stats.kendalltau(ours, theirs, method="exact").pvalue)
    assert found.smallest_p_value == pytest.approx(2 / math.factorial(rows))
