"""Why random masking beats tube masking: the paper says, because survivors of different places meet in time.

Question:   does it matter which surviving patches meet in temporal attention, and whether that can look at them?
Hypothesis: no pairing beats another where temporal attention is Frozen's, which stays uniform for ever.
Result:     2026-11-28, 3 seeds, equal samples, t2v R@1 of random, near, the same places: copy_spatial 53.5 52.7 38.7,
            frozen_zeros 57.1 53.7 38.6, random 46.2 44.7 34.1. Tubes lose as much (-18.5) where temporal attention is
            uniform as where it can look (-14.7, -12.1), and near places do like random ones, so who meets whom in
            time does not explain it. No row is told apart from the first; nearest to it are random init with near
            (-8.7 [-12.0, -5.4], p 0.057) and the same places (-19.3 [-27.9, -10.8], p 0.073).
"""

from mac_ray.ablation import Sweep, main

INITS = ("copy_spatial", "frozen_zeros", "random")
MEETING = {
    "random places": {},
    "near places": {"masking.video.order": "sorted"},
    "the same place": {"masking.video.strategy": "tube"},  # in any order
}

SWEEP = Sweep(
    name="temporal-pairing",
    question="Does it matter which surviving patches meet in temporal attention, and whether it can look at them?",
    base="configs/ablation.yaml",
    variants={
        f"{init}, {places}": {"model.video.temporal_init": init} | pairing
        for init in INITS
        for places, pairing in MEETING.items()
    },
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
