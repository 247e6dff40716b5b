"""Does training have to end on whole clips and captions? (FLIP and ViCLIP end so, MAC fine-tunes unmasked.)

Question:   what does ending on whole clips buy, against as many epochs with masks throughout?
Hypothesis: much: towers that never saw a whole clip are scored on what they were not trained for.
Result:     2026-11-24, one seed, half of the epochs, +-4: t2v R@1 25.2 with and 15.2 without, at 12.1 and 8.3 TFLOP.
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
