"""Hiding patches, words, both or neither (MAC, Table 7).

Question:   does masking one modality help by itself, and both more than either?
Hypothesis: both above video only above text only above neither, as in the paper.
Result:     2026-11-21, one seed, a first look: t2v R@1 video only 34.2, neither 32.6, both 27.8, text only 16.8, each
            about +-4 over 500 queries. Hiding video cost nothing at 0.76 of the FLOPs; hiding words hurt, unlike in
            the paper: a caption of the moving shapes says nothing twice.
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
