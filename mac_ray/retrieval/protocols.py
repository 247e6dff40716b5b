"""Protocols: which captions are queries, what competes, and the scores that come out.

Numbers of different protocols are not comparable. On MSVD, letting videos compete with their best caption
(every_caption_max) scores far higher video-to-text than letting all captions compete (every_caption).

V samples (videos or images), C captions, E width of the embeddings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from mac_ray.retrieval.benchmarks import BENCHMARKS, Benchmark
from mac_ray.retrieval.collapse import Collapse, signs_of_collapse
from mac_ray.retrieval.metrics import NAMES, QueryRanks, chance, measure
from mac_ray.retrieval.ranks import IntArray, UnitRows, rank_among_items, rank_among_owners, unit_rows
from mac_ray.retrieval.significance import bootstrap, intervals


@dataclass(frozen=True)
class Protocol:
    name: str
    # of each sample, as text queries and as text gallery; joined: all in their order as one text
    captions: Literal["every", "joined"]
    text_competitors: Literal["captions", "samples"]  # video-to-text: what the best own caption competes with
    at_most: int | None = None  # captions of a sample, the first ones; None: all
    benchmark: Benchmark | None = None  # whose test split is scored, and no other; None: any split

    @property
    def of_any_split(self) -> Protocol:
        """Scored the same way, whatever the size: as the val split is."""
        return replace(self, benchmark=None)


CONVENTIONS = {
    protocol.name: protocol
    for protocol in (
        Protocol("one_caption", captions="every", text_competitors="captions", at_most=1),
        Protocol("every_caption", captions="every", text_competitors="captions"),  # Frozen, CE
        Protocol("every_caption_max", captions="every", text_competitors="samples"),  # CLIP4Clip on MSVD
        Protocol("paragraph", captions="joined", text_competitors="captions"),  # ActivityNet, DiDeMo
    )
}
PROTOCOLS = CONVENTIONS | {
    name: replace(
        CONVENTIONS[benchmark.convention],
        name=name,
        at_most=benchmark.at_most or CONVENTIONS[benchmark.convention].at_most,
        benchmark=benchmark,
    )
    for name, benchmark in BENCHMARKS.items()
}
RANK_TEXTS = {"captions": rank_among_items, "samples": rank_among_owners}


@dataclass(frozen=True, eq=False)
class Scores:
    """The outcome of one evaluation. Metric names are metrics.NAMES, without the scored set in front."""

    protocol: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # 95%
    chance: dict[str, float]
    collapse: Collapse
    decoded: int  # samples scored
    expected: int  # samples the set should have
    sample_ids: tuple[str, ...]  # (V,)
    directions: dict[str, QueryRanks]
    caption: IntArray  # (t2v queries,) position of the query among its sample's captions

    @property
    def coverage(self) -> float:
        return self.decoded / self.expected

    def table(self) -> pa.Table:
        """One row per query: direction, sample (its id), caption (its position; null for v2t), rank."""
        columns: dict[str, list[object]] = {"direction": [], "sample": [], "caption": [], "rank": []}
        for direction, queries in self.directions.items():
            num_queries = len(queries.rank)
            columns["direction"] += [direction] * num_queries
            columns["sample"] += [self.sample_ids[index] for index in queries.sample]
            columns["caption"] += self.caption.tolist() if direction == "t2v" else [None] * num_queries
            columns["rank"] += queries.rank.tolist()
        schema = pa.schema(
            [
                ("direction", pa.string()),
                ("sample", pa.string()),
                ("caption", pa.int32()),
                ("rank", pa.float64()),
            ]
        )
        return pa.table(columns, schema=schema)


def score(
    video_embeddings: Tensor,
    video_ids: Sequence[str],
    text_embeddings: Tensor,
    text_video_ids: Sequence[str],
    protocol: Protocol,
    expected: int,
    *,
    resamples: int,
    generator: np.random.Generator,
    allow_missing: bool = False,
) -> Scores:
    """Score embeddings of samples (V, E) with ids (V,) and of captions (C, E) with their samples' ids (C,).

    The captions of a sample are numbered in the order they come in; where the protocol joins them, a sample
    comes with one text. `expected` is the number of samples the scored split has, or that of the protocol's benchmark
    counts instead; with `allow_missing` fewer will do, and captions of missing samples are left out. `resamples`
    bootstrap resamples, drawn from `generator`, give the intervals.
    Raises ValueError for embeddings that are not finite or do not match their ids, repeated ids, missing
    samples, other queries than the benchmark's, samples without a caption or with several that should be joined, and
    galleries of fewer than two samples.
    """
    if len(video_ids) != len(video_embeddings) or len(text_video_ids) != len(text_embeddings):
        raise ValueError(
            f"{len(video_embeddings)} video embeddings came with {len(video_ids)} ids and "
            f"{len(text_embeddings)} text embeddings with {len(text_video_ids)}; give one id per row"
        )
    videos, texts = unit_rows(video_embeddings, "video"), unit_rows(text_embeddings, "text")
    if videos.shape[1] != texts.shape[1]:
        raise ValueError(
            f"video embeddings have {videos.shape[1]} dimensions and text embeddings {texts.shape[1]}; "
            f"project both to the same width"
        )
    if protocol.benchmark is not None:
        expected = protocol.benchmark.samples
    owner, position = _assign(video_ids, text_video_ids, expected, allow_missing)
    if protocol.captions == "joined" and position.any():
        several = text_video_ids[int(np.flatnonzero(position)[0])]
        raise ValueError(
            f"sample {several!r} came with several texts, but protocol {protocol.name!r} scores one of each; "
            "join its captions before they are embedded"
        )
    kept = (owner >= 0) & (position < (protocol.at_most or len(position)))  # (C,)
    texts, owner, position = UnitRows(texts[kept]), owner[kept], position[kept]
    num_captions = np.bincount(owner, minlength=len(videos))  # (V,)
    if not num_captions.all():
        alone = np.flatnonzero(num_captions == 0)
        raise ValueError(
            f"{len(alone)} of {len(videos)} samples have no caption, the first is {video_ids[alone[0]]!r}; "
            f"leave them out of the scored set"
        )
    if protocol.benchmark is not None:
        _require_queries(protocol.name, protocol.benchmark, len(videos), len(texts))
    samples = np.arange(len(videos))
    t2v = rank_among_items(texts, videos, owner, samples)
    v2t = RANK_TEXTS[protocol.text_competitors](videos, texts, samples, owner)
    directions = {"t2v": QueryRanks(t2v.rank, owner), "v2t": QueryRanks(v2t.rank, samples)}
    measured = measure(directions, np.ones((1, len(videos)), dtype=np.int64))[0]
    return Scores(
        protocol=protocol.name,
        metrics={name: float(value) for name, value in zip(NAMES, measured, strict=True)},
        intervals=intervals(bootstrap(directions, len(videos), resamples, generator), len(videos)),
        chance=chance({"t2v": t2v, "v2t": v2t}),
        collapse=signs_of_collapse({"video": videos, "text": texts}, {"t2v": t2v.tied, "v2t": v2t.tied}),
        decoded=len(videos),
        expected=expected,
        sample_ids=tuple(video_ids),
        directions=directions,
        caption=position,
    )


def _assign(
    video_ids: Sequence[str], text_video_ids: Sequence[str], expected: int, allow_missing: bool
) -> tuple[IntArray, IntArray]:
    """Per caption (C,): the index of its sample, -1 if that is missing, and its place among the sample's."""
    index = {sample: number for number, sample in enumerate(video_ids)}
    if len(index) != len(video_ids):
        repeated, times = Counter(video_ids).most_common(1)[0]
        raise ValueError(
            f"{len(video_ids) - len(index)} of {len(video_ids)} video ids repeat another, "
            f"{repeated!r} comes {times} times; drop what a sampler added to fill its last batch"
        )
    if len(index) < 2:
        raise ValueError(f"the gallery has {len(index)} samples; retrieval needs at least two")
    if len(index) > expected:
        raise ValueError(f"{len(index)} samples came for a set of {expected}; score one split at a time")
    num_missing = expected - len(index)
    if num_missing and not allow_missing:
        raise ValueError(
            f"{num_missing} of {expected} samples are missing and the scores would not be comparable; "
            f"repair them or allow missing samples"
        )
    strangers = sorted(set(text_video_ids) - set(index))
    if len(strangers) > num_missing:
        raise ValueError(
            f"captions name {len(strangers)} samples without a video embedding, such as {strangers[0]!r}, "
            f"but {num_missing} are missing; give captions and videos of the same split"
        )
    seen: Counter[str] = Counter()
    owner = np.empty(len(text_video_ids), dtype=np.int64)
    position = np.empty(len(text_video_ids), dtype=np.int64)
    for row, sample in enumerate(text_video_ids):
        owner[row], position[row] = index.get(sample, -1), seen[sample]
        seen[sample] += 1
    return owner, position


def _require_queries(name: str, benchmark: Benchmark, num_samples: int, num_queries: int) -> None:
    whole = num_samples == benchmark.samples
    if num_queries > benchmark.queries or (whole and num_queries < benchmark.queries):
        raise ValueError(
            f"{name} has {benchmark.queries:,} queries ({benchmark.texts}), and {num_queries:,} came with "
            f"{num_samples:,} samples; give the captions of the benchmark's own files"
        )
