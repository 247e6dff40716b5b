"""Hiding patches, words, both or neither (MAC, Table 7).

Question:   does masking one modality help by itself, and both more than either?
Hypothesis: both above video only above text only above neither, as in the paper.
Result:     2026-11-29, 3 seeds, bf16 on an AMD EPYC, equal samples: t2v R@1 neither 62.3 [58.9, 65.6], video only 58.3
            [44.5, 72.1], text only 56.6 [34.2, 79.0], both 50.3 [25.4, 75.1]; none is told apart (p 0.42 or more), and
            the means lie in the reverse of the paper's order but for video above text; hiding video takes 0.76 of the
            FLOPs. At equal seconds: neither 62.3, video only 63.3 [55.3, 71.2], text only 58.4 [49.3, 67.5], both 56.4
            [48.8, 64.0]; none is told apart (p 0.083 or more), and 2 of 6 pairs are in the paper's order. At equal
            FLOPs: video only 65.7 [57.6, 73.8] (+3.4 [-1.6, +8.4]), text only 56.6, both 56.1 [33.8, 78.3]; none is
            told apart (p 0.30 or more), and video only is above neither with each seed. After half as many samples, one
            seed: 41.2, 29.2, 26.2, 25.2. After four times as many: neither 89.3 [84.8, 93.8], text only 86.5 [84.4,
            88.6] (-2.7 [-7.2, +1.8], p 0.16 by Holm), video only 78.5 [69.2, 87.9] (-10.7 [-24.4, +3.0], p 0.16; 79.7
            at equal seconds), both 74.6 [67.6, 81.6], told apart (-14.7 [-18.9, -10.4], p 0.013): the reverse of the
            paper's order in each pair. Eight times as long (160 and 160), on an Intel Xeon with AMX: neither 92.5
            [87.1, 98.0], video only 87.5 [84.2, 90.8] (-5.0 [-12.3, +2.3], p 0.099 of one comparison); that is as far
            as neither goes: at sixteen times (320 and 320) its seed 0 has 93.4 where it has 90.4, or 93.8 on the EPYC.
            Both, of seed 0: 82.4. Runs of masked-modality-5a66a5edba (samples), -1d567a3ce9 (seconds), -6f9d3d5c38
            (FLOPs), -e82995d75d (four times as many), -6323818eec (eight times).
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
