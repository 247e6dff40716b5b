"""Why random masking beats tube masking: the paper says, because survivors of different places meet in time.

Question:   does it matter which surviving patches meet in temporal attention, and whether that can look at them?
Hypothesis: no pairing beats another where temporal attention is Frozen's, which stays uniform for ever.
Result:     2026-11-24, one seed, half of the epochs, +-4, random places: t2v R@1 copy_spatial 25.2, frozen_zeros 35.0,
            random 22.6; the same place (tubes), copy_spatial: 21.8. The rest was not run.
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
