"""Whole evaluations: hand-made matrices for each protocol, and everything that must not be scored."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mac_ray.config import Evaluation
from mac_ray.retrieval.metrics import NAMES
from mac_ray.retrieval.protocols import CONVENTIONS, PROTOCOLS, Scores, score

# but the one whose samples come with one text; given one each, it is that of one_caption
EVERY_PROTOCOL = pytest.mark.parametrize("protocol", sorted(set(CONVENTIONS) - {"paragraph"}))

# Cosines of captions (rows) with videos (columns): a has captions 0, 1 and b 2, 3, 4 and c 5.
OWNERS = ["a", "a", "b", "b", "b", "c"]
COSINES = torch.tensor(
    [
        [0.1, 0.5, 0.2],
        [0.6, 0.1, 0.5],
        [0.4, 0.3, 0.2],
        [0.5, 0.3, 0.1],
        [0.1, 0.2, 0.6],
        [0.2, 0.1, 0.4],
    ],
    dtype=torch.float64,
)


def embeddings_for(cosines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Video embeddings (V, V + 1) and text embeddings (C, V + 1) with these cosines (C, V)."""
    rest = (1 - cosines.square().sum(dim=1, keepdim=True)).sqrt()
    return torch.eye(cosines.shape[1], cosines.shape[1] + 1, dtype=cosines.dtype), torch.cat(
        [cosines, rest], dim=1
    )


def scored(
    videos, video_ids, texts, text_video_ids, protocol="every_caption", expected=None, **options
) -> Scores:
    return score(
        videos,
        video_ids,
        texts,
        text_video_ids,
        PROTOCOLS[protocol],
        len(video_ids) if expected is None else expected,
        resamples=100,
        generator=np.random.default_rng(0),
        **options,
    )


def test_protocols_are_those_of_the_config():
    assert set(PROTOCOLS) == set(get_args(Evaluation.model_fields["protocol"].annotation))


@pytest.mark.parametrize(
    ("protocol", "t2v", "v2t"),
    [
        # captions 0, 2 and 5 only: a's column is .1 .4 .2, b's .5 .3 .1, c's .2 .2 .4
        ("one_caption", [3, 2, 1], [3, 2, 1]),
        # a: .6 against .4 .5 .1 .2; b: .3 against .5 .1 .1; c: .4 against .2 .5 .2 .1 .6
        ("every_caption", [3, 1, 2, 2, 2, 1], [1, 2, 3]),
        # best of a, b, c in column a: .6 .5 .2; in column b: .5 .3 .1; in column c: .5 .6 .4
        ("every_caption_max", [3, 1, 2, 2, 2, 1], [1, 2, 3]),
    ],
)
def test_score_of_a_hand_made_matrix_follows_the_protocol(protocol, t2v, v2t):
    videos, texts = embeddings_for(COSINES)
    result = scored(videos, ["a", "b", "c"], texts, OWNERS, protocol)
    assert result.directions["t2v"].rank.tolist() == t2v
    assert result.directions["v2t"].rank.tolist() == v2t


def test_score_of_paragraphs_takes_one_text_of_each_sample():
    videos, texts = embeddings_for(COSINES[[0, 2, 5]])
    result = scored(videos, ["a", "b", "c"], texts, ["a", "b", "c"], "paragraph")
    assert result.directions["t2v"].rank.tolist() == [3, 2, 1]
    assert result.directions["v2t"].rank.tolist() == [3, 2, 1]
    assert result.protocol == "paragraph"


def test_score_of_paragraphs_that_were_not_joined_raises_naming_a_sample():
    videos, texts = embeddings_for(COSINES)
    with pytest.raises(ValueError, match=r"sample 'a' came with several texts.*join its captions"):
        scored(videos, ["a", "b", "c"], texts, OWNERS, "paragraph")


def test_score_of_msvd_conventions_differs_where_one_video_has_several_better_captions():
    # for video a, both captions of b score above a's only one: two captions ahead, but one video
    cosines = torch.tensor([[0.3, 0.1], [0.5, 0.2], [0.4, 0.6]], dtype=torch.float64)
    videos, texts = embeddings_for(cosines)
    items = scored(videos, ["a", "b"], texts, ["a", "b", "b"], "every_caption")
    best = scored(videos, ["a", "b"], texts, ["a", "b", "b"], "every_caption_max")
    assert items.directions["v2t"].rank.tolist() == [3, 1]
    assert best.directions["v2t"].rank.tolist() == [2, 1]
    assert items.directions["t2v"].rank.tolist() == best.directions["t2v"].rank.tolist() == [1, 2, 1]


@EVERY_PROTOCOL
@pytest.mark.parametrize("num_videos", [10, 101])
def test_score_of_constant_embeddings_is_no_better_than_chance_and_raises_the_alarm(protocol, num_videos):
    ids = [f"video{index}" for index in range(num_videos)]
    owners = [ids[index % num_videos] for index in range(3 * num_videos)]
    row = torch.randn(1, 33, generator=torch.Generator().manual_seed(0))
    result = scored(row.expand(num_videos, 33), ids, row.expand(len(owners), 33), owners, protocol)
    assert set(result.directions["t2v"].rank) == {(num_videos + 1) / 2}
    competitors = {"one_caption": 1, "every_caption": 3, "every_caption_max": 1}[protocol] * (num_videos - 1)
    assert set(result.directions["v2t"].rank) == {1 + competitors / 2}
    assert result.metrics["t2v/MdR"] == result.chance["t2v/MdR"]
    for name in ("t2v/R1", "v2t/R1", "Rsum"):
        assert result.metrics[name] <= result.chance[name]
    assert result.collapse.warning is not None


@EVERY_PROTOCOL
def test_score_of_random_embeddings_is_near_chance(protocol):
    generator = torch.Generator().manual_seed(2)
    ids = [f"video{index}" for index in range(400)]
    owners = ids + ids[:200] + ids[:50]
    videos, texts = torch.randn(400, 64, generator=generator), torch.randn(650, 64, generator=generator)
    result = scored(videos, ids, texts, owners, protocol)
    for direction in ("t2v", "v2t"):
        assert result.metrics[f"{direction}/MnR"] == pytest.approx(
            result.chance[f"{direction}/MnR"], rel=0.12
        )
        assert result.metrics[f"{direction}/MdR"] == pytest.approx(result.chance[f"{direction}/MdR"], rel=0.2)
    assert result.collapse.warning is None


@EVERY_PROTOCOL
def test_score_does_not_depend_on_the_order_of_videos_and_of_samples_among_captions(protocol):
    generator = torch.Generator().manual_seed(3)
    ids = [f"video{index}" for index in range(25)]
    owners = ids + ids[:10] + ids[:4]
    videos, texts = torch.randn(25, 8, generator=generator), torch.randn(39, 8, generator=generator)
    before = scored(videos, ids, texts, owners, protocol)

    order = torch.randperm(25, generator=generator).tolist()
    # captions of one sample stay in their order
    texts_order = sorted(range(39), key=lambda row: (order.index(ids.index(owners[row])), row))
    after = scored(
        videos[order],
        [ids[index] for index in order],
        texts[texts_order],
        [owners[row] for row in texts_order],
        protocol,
    )

    assert after.metrics == pytest.approx(before.metrics, rel=1e-12)
    columns = [("direction", "ascending"), ("sample", "ascending"), ("caption", "ascending")]
    assert after.table().sort_by(columns).equals(before.table().sort_by(columns))


def test_score_has_every_metric_with_interval_and_chance():
    videos, texts = embeddings_for(COSINES)
    result = scored(videos, ["a", "b", "c"], texts, OWNERS)
    assert list(result.metrics) == list(result.intervals) == list(result.chance) == list(NAMES)
    for name, value in result.metrics.items():
        low, high = result.intervals[name]
        assert low <= value <= high


def test_table_of_scores_reads_back_from_parquet_with_one_row_per_query(tmp_path):
    videos, texts = embeddings_for(COSINES)
    pq.write_table(scored(videos, ["a", "b", "c"], texts, OWNERS).table(), tmp_path / "ranks.parquet")
    rows = pq.read_table(tmp_path / "ranks.parquet").to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("t2v", "a", 0, 3.0), ("t2v", "a", 1, 1.0), ("t2v", "b", 0, 2.0),
        ("t2v", "b", 1, 2.0), ("t2v", "b", 2, 2.0), ("t2v", "c", 0, 1.0),
        ("v2t", "a", None, 1.0), ("v2t", "b", None, 2.0), ("v2t", "c", None, 3.0),
    ]  # fmt: skip
    assert list(rows[0]) == ["direction", "sample", "caption", "rank"]


def test_score_with_missing_samples_raises_unless_allowed_and_then_says_its_coverage():
    videos, texts = embeddings_for(COSINES)
    with pytest.raises(ValueError, match="1 of 3 samples are missing"):
        scored(videos[:2], ["a", "b"], texts, OWNERS, expected=3)
    result = scored(videos[:2], ["a", "b"], texts, OWNERS, expected=3, allow_missing=True)
    assert (result.decoded, result.expected, result.coverage) == (2, 3, 2 / 3)
    assert result.directions["t2v"].rank.tolist() == [2, 1, 2, 2, 1]  # caption 5 is c's


def test_score_of_captions_of_another_split_raises_even_when_samples_may_miss():
    videos, texts = embeddings_for(COSINES)
    owners = ["a", "b", "c", "other", "another", "other"]
    with pytest.raises(ValueError, match="2 samples without a video embedding, such as 'another'"):
        scored(videos, ["a", "b", "c"], texts, owners, expected=4, allow_missing=True)


@pytest.mark.parametrize(
    ("video_ids", "owners", "expected", "message"),
    [
        (["a", "b", "b"], OWNERS, 3, "'b' comes 2 times"),
        (["a", "b", "c"], OWNERS, 2, "3 samples came for a set of 2"),
        (
            ["a", "b", "c"],
            ["a", "a", "b", "b", "b", "b"],
            3,
            "1 of 3 samples have no caption, the first is 'c'",
        ),
        (["a", "b"], OWNERS, 3, "3 video embeddings came with 2 ids"),
        (["a", "b", "c"], OWNERS[:5], 3, "6 text embeddings with 5"),
    ],
)
def test_score_of_ids_that_do_not_fit_raises(video_ids, owners, expected, message):
    videos, texts = embeddings_for(COSINES)
    with pytest.raises(ValueError, match=message):
        scored(videos, video_ids, texts, owners, expected=expected)


def test_score_of_a_single_sample_raises():
    with pytest.raises(ValueError, match="at least two"):
        scored(torch.ones(1, 4), ["a"], torch.ones(2, 4), ["a", "a"])


def test_score_of_embeddings_of_different_widths_raises():
    with pytest.raises(ValueError, match="4 dimensions and text embeddings 5"):
        scored(torch.ones(2, 4), ["a", "b"], torch.ones(2, 5), ["a", "b"])


@pytest.mark.parametrize("side", ["video", "text"])
@EVERY_PROTOCOL
def test_score_of_embeddings_with_nan_raises_naming_the_side(side, protocol):
    videos, texts = embeddings_for(COSINES)
    (videos if side == "video" else texts)[1, 1] = float("nan")
    with pytest.raises(ValueError, match=f"1 of . {side} embeddings hold NaN or inf"):
        scored(videos, ["a", "b", "c"], texts, OWNERS, protocol)
