"""Exact ranks of the true pairs, counted over blocks of query rows.

rank = 1 + competitors scored higher + half of the competitors tied with the positive. A competitor is an
item that is not a positive of the query, decided by owner ids and never by comparing scores: a score that
is computed again by another kernel differs in the last bit and would count an item against itself.

Scores are float32 cosines computed by numpy on the CPU. No torch setting (autocast, TF32, matmul precision)
and no device reaches them, so the same embeddings give the same ranks everywhere.

Q queries, G gallery items, E width of the embeddings, V owners (samples), P most positives of a query.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, NewType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
UnitRows = NewType("UnitRows", npt.NDArray[np.float32])  # made by `unit_rows`: finite, of length 1
Blocks = Iterator[tuple[slice, npt.NDArray[np.float32]]]  # consecutive query rows and their scores

# A float32 dot product of two unit vectors is off by a few 1e-7, depending on the column's place in the
# matrix product. Cosines nearer than this cannot be told apart, so they are ties.
TIE_TOLERANCE = 1e-6

BLOCK_SCORES = 2_560_000  # 10 MB of float32, about a processor's cache: 256 rows of a gallery of 10,000


class Ranking(NamedTuple):
    rank: FloatArray  # (Q,) from 1; halves come from ties
    tied: IntArray  # (Q,) number of competitors tied with the positive
    num_positives: IntArray  # (Q,) how many of the ranked things are positives of the query
    num_ranked: int  # gallery items, or owners where those compete


def unit_rows(embeddings: Tensor, side: str) -> UnitRows:
    """The rows of `embeddings` (N, E), any float type and device, at length 1 as float32 (N, E).

    A row of zeros stays zero: its cosine with anything is 0. `side` names the embeddings in errors.
    Raises ValueError unless the shape is (N, E) and every value is finite.
    """
    if embeddings.ndim != 2:
        raise ValueError(
            f"{side} embeddings have shape {tuple(embeddings.shape)}; give one row per item, (N, E)"
        )
    rows = embeddings.detach().to("cpu", torch.float64).numpy()
    num_bad = np.count_nonzero(~np.isfinite(rows).all(axis=1))
    if num_bad:
        raise ValueError(
            f"{num_bad} of {len(rows)} {side} embeddings hold NaN or inf, so there is nothing to score; "
            f"find the step where the loss or the weights stopped being finite"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)  # (N, 1)
    return UnitRows((rows / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32))


def rank_among_items(
    queries: UnitRows,
    gallery: UnitRows,
    query_owner: IntArray,
    gallery_owner: IntArray,
    rows_per_block: int | None = None,
) -> Ranking:
    """Rank of each query's best positive among all gallery items that are not its positives.

    `queries` (Q, E), `gallery` (G, E); the positives of a query are the items with its owner: `query_owner`
    (Q,), `gallery_owner` (G,). Memory is O(rows_per_block * G); None takes blocks of BLOCK_SCORES scores.
    Raises ValueError for a query without a positive, and for owners that do not match the rows.
    """
    _require_owners(queries, gallery, query_owner, gallery_owner)
    gallery, owners = _by_owner(gallery, gallery_owner)
    first, num_positives = _positives(query_owner, owners)
    blocks = _score_blocks(queries, gallery, rows_per_block)
    return _count(blocks, first, num_positives, len(gallery))


def rank_among_owners(
    queries: UnitRows,
    gallery: UnitRows,
    query_owner: IntArray,
    gallery_owner: IntArray,
    rows_per_block: int | None = None,
) -> Ranking:
    """Rank of each query's owner among all owners in the gallery, each standing by its best-scored item.

    Arguments and errors as in `rank_among_items`.
    """
    _require_owners(queries, gallery, query_owner, gallery_owner)
    gallery, item_owners = _by_owner(gallery, gallery_owner)
    owners, starts = np.unique(item_owners, return_index=True)  # (V,), (V,)
    first, num_positives = _positives(query_owner, owners)
    blocks = (
        (rows, np.maximum.reduceat(scores, starts, axis=1))  # (rows, V)
        for rows, scores in _score_blocks(queries, gallery, rows_per_block)
    )
    return _count(blocks, first, num_positives, len(owners))


def _require_owners(
    queries: UnitRows, gallery: UnitRows, query_owner: IntArray, gallery_owner: IntArray
) -> None:
    if len(queries) != len(query_owner) or len(gallery) != len(gallery_owner):
        raise ValueError(
            f"{len(queries)} queries came with {len(query_owner)} owners and {len(gallery)} gallery items "
            f"with {len(gallery_owner)}; give one owner per row"
        )


def _by_owner(gallery: UnitRows, gallery_owner: IntArray) -> tuple[UnitRows, IntArray]:
    """The gallery with the items of an owner side by side, so that positives are ranges of columns."""
    order = np.argsort(gallery_owner, kind="stable")
    return UnitRows(gallery[order]), gallery_owner[order]


def _positives(query_owner: IntArray, owners: IntArray) -> tuple[IntArray, IntArray]:
    """First column (Q,) and number (Q,) of each query's positives, `owners` being sorted."""
    first = np.searchsorted(owners, query_owner, side="left")
    num_positives = np.searchsorted(owners, query_owner, side="right") - first
    num_alone = np.count_nonzero(num_positives == 0)
    if num_alone:
        raise ValueError(
            f"{num_alone} of {len(query_owner)} queries have no positive in the gallery; "
            f"score only queries whose pair is there"
        )
    return first, num_positives


def _score_blocks(queries: UnitRows, gallery: UnitRows, rows_per_block: int | None) -> Blocks:
    """Scores (rows, G) of consecutive query rows. A block is overwritten by the next one."""
    size = max(1, BLOCK_SCORES // len(gallery)) if rows_per_block is None else rows_per_block
    buffer = np.empty((min(size, len(queries)), len(gallery)), dtype=np.float32)
    for start in range(0, len(queries), size):
        rows = slice(start, min(start + size, len(queries)))
        yield rows, np.matmul(queries[rows], gallery.T, out=buffer[: rows.stop - rows.start])


def _count(blocks: Blocks, first: IntArray, num_positives: IntArray, num_ranked: int) -> Ranking:
    higher = np.zeros(len(first), dtype=np.int64)
    tied = np.zeros(len(first), dtype=np.int64)
    nth = np.arange(num_positives.max(initial=1))  # (P,)
    for rows, scores in blocks:
        exists = nth < num_positives[rows, None]  # (rows, P)
        columns = np.where(exists, first[rows, None] + nth, first[rows, None])  # (rows, P)
        positives = np.take_along_axis(scores, columns, axis=1)  # (rows, P)
        best = positives.max(axis=1, keepdims=True)  # (rows, 1)
        floor = best - TIE_TOLERANCE
        # no positive exceeds the best one, so only the ties have positives to take out again
        higher[rows] = np.count_nonzero(scores > best + TIE_TOLERANCE, axis=1)
        not_lower = np.count_nonzero(scores >= floor, axis=1)
        tied[rows] = not_lower - higher[rows] - np.count_nonzero((positives >= floor) & exists, axis=1)
    return Ranking(1 + higher + tied / 2, tied, num_positives, num_ranked)
