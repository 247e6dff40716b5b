"""Hiding patches, words, both or neither (MAC, Table 7).

Question:   does masking one modality help by itself, and both more than either?
Hypothesis: both above video only above text only above neither, as in the paper.
Result:     2026-11-24, 3 seeds, equal samples: t2v R@1 neither 62.1 [57.0, 67.1], video only 59.9 [56.7, 63.2],
            text only 58.9 [54.4, 63.3], both 53.3 [39.5, 67.0]; no row is told apart from the baseline (p 0.086 and
            above), the means lie in the reverse of the paper's order, and hiding video takes 0.76 of the FLOPs.
            At equal FLOPs (--equal flops) the order turns: video only 64.1 [59.9, 68.3], neither 62.1, both 61.7,
            text only 58.9; none told apart either. At equal seconds (2026-11-29, which took 0.98 to 1.01 of the
            FLOPs) it stays turned: video only 65.3 [55.1, 75.5], neither 62.7 [59.5, 65.9], both 59.3 [46.9, 71.6],
            text only 56.2 [38.6, 73.8], none told apart (p 0.71). After half as many samples, one seed: 41.2, 29.2,
            26.2, 25.2.
"""

from mac_ray.ablation import Sweep, main

NO_VIDEO, NO_TEXT = {"masking.video.strategy": "none"}, {"masking.text.strategy": "none"}

SWEEP = Sweep(
    name="masked-modality",
    question="Does masking one modality help by itself, and both more than either?",
    base="configs/ablation.yaml",
    variants={"neither": NO_VIDEO | NO_TEXT, "video only": NO_TEXT, "text only": NO_VIDEO, "both": {}},
    reference="mac/table7",
    published={"neither": "neither masked"},
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
