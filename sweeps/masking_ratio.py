"""How much to hide from either tower (MAC, Figure 5, whose curves are not in numbers; four rows are of Table 7).

Question:   how far can masking go before recall drops, in each modality alone and in both?
Hypothesis: at equal samples recall falls with the ratio; at equal time high ratios win.
Result:     2026-11-29, 3 seeds, bf16 on an AMD EPYC, equal samples: t2v R@1 none 62.3 [58.9, 65.6]; video 0.3 60.5, 0.6
            58.3, 0.75 54.7, 0.9 41.8; text 0.15 56.6, 0.3 45.9, 0.5 32.5; video 0.6 with text 0.15 50.3, with 0.3 40.9;
            video 0.9 with text 0.15 33.5, with 0.3 27.7. Text 0.5 (p 0.030 by Holm) and the last two (0.006, < 0.001)
            are told apart from none. A quarter of the patches (0.3) costs 1.7 [-7.5, +10.9], at 0.89 of the FLOPs.
            Equal seconds (0.94 to 1.00 of the FLOPs, by the clock 0.91 to 1.01 of none's time): none 62.3, video 0.3
            63.7, 0.6 63.3 [55.3, 71.2], 0.75 61.9, 0.9 52.3; text 0.15 58.4, 0.3 44.7, 0.5 36.5; video 0.6 with text
            0.15 56.4, with 0.3 41.7; video 0.9 with text 0.15 44.5, with 0.3 35.8. No row is told apart from none
            (video 0.6: +1.0 [-3.6, +5.6], p 0.97; text 0.5 and video 0.9 with text 0.3: p 0.17).
            Twice as long (stages.0.epochs=40 stages.1.epochs=40), equal samples: none 79.7 [77.1, 82.4], video 0.6 70.8
            [64.6, 77.0] (-8.9 [-16.1, -1.8], p 0.033); none still gains then.
            Four times as long (80 and 80), where curves are flat at their ends: equal samples none 89.3 [84.8, 93.8],
            video 0.3 89.0 [80.8, 97.2], 0.6 78.5 [69.2, 87.9] (-10.7 [-24.4, +3.0], p 0.16), 0.75 75.0 [70.0, 80.0]
            (-14.3 [-23.7, -4.8], p 0.069); equal seconds 0.3 90.5 [88.0, 93.0] (+1.2 [-1.0, +3.4], p 0.21), 0.6 79.7
            [72.2, 87.1] (-9.6 [-21.4, +2.2], p 0.15), 0.75 74.1 [70.1, 78.1] (-15.2 [-23.6, -6.8], p 0.048, told
            apart). Eight times as long (160 and 160), on an Intel Xeon with AMX: none 92.5 [87.1, 98.0], video 0.6 87.5
            [84.2, 90.8] (-5.0 [-12.3, +2.3], p 0.099 of one comparison); that is as far as none goes: at sixteen times
            (320 and 320) its seed 0 has 93.4 where it has 90.4, or 93.8 on the EPYC.
            Flickr8k (configs/flickr8k.yaml, a third of its epochs, one seed, equal samples): t2v R@1 / R@10 none 1.2 /
            10.4, video 0.3 1.3 / 10.2, 0.6 0.9 / 9.0, 0.75 1.0 / 8.1, 0.9 0.5 / 7.4, text 0.15 1.2 / 9.5, 0.3 0.8 /
            8.4, 0.5 1.0 / 7.5, both 0.6 and 0.15 1.2 / 8.5, 0.6 and 0.3 1.0 / 7.4, 0.9 and 0.15 0.8 / 6.6, 0.9 and 0.3
            0.9 / 6.1, at 1.00 to 0.47 of the FLOPs; over the test captions alone video 0.9 is told apart (-0.7 [-1.1,
            -0.2], p 0.038), and R@10 falls with either ratio. Runs of masking-ratio-1f2e088c3e (samples), -13c2011933
            (seconds), -aba985b600 (twice as long), -108c5ae17e and -69050c1243 (four times), masked-modality-6323818eec
            (eight times), -d8ed13f183 (Flickr8k).
"""

from mac_ray.ablation import Sweep, main

NO_VIDEO, NO_TEXT = {"masking.video.strategy": "none"}, {"masking.text.strategy": "none"}
VIDEO, TEXT = (0.3, 0.6, 0.75, 0.9), (0.15, 0.3, 0.5)

SWEEP = Sweep(
    name="masking-ratio",
    question="How far can masking go before recall drops, in each modality alone and in both?",
    base="configs/ablation.yaml",
    variants=[
        ("none", NO_VIDEO | NO_TEXT),
        *((f"video {ratio}", NO_TEXT | {"masking.video.ratio": ratio}) for ratio in VIDEO),
        *((f"text {ratio}", NO_VIDEO | {"masking.text.ratio": ratio}) for ratio in TEXT),
        # of the joint grid the paper's point and its neighbours, as much more of each: all of it would be 24 runs more
        *(
            (f"video {video}, text {text}", {"masking.video.ratio": video, "masking.text.ratio": text})
            for video in (0.6, 0.9)
            for text in (0.15, 0.3)
        ),
    ],
    reference="mac/table7",
    published={
        "none": "neither masked",
        "video 0.6": "video only",
        "text 0.15": "text only",
        "video 0.6, text 0.15": "both",
    },
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
