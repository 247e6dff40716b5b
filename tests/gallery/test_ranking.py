"""Ranking against plain loops."""

import numpy as np
import pytest

from mac_ray.gallery.media import SearchError
from mac_ray.gallery.ranking import nearest
from mac_ray.gallery.store import Gallery, Vectors
from mac_ray.gallery.windows import Window


def gallery_of(counts: list[int], vectors: Vectors) -> Gallery:
    """Files a, b, … with so many windows each, of a second."""
    media = [(name, "video") for name, count in zip("abcdefgh", counts, strict=False) for _ in range(count)]
    windows = [Window(number, number + 1) for count in counts for number in range(count)]
    return Gallery(media, windows, vectors, [])


@pytest.mark.parametrize("all_windows", [False, True])
@pytest.mark.parametrize("top", [1, 3, 100])
def test_hits_are_the_nearest_windows_by_a_plain_loop(top: int, all_windows: bool) -> None:
    generator = np.random.default_rng(top)
    counts = [4, 1, 7, 2, 1]
    vectors = generator.normal(size=(sum(counts), 6)).astype(np.float32)
    vectors[5] = vectors[3]  # a tie between two files
    query = generator.normal(size=6).astype(np.float32)
    gallery = gallery_of(counts, vectors)

    scored = []
    for (path, _), window, vector in zip(gallery.media, gallery.windows, vectors, strict=True):
        scored.append(
            (-sum(float(a) * float(b) for a, b in zip(vector, query, strict=True)), path, window.start)
        )
    scored = sorted((round(score, 4), path, start) for score, path, start in scored)
    expected = []
    for score, path, start in scored:
        if all_windows or path not in [entry[0] for entry in expected]:
            expected.append((path, start, -score))

    hits = nearest(query, gallery, top, all_windows)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [(hit.path, hit.window.start) for hit in hits] == [entry[:2] for entry in expected[:top]]
    assert [hit.score for hit in hits] == pytest.approx([entry[2] for entry in expected[:top]], abs=1e-3)


def test_scores_that_are_no_numbers_are_refused() -> None:
    vectors = np.array([[1.0, 0.0], [np.nan, 0.0]], np.float32)
    with pytest.raises(SearchError, match="not finite"):
        nearest(np.ones(2, np.float32), gallery_of([2], vectors), 1, all_windows=False)
