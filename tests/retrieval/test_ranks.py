"""Ranks against a double loop over the scores, and the traps: last-bit differences, ties, NaN, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from mac_ray.retrieval.ranks import TIE_TOLERANCE, rank_among_items, rank_among_owners, unit_rows

RANKERS = pytest.mark.parametrize("ranker", [rank_among_items, rank_among_owners])


def standing(best: float, competitors: list[float]) -> float:
    """The definition, one competitor after the other."""
    rank = 1.0
    for other in competitors:
        if other > best + TIE_TOLERANCE:
            rank += 1
        elif other >= best - TIE_TOLERANCE:
            rank += 0.5
    return rank


def loop_among_items(scores, query_owner, gallery_owner):
    ranks = []
    for row, owner in zip(scores, query_owner, strict=True):
        own = [score for score, other in zip(row, gallery_owner, strict=True) if other == owner]
        rest = [score for score, other in zip(row, gallery_owner, strict=True) if other != owner]
        ranks.append(standing(max(own), rest))
    return ranks


def loop_among_owners(scores, query_owner, gallery_owner):
    ranks = []
    for row, owner in zip(scores, query_owner, strict=True):
        best: dict[int, float] = {}
        for score, other in zip(row, gallery_owner, strict=True):
            best[other] = max(best.get(other, -2.0), score)
        ranks.append(standing(best[owner], [score for other, score in best.items() if other != owner]))
    return ranks


LOOPS = {rank_among_items: loop_among_items, rank_among_owners: loop_among_owners}


def embeddings_for(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit queries and gallery items whose cosines are `scores` (Q, G), rows of length below 1."""
    rest = (1 - scores.square().sum(dim=1, keepdim=True)).sqrt()
    queries = torch.cat([scores, rest], dim=1)
    return queries, torch.eye(scores.shape[1], scores.shape[1] + 1, dtype=scores.dtype)


@RANKERS
@pytest.mark.parametrize("rows_per_block", [1, 7, 64, None])
def test_ranks_of_scores_with_many_ties_match_a_double_loop(ranker, rows_per_block):
    generator = torch.Generator().manual_seed(3)
    # few different values, far apart against the tolerance: most queries have ties
    scores = torch.randint(-4, 5, (30, 41), generator=generator).double() / 100
    query_owner = np.arange(30) % 9
    gallery_owner = np.random.default_rng(5).permutation(np.arange(41) % 9)
    queries, gallery = embeddings_for(scores)

    ranking = ranker(
        unit_rows(queries, "text"), unit_rows(gallery, "video"), query_owner, gallery_owner, rows_per_block
    )

    expected = LOOPS[ranker](scores.tolist(), query_owner.tolist(), gallery_owner.tolist())
    assert ranking.rank.tolist() == expected
    assert len(set(expected)) > 5


@RANKERS
def test_ranks_of_random_embeddings_match_a_double_loop(ranker):
    generator = torch.Generator().manual_seed(8)
    queries, gallery = torch.randn(37, 12, generator=generator), torch.randn(90, 12, generator=generator)
    query_owner = np.arange(37) % 30
    gallery_owner = np.random.default_rng(0).permutation(np.arange(90) % 30)

    ranking = ranker(unit_rows(queries, "text"), unit_rows(gallery, "video"), query_owner, gallery_owner)

    cosines = torch.nn.functional.cosine_similarity(queries[:, None].double(), gallery[None].double(), dim=2)
    assert ranking.rank.tolist() == LOOPS[ranker](
        cosines.tolist(), query_owner.tolist(), gallery_owner.tolist()
    )
    assert ranking.tied.sum() == 0


@pytest.mark.parametrize(
    ("num_queries", "num_items", "width"), [(17, 33, 255), (130, 257, 64), (5, 1031, 256)]
)
def test_ranks_of_equal_embeddings_in_all_columns_are_the_middle(num_queries, num_items, width):
    # sizes off every block size of a matrix product, whose edge kernels round differently
    row = torch.randn(1, width, generator=torch.Generator().manual_seed(width))
    owner = np.arange(num_queries)
    items = unit_rows(row.expand(num_items, width), "video")

    ranking = rank_among_items(
        unit_rows(row.expand(num_queries, width), "text"), items, owner, np.arange(num_items)
    )

    assert set(ranking.rank) == {(num_items + 1) / 2}
    assert set(ranking.tied) == {num_items - 1}


@RANKERS
def test_ranks_take_differences_of_rounding_for_ties_and_larger_ones_for_differences(ranker):
    cosines = torch.tensor([[0.4, 0.4 + 3e-7, 0.4 - 3e-7, 0.4 + 1e-5, 0.4 - 1e-5]], dtype=torch.float64)
    queries, gallery = embeddings_for(cosines)

    ranking = ranker(unit_rows(queries, "text"), unit_rows(gallery, "video"), np.array([0]), np.arange(5))

    assert ranking.tied.tolist() == [2]
    assert ranking.rank.tolist() == [3.0]


def test_rank_of_an_embedding_equal_to_its_pair_does_not_count_the_pair_against_itself():
    embeddings = unit_rows(torch.randn(1003, 257, generator=torch.Generator().manual_seed(0)), "video")
    owner = np.arange(1003)
    for rows_per_block in (1, 13, 256):
        ranking = rank_among_items(embeddings, embeddings, owner, owner, rows_per_block)
        assert set(ranking.rank) == {1.0}


def test_rank_counts_only_the_best_positive_and_no_other_positive():
    queries, gallery = embeddings_for(torch.tensor([[0.2, 0.4, 0.4, 0.3, 0.5, 0.1]], dtype=torch.float64))
    owner = np.array([7, 7, 7, 3, 3, 3])

    ranking = rank_among_items(unit_rows(queries, "text"), unit_rows(gallery, "video"), np.array([7]), owner)

    assert ranking.rank.tolist() == [2.0]
    assert ranking.tied.tolist() == [0]


@RANKERS
def test_ranks_do_not_depend_on_the_order_of_the_gallery(ranker):
    generator = torch.Generator().manual_seed(1)
    queries = unit_rows(torch.randn(20, 8, generator=generator), "text")
    gallery = unit_rows(torch.randn(60, 8, generator=generator), "video")
    query_owner, gallery_owner = np.arange(20), np.arange(60) % 20
    order = np.random.default_rng(2).permutation(60)

    before = ranker(queries, gallery, query_owner, gallery_owner)
    after = ranker(queries, gallery[order], query_owner, gallery_owner[order])

    assert before.rank.tolist() == after.rank.tolist()


@RANKERS
def test_ranks_of_a_query_without_positive_raise(ranker):
    rows = unit_rows(torch.eye(3), "video")
    with pytest.raises(ValueError, match="2 of 3 queries have no positive"):
        ranker(rows, rows, np.array([0, 8, 9]), np.array([0, 1, 2]))


@RANKERS
def test_ranks_with_owners_that_do_not_match_the_rows_raise(ranker):
    rows = unit_rows(torch.eye(3), "video")
    with pytest.raises(ValueError, match="3 gallery items with 2"):
        ranker(rows, rows, np.arange(3), np.arange(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_unit_rows_that_are_not_finite_raise_with_their_number_and_side(value):
    embeddings = torch.ones(5, 3)
    embeddings[1, 2] = embeddings[4, 0] = embeddings[4, 1] = value
    with pytest.raises(ValueError, match="2 of 5 text embeddings"):
        unit_rows(embeddings, "text")


def test_unit_rows_of_wrong_shape_raise():
    with pytest.raises(ValueError, match=r"video embeddings have shape \(2, 3, 4\)"):
        unit_rows(torch.ones(2, 3, 4), "video")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_unit_rows_of_any_float_type_have_length_one_and_zeros_stay(dtype):
    embeddings = torch.tensor([[3, 4], [0, 0], [3e4, -4e4]], dtype=dtype, requires_grad=True)
    rows = unit_rows(embeddings, "video")
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0.6, -0.8]], atol=4e-3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 0, 1], atol=1e-6)


def test_unit_rows_of_very_long_and_very_short_embeddings_keep_their_direction():
    rows = unit_rows(torch.tensor([[3e38, 3e38], [1e-38, -1e-38]]), "video")
    np.testing.assert_allclose(rows, np.array([[1, 1], [1, -1]]) / np.sqrt(2), rtol=1e-6)


def test_ranks_do_not_depend_on_torch_settings():
    generator = torch.Generator().manual_seed(4)
    queries, gallery = torch.randn(200, 64, generator=generator), torch.randn(200, 64, generator=generator)
    owner = np.arange(200)

    plain = rank_among_items(unit_rows(queries, "text"), unit_rows(gallery, "video"), owner, owner)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = rank_among_items(
            unit_rows(queries, "text"), unit_rows(gallery, "video"), owner, owner
        )

    assert plain.rank.tolist() == under_autocast.rank.tolist()


def test_memory_of_ranking_20000_against_20000_is_far_below_the_score_matrix():
    embeddings = unit_rows(torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0)), "video")
    owner = np.arange(20_000)
    tracemalloc.start()
    ranking = rank_among_items(embeddings, embeddings, owner, owner)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(ranking.rank) == {1.0}
    assert peak < 32 * 2**20  # the score matrix would take 1.6 GB
