"""Masking against other ways to pay less per step, all at the FLOPs of training without any of them.

Question:   at one cost, is it better to hide patches, shrink the picture, see fewer frames or take smaller batches?
Hypothesis: hiding patches and shrinking the picture win over not saving at all, and differ little.
Result:     not run yet.
"""

from mac_ray.ablation import Budget, Sweep, main

NONE = {"masking.video.strategy": "none", "masking.text.strategy": "none"}
NO_TEXT = {"masking.text.strategy": "none"}

SWEEP = Sweep(
    name="equal-cost",
    question="At one cost, is it better to hide patches, shrink the picture, see fewer frames or take smaller batches?",
    base="configs/ablation.yaml",
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
