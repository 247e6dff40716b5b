"""How much to hide from either tower (MAC, Figure 5, whose curves are not in numbers).

Question:   how far can masking go before recall drops, in each modality alone and in both?
Hypothesis: at equal samples recall falls with the ratio; at equal time high ratios win.
Result:     not run yet.
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
        *(
            (f"video {video}, text {text}", {"masking.video.ratio": video, "masking.text.ratio": text})
            for video in (0.6, 0.9)
            for text in (0.15, 0.3)
        ),
    ],
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
