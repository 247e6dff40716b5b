"""Masking against other ways to pay less per step, all at the FLOPs of training without any of them.

Question:   at one cost, is it better to hide patches, shrink the picture, see fewer frames or take smaller batches?
Hypothesis: hiding patches and shrinking the picture win over not saving at all, and differ little.
Result:     2026-11-30, 3 seeds, bf16. At eight times the length (stages.0.epochs=160 stages.1.epochs=160, on an Intel
            Xeon with AMX), equal FLOPs: t2v R@1 nothing saved 92.5 [87.1, 98.0], mask 60% 87.4 [80.7, 94.1] (of 1.31
            times the samples), resize 60% 94.1 [92.6, 95.7] (1.23); neither is told apart (p 0.29 and 0.33), and
            masking lies below both others with each seed. Runs of equal-cost-37e202f120. At four times (80 and 80, from
            here on on an AMD EPYC), equal FLOPs: nothing saved 89.3 [84.8, 93.8], mask 60% 83.7 [73.0, 94.5], resize
            60% 90.7 [87.6, 93.7], 2 frames 89.5 [87.5, 91.6] (1.27); none is told apart (p 0.55 or more), and masking
            lies below resizing and below nothing saved with each seed. Runs of equal-cost-d5d6faa415.
            At the default length, equal FLOPs: t2v R@1 nothing saved 62.3 [58.9, 65.6], mask 60% 65.7 [57.6, 73.8], 75%
            63.9 [51.4, 76.3], resize 60% 64.9 [61.4, 68.4], 75% 64.7 [56.2, 73.1], 2 frames 67.5 [63.5, 71.5], batch 32
            57.9 [49.4, 66.5]. 2 frames alone is told apart, and better (+5.2 [+2.5, +7.9], p 0.026 by Holm); masking
            and shrinking by 60% lie 3.4 and 2.7 above nothing saved. Equal seconds (0.93 to 0.99 of the FLOPs): nothing
            saved 62.3, mask 60% 63.3 [55.3, 71.2], 75% 61.9 [55.9, 67.9], resize 60% 65.0 [58.0, 72.0], 75% 64.1 [54.8,
            73.5], 2 frames 67.2 [63.4, 71.0], batch 32 57.7 [41.2, 74.3]. 2 frames alone is told apart, and better
            (+4.9 [+2.1, +7.8], p 0.008 by Holm). Equal samples: nothing saved 62.3, mask 60% 58.3 [44.5, 72.1] (0.76 of
            the FLOPs), 75% 54.7 [39.7, 69.6] (0.68), resize 60% 63.7 [60.6, 66.8] (0.81), 75% 55.5 [42.3, 68.7] (0.68),
            2 frames 63.9 [58.8, 68.9] (0.79), batch 32 59.2 [51.1, 67.3] (1.00); none is told apart (p 0.66 or more).
            Runs of equal-cost-f7839cbd99 (FLOPs), -c1a7d0c8e9 (seconds), -cb37d4e82f (samples).
"""

from mac_ray.ablation import Budget, Sweep, main

NONE = {"masking.video.strategy": "none", "masking.text.strategy": "none"}
NO_TEXT = {"masking.text.strategy": "none"}

SWEEP = Sweep(
    name="equal-cost",
    question="At one cost, is it better to hide patches, shrink the picture, see fewer frames or take smaller batches?",
    base="configs/ablation.yaml",
    # what is saved is saved in the first stage: all rows end on whole clips of 4 frames in batches of 64
    variants={
        "nothing saved": NONE,
        "mask 60%": NO_TEXT,
        "mask 75%": NO_TEXT | {"masking.video.ratio": 0.75},
        "resize 60%": NO_TEXT | {"masking.video.strategy": "resize"},
        "resize 75%": NO_TEXT | {"masking.video.strategy": "resize", "masking.video.ratio": 0.75},
        "2 frames": NONE | {"stages.0.frames": 2},
        "batch 32": NONE | {"stages.0.batch_size": 32},
    },
    budget=Budget(equal="flops"),
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
