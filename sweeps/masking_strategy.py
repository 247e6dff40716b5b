"""Which patches to hide from the video tower (MAC, Table 6, and the arms beside it).

Question:   at one ratio, does it matter which patches of a clip are hidden?
Hypothesis: random above tube above none, as in the paper; a smaller picture of as many tokens is hard to beat.
Result:     2026-11-30, 3 seeds, bf16 on an AMD EPYC, all rows but none with 15% of the words hidden. At four times the
            length (stages.0.epochs=80 stages.1.epochs=80), equal samples: t2v R@1 none 89.3 [84.8, 93.8], words alone
            86.5 [84.4, 88.6], resize 82.3 [69.6, 95.0], motion 80.5 [64.6, 96.5], random 74.6 [67.6, 81.6], tube 73.5
            [69.7, 77.2]; random is told apart (-14.7 [-18.9, -10.4], p 0.022 by Holm), tube nearly (-15.8 [-24.0,
            -7.6], p 0.057), and the two are level. Runs of masking-strategy-5dea8f4368.
            At the default length, equal samples: none 62.3 [58.9, 65.6], words alone 56.6 [34.2, 79.0], motion 64.4
            [59.0, 69.8], resize 60.4 [57.3, 63.5], hide_low 59.0 [53.8, 64.2], frame 53.4 [41.6, 65.2], keep_high 52.3
            [38.9, 65.8], random 50.3 [25.4, 75.1], block 45.5 [20.1, 70.8], hide_high 43.6 [23.7, 63.5], grid 42.5
            [14.0, 70.9], tube 38.5 [6.8, 70.1], multi_block 31.5 [12.9, 50.2]. No row is told apart from none;
            multi_block comes nearest (-30.7 [-46.2, -15.3], p 0.16 by Holm). Random above tube with every seed, both
            below none; motion and resize are level with none at 0.76 and 0.81 of the FLOPs, resize of 9 patches of 16
            where masks leave 7. Runs of masking-strategy-5843b3f92d.
            At equal seconds (0.92 to 0.99 of the FLOPs): none 62.3 [58.9, 65.6], words alone 58.4 [49.3, 67.5], motion
            65.3 [62.2, 68.4], resize 64.9 [56.9, 72.9], frame 58.9 [51.6, 66.3], hide_low 58.7 [51.8, 65.5], random
            56.4 [48.8, 64.0], keep_high 55.3 [42.3, 68.4], block 49.9 [6.0, 93.8], hide_high 49.1 [35.4, 62.9], grid
            47.5 [23.1, 71.8], tube 46.5 [27.3, 65.8], multi_block 38.3 [26.0, 50.5]. No row is told apart (nearest:
            multi_block, -24.0 [-34.0, -14.0], p 0.11 by Holm; motion +3.1 [+0.1, +6.1], p 0.40, above none with each
            seed); random above tube with each seed. Runs of masking-strategy-ade47a963b.
"""

from mac_ray.ablation import Sweep, main

# the paper's "w/o" has the numbers of its row without any masking, so that is what stands for it here
NONE = {"masking.video.strategy": "none", "masking.text.strategy": "none"}
# hidden by the other rows too: what they score less than this is what patches cost
WORDS = {"masking.video.strategy": "none"}
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
    variants=[
        ("none", NONE),
        ("words alone", WORDS),
        *((name, {"masking.video.strategy": name}) for name in STRATEGIES),
    ],
    reference="mac/table6",
    published={"none": "no mask"},
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
