"""Hiding patches, words, both or neither (MAC, Table 7).

Question:   does masking one modality help by itself, and both more than either?
Hypothesis: both above video only above text only above neither, as in the paper.
Result:     2026-11-24, one seed, a first look: t2v R@1 neither 41.2, video only 29.2, text only 26.2, both 25.2,
            each about +-4 over 500 queries; hiding video takes 0.76 of the FLOPs. The reverse of the paper's order,
            at equal samples. At twice the learning rate (2026-11-21) it was neither 32.6, video only 34.2, text only
            16.8, both 27.8.
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
