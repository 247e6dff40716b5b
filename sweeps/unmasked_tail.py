"""Does training have to end on whole clips and captions? (FLIP and ViCLIP end so, MAC fine-tunes unmasked.)

Question:   what does ending on whole clips buy, against as many epochs with masks throughout?
Hypothesis: much: towers that never saw a whole clip are scored on what they were not trained for.
Result:     2026-11-24, 3 seeds, equal samples: t2v R@1 53.3 with, 38.5 without, -14.7 [-20.7, -8.8] (p 0.006 by the
            statistics of then, surer than three seeds allow), at 24.3 and 16.7 TFLOP.
"""

from mac_ray.ablation import Sweep, main

NO_TAIL = {"stages.1.masking": {}}

SWEEP = Sweep(
    name="unmasked-tail",
    question="What does ending on whole clips buy, against as many epochs with masks throughout?",
    base="configs/ablation.yaml",
    variants={"tail": {}, "no tail": NO_TAIL},
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
