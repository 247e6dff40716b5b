from __future__ import annotations

import numpy as np
import pytest
import torch

from mac_ray.retrieval.collapse import effective_rank, mean_cosine, signs_of_collapse
from mac_ray.retrieval.ranks import unit_rows


def random_rows(num: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


def test_effective_rank_of_points_along_each_axis_is_the_number_of_axes():
    axes = torch.eye(6)[:4]
    rows = unit_rows(torch.cat([axes, -axes]), "video")
    assert effective_rank(rows) == pytest.approx(4)


def test_effective_rank_of_points_on_a_line_is_one():
    direction = random_rows(1, 16)
    assert effective_rank(unit_rows(torch.cat([direction, -direction, direction]), "text")) == pytest.approx(
        1
    )


def test_effective_rank_of_equal_embeddings_with_rounding_noise_is_zero():
    rows = unit_rows(random_rows(1, 16) + 1e-6 * random_rows(50, 16, seed=1), "text")
    assert effective_rank(rows) == 0


def test_mean_cosine_matches_a_double_loop():
    rows = unit_rows(random_rows(9, 4) + 1, "text")
    pairs = [float(rows[a] @ rows[b]) for a in range(9) for b in range(9) if a != b]
    assert mean_cosine(rows) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_signs_of_collapse_of_spread_embeddings_raise_no_alarm():
    embeddings = {
        "video": unit_rows(random_rows(50, 16), "video"),
        "text": unit_rows(random_rows(50, 16, 1), "text"),
    }
    no_ties = np.zeros(200, dtype=np.int64)
    one_in_a_hundred = np.where(np.arange(200) < 2, 3, 0)
    result = signs_of_collapse(embeddings, {"t2v": no_ties, "v2t": one_in_a_hundred})
    assert result.warning is None
    assert result.numbers["collapse/v2t/tied"] == 0.01
    assert set(result.numbers) == {
        *(
            f"collapse/{side}/{sign}"
            for side in ("video", "text")
            for sign in ("effective_rank", "mean_cosine")
        ),
        "collapse/t2v/tied",
        "collapse/v2t/tied",
    }


def test_signs_of_collapse_are_neither_repeated_captions_nor_a_small_gallery():
    tied = {"t2v": np.ones(50, dtype=np.int64), "v2t": np.ones(50, dtype=np.int64)}
    for size in (2, 3, 4, 50):
        rows = {
            side: unit_rows(random_rows(size, 16, seed), side) for seed, side in enumerate(("video", "text"))
        }
        found = signs_of_collapse(rows, tied)
        assert found.warning is None
        assert found.numbers["collapse/t2v/tied"] == 1.0


@pytest.mark.parametrize(
    ("video", "share_tied", "sign"),
    [
        (random_rows(1, 16).expand(50, 16), 0.0, "mean cosine between video"),
        (random_rows(1, 16) * torch.linspace(-1, 1, 50)[:, None], 0.0, "effective rank of the video"),
        (random_rows(1, 16).expand(50, 16), 0.04, "4.0% of the t2v queries are tied"),
    ],
    ids=["a point", "a line", "a point with ties"],
)
def test_signs_of_collapse_name_what_is_wrong(video, share_tied, sign):
    embeddings = {"video": unit_rows(video, "video"), "text": unit_rows(random_rows(50, 16, 1), "text")}
    tied = (np.arange(100) < 100 * share_tied).astype(np.int64)
    warning = signs_of_collapse(embeddings, {"t2v": tied, "v2t": np.zeros(50, dtype=np.int64)}).warning
    assert warning is not None
    assert sign in warning
