"""Does training have to end on whole clips and captions? (FLIP and ViCLIP end so, MAC fine-tunes unmasked.)

Question:   what does ending on whole clips buy, against as many epochs with masks throughout?
Hypothesis: much: towers that never saw a whole clip are scored on what they were not trained for.
Result:     2026-11-29, 3 seeds, bf16 on an AMD EPYC, equal samples: t2v R@1 50.3 [25.4, 75.1] with, 29.7 without, -20.6
            [-33.1, -8.1], p 0.019, at 0.69 of the FLOPs; by seed 44.8 61.8 44.2 and 22.8 46.8 19.4. Runs of
            unmasked-tail-e176fe9e11.
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
