"""Which patches to hide from the video tower (MAC, Table 6, and the arms beside it).

Question:   at one ratio, does it matter which patches of a clip are hidden?
Hypothesis: random above tube above none, as in the paper; a smaller picture of as many tokens is hard to beat.
Result:     2026-11-29, 3 seeds, equal samples: t2v R@1 none 62.7 [59.5, 65.9], resize 62.3 [56.3, 68.3], motion 61.0
            [57.7, 64.3], keep_high 56.5 [46.5, 66.5], hide_low 55.2 [32.0, 78.4], frame 54.1 [43.6, 64.6], random 53.5
            [42.2, 64.7], block 50.7 [47.1, 54.4], hide_high 47.0 [33.6, 60.4], grid 41.8 [16.8, 66.8], tube 38.7
            [13.8, 63.7], multi_block 27.9 [24.3, 31.5]. Block (p 0.018 by Holm) and multi_block (0.006) alone are told
            apart from none. Random above tube in the means, both below none; resize and motion are level with none at
            0.81 and 0.76 of the FLOPs, resize of 9 patches of 16 where masks leave 7.
            At equal seconds (bf16 on an AMD EPYC, masks of its own for each seed, 0.96 to 1.03 of the FLOPs): none 62.3
            [58.9, 65.6], resize 66.1 [58.0, 74.2], motion 64.7 [60.4, 68.9], frame 60.4 [52.4, 68.4], hide_low 59.6
            [53.5, 65.7], random 55.3 [27.8, 82.9], hide_high 54.3 [49.9, 58.8], keep_high 54.1 [38.7, 69.4], tube 50.9
            [42.6, 59.3], block 50.1 [8.7, 91.6], grid 47.8 [25.7, 69.9], multi_block 41.3 [19.8, 62.7]. hide_high
            alone is told apart (-7.9 [-11.0, -4.9], p 0.015); tube -11.3 [-16.4, -6.3], p 0.10.
"""

from mac_ray.ablation import Sweep, main

# the paper's "w/o" has the numbers of its row without any masking, so that is what stands for it here
NONE = {"masking.video.strategy": "none", "masking.text.strategy": "none"}
STRATEGIES = (
    "random",
    "tube",
    "block",
    "multi_block",
    "frame",
    "grid",
    "motion",
    "attention_hide_low",
    "attention_keep_high",
    "attention_hide_high",
    "resize",
)

SWEEP = Sweep(
    name="masking-strategy",
    question="At one ratio, does it matter which patches of a clip are hidden?",
    base="configs/ablation.yaml",
    variants=[("none", NONE), *((name, {"masking.video.strategy": name}) for name in STRATEGIES)],
    reference="mac/table6",
    published={"none": "no mask"},
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
