"""Benchmarks: scored as the codes that published their numbers do it, on galleries of the right size alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from mac_ray.retrieval.benchmarks import BENCHMARKS
from mac_ray.retrieval.metrics import NAMES
from mac_ray.retrieval.protocols import CONVENTIONS, PROTOCOLS, Protocol, Scores, score

Ranks = list[float]


def made_small(name: str, samples: int, queries: int) -> Protocol:
    """The protocol of a benchmark as if its gallery were this small."""
    protocol = PROTOCOLS[name]
    assert protocol.benchmark is not None
    return replace(protocol, benchmark=replace(protocol.benchmark, samples=samples, queries=queries))


def scored_cosines(
    protocol: Protocol, cosines: np.ndarray, owners: Sequence[str], **options: object
) -> Scores:
    """Of captions (rows) with videos (columns), which are called a, b, c, …"""
    texts = torch.from_numpy(cosines)
    rest = (1 - texts.square().sum(dim=1, keepdim=True)).sqrt()
    num_videos = texts.shape[1]
    return score(
        torch.eye(num_videos, num_videos + 1, dtype=texts.dtype),
        [chr(ord("a") + number) for number in range(num_videos)],
        torch.cat([texts, rest], dim=1),
        owners,
        protocol,
        num_videos,
        resamples=100,
        generator=np.random.default_rng(0),
        **options,
    )


def ranks(scores: Scores) -> tuple[Ranks, Ranks]:
    return scores.directions["t2v"].rank.tolist(), scores.directions["v2t"].rank.tolist()


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    "name", ["msrvtt_1ka", "lsmdc_1k", "didemo_paragraph", "activitynet_paragraph", "moving_shapes"]
)
def test_benchmark_of_one_text_per_sample_ranks_a_square_matrix(name: str) -> None:
    # rows: .1 loses to .5 and .2; .3 to .4; .4 wins. Columns: .1 loses to .4 and .2; .3 to .5; .4 wins
    cosines = np.array([[0.1, 0.5, 0.2], [0.4, 0.3, 0.2], [0.2, 0.1, 0.4]])
    found = scored_cosines(made_small(name, 3, 3), cosines, ["a", "b", "c"])
    assert ranks(found) == ([3, 2, 1], [3, 2, 1])
    assert found.protocol == name
    assert found.metrics["t2v/R1"] == pytest.approx(100 / 3)
    assert (found.metrics["t2v/R5"], found.metrics["t2v/MdR"], found.metrics["t2v/MnR"]) == (100, 2, 2)


def test_msrvtt_full_ranks_a_video_s_best_caption_among_the_captions_of_all() -> None:
    # both captions of b are nearer to video a than a's own is
    cosines = np.array([[0.3, 0.1], [0.5, 0.2], [0.4, 0.6]])
    found = scored_cosines(made_small("msrvtt_full", 2, 3), cosines, ["a", "b", "b"])
    assert ranks(found) == ([1, 2, 1], [3, 1])


def test_msvd_has_two_conventions_that_differ_in_what_a_best_caption_competes_with() -> None:
    cosines = np.array([[0.3, 0.1], [0.5, 0.2], [0.4, 0.6]])
    best, every = (
        scored_cosines(made_small(name, 2, 3), cosines, ["a", "b", "b"])
        for name in ("msvd", "msvd_every_caption")
    )
    assert ranks(best) == ([1, 2, 1], [2, 1])
    assert ranks(every) == ([1, 2, 1], [3, 1])


@pytest.mark.parametrize("name", ["flickr30k_1k", "coco_5k"])
def test_image_benchmarks_score_five_captions_and_no_sixth(name: str) -> None:
    # a's sixth caption would be the nearest of all to a, and to b
    cosines = np.array([[0.5, 0.4], [0.3, 0.4], [0.2, 0.1], [0.2, 0.1], [0.2, 0.1], [0.7, 0.71], [0.6, 0.7]])
    found = scored_cosines(made_small(name, 2, 6), cosines, ["a", "a", "a", "a", "a", "a", "b"])
    assert ranks(found) == ([1, 2, 1, 1, 1, 1], [2, 1])
    assert len(found.caption) == 6


# ---------------------------------------------------------------- as loops


def t2v_of_every_caption(cosines: np.ndarray, owners: list[int]) -> Ranks:
    return [
        1 + sum(cosines[caption, other] > cosines[caption, own] for other in range(cosines.shape[1]))
        for caption, own in enumerate(owners)
    ]


def v2t_best_rank_of_own_captions(cosines: np.ndarray, owners: list[int]) -> Ranks:
    """Collaborative Experts: all captions in order for each video; the first own one counts."""
    found = []
    for video in range(cosines.shape[1]):
        order = sorted(range(len(owners)), key=lambda caption: -cosines[caption, video])
        found.append(1 + next(place for place, caption in enumerate(order) if owners[caption] == video))
    return found


def v2t_of_padded_groups(cosines: np.ndarray, owners: list[int]) -> Ranks:
    """CLIP4Clip: captions in groups of a video, filled up with -inf to one length; the best of a group is its score."""
    num_videos = cosines.shape[1]
    groups = [[row for row, owner in enumerate(owners) if owner == video] for video in range(num_videos)]
    longest = max(map(len, groups))
    padded = np.full((num_videos, longest, num_videos), -np.inf)
    for number, group in enumerate(groups):
        padded[number, : len(group)] = cosines[group]
    best = padded.max(axis=1)  # (groups, videos)
    return [
        1 + sum(best[group, video] > best[video, video] for group in range(num_videos))
        for video in range(num_videos)
    ]


V2T: dict[str, Callable[[np.ndarray, list[int]], Ranks]] = {
    "msvd": v2t_of_padded_groups,
    **dict.fromkeys(set(BENCHMARKS) - {"msvd"}, v2t_best_rank_of_own_captions),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_scores_are_those_of_double_loops(name: str) -> None:
    generator = np.random.default_rng(7)
    protocol = PROTOCOLS[name]
    given = [
        number for number in range(20) for _ in range(1 if protocol.captions == "joined" else 3 + number % 5)
    ]
    cosines = generator.uniform(-0.15, 0.15, (len(given), 20))
    # the captions that the benchmark looks at, chosen anew
    kept = [row for row in range(len(given)) if given[:row].count(given[row]) < (protocol.at_most or 100)]
    found = scored_cosines(
        made_small(name, 20, len(kept)), cosines, [chr(ord("a") + number) for number in given]
    )
    seen, owners = cosines[kept], [given[row] for row in kept]
    t2v, v2t = t2v_of_every_caption(seen, owners), V2T[name](seen, owners)
    assert ranks(found) == (t2v, v2t)
    for direction, of in (("t2v", t2v), ("v2t", v2t)):
        for cutoff in (1, 5, 10):
            share = 100 * sum(rank <= cutoff for rank in of) / len(of)
            assert found.metrics[f"{direction}/R{cutoff}"] == pytest.approx(share)
    assert set(found.metrics) == set(NAMES)


# ---------------------------------------------------------------- sizes

# samples and text queries, as the papers have them
PUBLISHED = {
    "msrvtt_1ka": (1000, 1000),
    "msrvtt_1kb": (1000, 1000),
    "msrvtt_full": (2990, 2990 * 20),
    "msvd": (670, 27763),
    "msvd_every_caption": (670, 27763),
    "didemo_paragraph": (1004, 1004),
    "activitynet_paragraph": (4917, 4917),
    "lsmdc_1k": (1000, 1000),
    "flickr30k_1k": (1000, 5000),
    "coco_5k": (5000, 25000),
    "moving_shapes": (500, 500),
}


def test_benchmarks_have_the_published_sizes() -> None:
    assert {name: (found.samples, found.queries) for name, found in BENCHMARKS.items()} == PUBLISHED


def scored_size(name: str, samples: int, queries: int, **options: object) -> Scores:
    """Noise of so many samples; captions are dealt out to them in turn."""
    ids = [f"sample{number}" for number in range(samples)]
    generator = torch.Generator().manual_seed(0)
    return score(
        torch.randn(samples, 4, generator=generator),
        ids,
        torch.randn(queries, 4, generator=generator),
        [ids[number % samples] for number in range(queries)],
        PROTOCOLS[name],
        samples,
        resamples=2,
        generator=np.random.default_rng(0),
        **options,
    )


@pytest.mark.parametrize("name", ["msrvtt_1ka", "msvd", "didemo_paragraph", "flickr30k_1k", "moving_shapes"])
def test_benchmark_takes_its_own_gallery_and_no_other(name: str) -> None:
    samples, queries = PUBLISHED[name]
    whole = scored_size(name, samples, queries)
    assert (whole.decoded, whole.expected, len(whole.caption)) == (samples, samples, queries)
    with pytest.raises(ValueError, match=rf"1 of {samples} samples are missing"):
        scored_size(name, samples - 1, samples - 1)
    with pytest.raises(ValueError, match=rf"{samples + 1} samples came for a set of {samples}"):
        scored_size(name, samples + 1, samples + 1)
    part = scored_size(name, samples - 10, samples - 10, allow_missing=True)
    assert (part.decoded, part.expected) == (samples - 10, samples)
    assert part.coverage == (samples - 10) / samples


@pytest.mark.parametrize(("name", "queries"), [("msvd", 27762), ("msvd", 27764), ("flickr30k_1k", 4999)])
def test_benchmark_with_other_captions_than_its_own_is_refused(name: str, queries: int) -> None:
    found = rf"has {PUBLISHED[name][1]:,} queries .*and {queries:,} came"
    for allow_missing in (False, True):  # samples may be missing, captions of those that are there may not
        with pytest.raises(ValueError, match=found):
            scored_size(name, PUBLISHED[name][0], queries, allow_missing=allow_missing)


def test_convention_of_a_benchmark_scores_a_split_of_any_size() -> None:
    for name, benchmark in BENCHMARKS.items():
        found = PROTOCOLS[name].of_any_split
        own = CONVENTIONS[benchmark.convention]
        assert (found.captions, found.text_competitors) == (own.captions, own.text_competitors)
        assert scored_cosines(found, np.eye(2, 3)[:, :2] * 0.5, ["a", "b"]).expected == 2


@pytest.mark.parametrize(
    ("name", "samples", "captions", "allow_missing", "reason"),
    [
        ("msrvtt_1ka", 1000, 1000, False, None),
        (
            "msrvtt_1ka",
            990,
            990,
            False,
            "has 1,000 samples, and this test split 990; add the missing 10, or set",
        ),
        ("msrvtt_1ka", 990, 990, True, None),
        (
            "msrvtt_1ka",
            2990,
            59800,
            True,
            "has 1,000 samples, and this test split 2,990; score it by one_caption",
        ),
        # 1k-B: as many videos, with all their captions
        (
            "msrvtt_1ka",
            1000,
            20000,
            True,
            "has 1,000 captions .*JSFUSION.* and this test split 20,000; write",
        ),
        ("msvd", 670, 27762, False, "MSVD has 27,763 captions .* and this test split 27,762"),
        ("msvd", 670, 27762, True, "MSVD has 27,763 captions .* and this test split 27,762"),
        ("msvd", 600, 25000, True, None),
        ("msvd", 600, 28000, True, "MSVD has 27,763 captions"),
        ("coco_5k", 5000, 25000, False, None),
        ("coco_5k", 5000, 5000, False, "has 25,000 captions .* and this test split 5,000"),
        ("didemo_paragraph", 1004, 4021, False, None),
    ],
)
def test_refusal_of_a_test_split_names_both_sizes_and_the_remedy(
    name: str, samples: int, captions: int, allow_missing: bool, reason: str | None
) -> None:
    found = BENCHMARKS[name].refusal(samples, captions, allow_missing)
    assert (found is None) == (reason is None)
    if found is not None and reason is not None:
        assert re.search(reason, found), found


def test_captions_beyond_the_fifth_of_an_image_do_not_count_where_nobody_scores_them() -> None:
    captions = np.array([6] * 10 + [5] * 4990)
    assert BENCHMARKS["coco_5k"].counted(captions) == 25000
    assert BENCHMARKS["msvd"].counted(np.array([18, 81])) == 99
