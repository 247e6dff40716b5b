"""Which patches to hide from the video tower (MAC, Table 6, and the arms beside it).

Question:   at one ratio, does it matter which patches of a clip are hidden?
Hypothesis: random above tube above none, as in the paper; a smaller picture of as many tokens is hard to beat.
Result:     2026-11-24, one seed, half of the epochs, +-4: t2v R@1 none 41.2, random 25.2, tube 21.8, block 20.2, resize
            48.6; the control beats every mask, and no mask at all. The rest was not run, and of these what the
            masks cost may be time alone, as in masked_modality.
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
