"""Benchmarks: the test splits that published numbers were scored on, as the readers of mac_ray.data.readers write them.

A benchmark is a convention and the size of its gallery. What is not of that size is refused rather than scored under
the benchmark's name, because retrieval gets easier with every sample that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mac_ray.retrieval.ranks import IntArray

Convention = Literal["one_caption", "every_caption", "every_caption_max", "paragraph"]


@dataclass(frozen=True)
class Benchmark:
    of: str  # the set and its split
    convention: Convention  # how it is scored; the val split, of any size, is scored so too
    samples: int  # of the gallery
    queries: int  # text-to-video
    texts: str  # what these are
    captions: int | None = None  # of all samples together; None: not known, or not what is scored
    at_most: int | None = None  # captions of a sample that count, the first ones; None: all

    def counted(self, captions: IntArray) -> int:
        """How many count of test samples that have so many each."""
        return int((captions if self.at_most is None else np.minimum(captions, self.at_most)).sum())

    def refusal(self, samples: int, captions: int, allow_missing: bool) -> str | None:
        """Why a test split of so many samples and captions that count is not the benchmark's; the end of a sentence
        about it.
        """
        other = f"score it by {self.convention}, whose numbers are not those of the benchmark"
        if samples > self.samples:
            return f"{self.of} has {self.samples:,} samples, and this test split {samples:,}; {other}"
        if samples < self.samples and not allow_missing:
            return (
                f"{self.of} has {self.samples:,} samples, and this test split {samples:,}; add the missing "
                f"{self.samples - samples:,}, or set evaluation.allow_missing=true to score what there is, with its "
                "coverage beside the numbers"
            )
        if self.captions is None or captions == self.captions:
            return None
        if captions > self.captions or samples == self.samples:
            return (
                f"{self.of} has {self.captions:,} captions ({self.texts}), and this test split {captions:,}; write its "
                f"manifest from the benchmark's own files, or {other}"
            )
        return None


BENCHMARKS = {
    "msrvtt_1ka": Benchmark(
        "MSR-VTT 1k-A",
        "one_caption",
        *(1000, 1000),
        "the sentence of each video in MSRVTT_JSFUSION_test.csv",
        captions=1000,
    ),
    "msrvtt_1kb": Benchmark(
        "MSR-VTT 1k-B", "one_caption", *(1000, 1000), "the first of 20 of each video", captions=20000
    ),
    "msrvtt_full": Benchmark(
        "MSR-VTT's full test split", "every_caption", *(2990, 59800), "20 of each video", captions=59800
    ),
    # a video competes with its best caption: CLIP4Clip and all who compare with it, v2t R@1 above 60
    "msvd": Benchmark("MSVD", "every_caption_max", *(670, 27763), "18 to 81 of each clip", captions=27763),
    # every caption competes: Collaborative Experts, Frozen in Time
    "msvd_every_caption": Benchmark(
        "MSVD", "every_caption", *(670, 27763), "18 to 81 of each clip", captions=27763
    ),
    "didemo_paragraph": Benchmark(
        "DiDeMo", "paragraph", *(1004, 1004), "all descriptions of a video, in file order"
    ),
    "activitynet_paragraph": Benchmark(
        "ActivityNet Captions val_1", "paragraph", *(4917, 4917), "all sentences of a video, in file order"
    ),
    "lsmdc_1k": Benchmark(
        "LSMDC's 1,000 test clips", "one_caption", *(1000, 1000), "the sentence of each clip", captions=1000
    ),
    "flickr30k_1k": Benchmark(
        "Flickr30k's 1,000 test images (Karpathy)",
        "every_caption",
        *(1000, 5000),
        "five of each image",
        captions=5000,
        at_most=5,
    ),
    # some images have a sixth caption, which nobody scores
    "coco_5k": Benchmark(
        "COCO's 5,000 test images (Karpathy)",
        "every_caption",
        *(5000, 25000),
        "the first five of each image",
        captions=25000,
        at_most=5,
    ),
    "moving_shapes": Benchmark(
        "the embedded set of moving shapes", "one_caption", *(500, 500), "the first caption of each clip"
    ),
}
