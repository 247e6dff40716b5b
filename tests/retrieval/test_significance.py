"""Bootstrap intervals against a direct loop over the same draws, and against the truth they should cover."""

from __future__ import annotations

import numpy as np
import pytest

from mac_ray.retrieval.metrics import NAMES, QueryRanks
from mac_ray.retrieval.significance import BLOCK_QUERIES, bootstrap, intervals

NUM_SAMPLES = 40


def directions(seed: int) -> dict[str, QueryRanks]:
    generator = np.random.default_rng(seed)
    captions = np.repeat(np.arange(NUM_SAMPLES), generator.integers(1, 5, size=NUM_SAMPLES))
    t2v = generator.geometric(0.15, size=len(captions)) + generator.integers(2, size=len(captions)) / 2
    v2t = generator.geometric(0.2, size=NUM_SAMPLES).astype(np.float64)
    return {"t2v": QueryRanks(t2v, captions), "v2t": QueryRanks(v2t, np.arange(NUM_SAMPLES))}


def test_bootstrap_matches_a_direct_loop_over_the_same_draws():
    both, num_resamples = directions(seed=1), 30_000
    assert num_resamples > 2 * BLOCK_QUERIES / len(both["t2v"].rank)  # so that it is drawn in several blocks
    resampled = bootstrap(both, NUM_SAMPLES, num_resamples, np.random.default_rng(7))

    draws = np.random.default_rng(7).integers(NUM_SAMPLES, size=(num_resamples, NUM_SAMPLES))
    for row in [*range(30), *range(num_resamples - 30, num_resamples)]:
        expected = []
        for queries in (both["t2v"], both["v2t"]):
            ranks = np.concatenate([queries.rank[queries.sample == sample] for sample in draws[row]])
            expected += [100 * np.mean(ranks <= cutoff) for cutoff in (1, 5, 10)]
            expected += [np.median(ranks), np.mean(ranks)]
        expected.append(sum(expected[:3]) + sum(expected[5:8]))
        assert resampled[row] == pytest.approx(expected)


def test_bootstrap_of_a_seed_is_repeatable_and_touches_no_global_generator():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = bootstrap(directions(seed=2), NUM_SAMPLES, 30, np.random.default_rng(5))
    again = bootstrap(directions(seed=2), NUM_SAMPLES, 30, np.random.default_rng(5))
    other = bootstrap(directions(seed=2), NUM_SAMPLES, 30, np.random.default_rng(6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_intervals_are_the_percentiles_of_each_metric():
    resampled = np.outer(np.arange(1001), np.arange(1, len(NAMES) + 1)).astype(np.float64)
    result = intervals(np.random.default_rng(0).permutation(resampled), NUM_SAMPLES)
    assert list(result) == list(NAMES)
    for column, name in enumerate(NAMES, start=1):
        assert result[name] == pytest.approx((25 * column, 975 * column))


def test_interval_of_hits_alone_or_of_none_has_the_room_that_so_many_samples_leave():
    """Of 500 samples without a hit, 0.735% is the share at which that still happens one time in 40."""
    queries = {name: QueryRanks(np.full(500, 7.0), np.arange(500)) for name in ("t2v", "v2t")}
    result = intervals(bootstrap(queries, 500, 50, np.random.default_rng(0)), 500)
    assert result["t2v/R1"] == pytest.approx((0.0, 0.735), abs=0.001)
    assert result["v2t/R10"] == pytest.approx((99.265, 100.0), abs=0.001)
    assert (1 - result["t2v/R1"][1] / 100) ** 500 == pytest.approx(0.025)
    assert result["t2v/MdR"] == (7.0, 7.0)
    never = {name: QueryRanks(np.full(500, 11.0), np.arange(500)) for name in ("t2v", "v2t")}
    sums = intervals(bootstrap(never, 500, 50, np.random.default_rng(0)), 500)
    assert sums["Rsum"] == pytest.approx((0.0, 6 * 0.735), abs=0.01)


def test_intervals_cover_the_true_recall_about_95_times_in_100():
    generator = np.random.default_rng(11)
    num_samples, captions_each, covered, trials = 80, 5, 0, 300
    owner = np.repeat(np.arange(num_samples), captions_each)
    for _ in range(trials):
        # all captions of a sample succeed or fail together, with probability 0.4
        found = np.repeat(generator.random(num_samples) < 0.4, captions_each)
        rank = np.where(found, 1.0, 50.0)
        both = {
            "t2v": QueryRanks(rank, owner),
            "v2t": QueryRanks(rank[::captions_each], np.arange(num_samples)),
        }
        low, high = intervals(bootstrap(both, num_samples, 200, generator), num_samples)["t2v/R1"]
        covered += low <= 40 <= high
    # resampling captions one by one would cover about 60 in 100
    assert 0.90 < covered / trials < 0.99
