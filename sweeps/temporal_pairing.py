"""Why random masking beats tube masking: the paper says, because survivors of different places meet in time.

Question:   does it matter which surviving patches meet in temporal attention, and whether that can look at them?
Hypothesis: no pairing beats another where temporal attention is Frozen's, which stays uniform for ever.
Result:     2026-11-29, 3 seeds, bf16 on an AMD EPYC, equal samples, t2v R@1 of random, near, the same places:
            copy_spatial 50.3 47.7 38.5, frozen_zeros 53.5 55.0 41.8, random 46.4 50.6 35.9. Tubes lie below random
            places with each of the nine pairs of runs, and as far where temporal attention is uniform (-11.7) as where
            it can look (-11.8, -10.5); near places do like random ones. So who meets whom in time does not explain it.
            No row is told apart from the first (nearest: copy_spatial with the same place, -11.8 [-20.6, -3.0], p 0.23
            by Holm). At equal seconds (0.98 to 1.00 of the samples): copy_spatial 50.3 46.9 38.5, frozen_zeros 53.5
            54.2 41.3, random 45.7 50.6 34.3; tubes below random places with each pair of runs (-11.8, -12.2, -11.4);
            none is told apart (p 0.23 or more). Runs of temporal-pairing-5b81e8ae7a (samples), -1fe17ec115 (seconds).
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
