"""The windows nearest to a query, the nearest first.

N windows, E embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mac_ray.gallery.media import SearchError
from mac_ray.gallery.store import Gallery, Vectors
from mac_ray.gallery.windows import Window


@dataclass(frozen=True)
class Hit:
    rank: int  # from 1 on
    path: str  # below the folder that is searched
    kind: str  # video or image
    window: Window
    score: float  # cosine


def nearest(query: Vectors, gallery: Gallery, top: int, all_windows: bool) -> list[Hit]:
    """The `top` windows by cosine to the query (E,); of each file only its best, unless `all_windows`.

    What is equally near comes in the order of path and time. Raises SearchError when a score is not a number.
    """
    scores = gallery.vectors @ query  # (N,)
    if not np.isfinite(scores).all():
        raise SearchError(
            "the encoder gives vectors that are not finite, so nothing can be ranked; train it anew"
        )
    hits: list[Hit] = []
    seen: set[str] = set()
    for row in np.argsort(-scores, kind="stable"):
        path, kind = gallery.media[row]
        if len(hits) == top:
            break
        if path in seen and not all_windows:
            continue
        seen.add(path)
        hits.append(Hit(len(hits) + 1, path, kind, gallery.windows[row], float(scores[row])))
    return hits
