"""Why random masking beats tube masking: the paper says, because survivors of different places meet in time.

Question:   does it matter which surviving patches meet in temporal attention, and whether that can look at them?
Hypothesis: no order beats another where temporal attention is Frozen's, which stays uniform for ever.
Result:     not run yet.
"""

from mac_ray.ablation import Sweep, main

SWEEP = Sweep(
    name="temporal-pairing",
    question="Does it matter which surviving patches meet in temporal attention, and whether it can look at them?",
    base="configs/ablation.yaml",
    factors={
        "model.video.temporal_init": ("copy_spatial", "frozen_zeros", "random"),
        "masking.video.strategy": ("random", "tube"),
        "masking.video.order": ("random", "sorted"),
    },
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
