"""The collapse alarm: have the embeddings lost the room to tell samples apart?

Ranks alone do not say it (a collapsed model scores chance, like an untrained one), so three signs are
measured: how many directions the embeddings spread over, how near to each other they lie, how many queries
end in a tie. Only values no healthy model comes near raise the alarm, and ties alone do not, because captions that
are repeated tie as well; the numbers are logged either way.

N embeddings, E width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mac_ray.retrieval.ranks import TIE_TOLERANCE, IntArray, UnitRows

LEAST_EFFECTIVE_RANK = 2.0
MOST_MEAN_COSINE = 0.99
MOST_TIED_SHARE = 0.01


@dataclass(frozen=True)
class Collapse:
    numbers: dict[str, float]  # by name: collapse/video/effective_rank, collapse/t2v/tied, ...
    warning: str | None  # one sentence, when the alarm is raised


def signs_of_collapse(embeddings: Mapping[str, UnitRows], tied: Mapping[str, IntArray]) -> Collapse:
    """Signs of collapse of `embeddings` by side, (N, E), and of `tied` by direction, (Q,) ties per query."""
    numbers: dict[str, float] = {}
    signs: list[str] = []
    for side, rows in embeddings.items():
        numbers[f"collapse/{side}/effective_rank"] = rank = effective_rank(rows)
        numbers[f"collapse/{side}/mean_cosine"] = cosine = mean_cosine(rows)
        if rank < min(LEAST_EFFECTIVE_RANK, (len(rows) - 1) / 2):  # N rows span N - 1 directions at most
            signs.append(f"the effective rank of the {side} embeddings is {rank:.2f} of {rows.shape[1]}")
        if cosine > MOST_MEAN_COSINE:
            signs.append(f"the mean cosine between {side} embeddings is {cosine:.4f}")
    lost = bool(signs)
    for direction, ties in tied.items():
        numbers[f"collapse/{direction}/tied"] = share = float(np.mean(ties > 0))
        if lost and share > MOST_TIED_SHARE:
            signs.append(f"{share:.1%} of the {direction} queries are tied")
    return Collapse(numbers, f"Embeddings may have collapsed: {', '.join(signs)}." if signs else None)


def effective_rank(rows: UnitRows) -> float:
    """Number of directions that the centred `rows` (N, E) spread over: exp of the entropy of the covariance's
    eigenvalues (Roy and Vetterli, "The effective rank", EUSIPCO 2007), from 1 to E; 0 for equal rows.
    """
    centred = rows.astype(np.float64)
    centred -= centred.mean(axis=0)
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred / len(rows)).clip(min=0)  # (E,)
    spread = eigenvalues.sum()
    # rounding alone has a high rank, so a spread that scores cannot show counts as none
    if spread < TIE_TOLERANCE:
        return 0.0
    shares = eigenvalues[eigenvalues > 0] / spread
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_cosine(rows: UnitRows) -> float:
    """Mean cosine over the pairs of different rows of `rows` (N, E), N at least 2."""
    total = rows.sum(axis=0, dtype=np.float64)  # (E,)
    num_pairs = len(rows) * (len(rows) - 1)
    return float((total @ total - np.square(rows, dtype=np.float64).sum()) / num_pairs)
