"""What to train beside the contrast (MAC, Table 5), and what the paper did not vary: weight and target.

Question:   do reconstruction and language objectives help or hurt retrieval, and at what cost?
Hypothesis: at weight 1 they hurt, language most, as in the paper; at a tenth, or with a latent target, less so.
Result:     2026-11-30, 3 seeds, bf16 on an AMD EPYC. At four times the length (stages.0.epochs=80 stages.1.epochs=80),
            equal samples: t2v R@1 VTC 74.6 [67.6, 81.6], + MVM 73.2 [65.8, 80.6] (-1.4 [-9.3, +6.5]), + MLM 75.3 [72.4,
            78.1] (+0.7 [-4.8, +6.1]), p 1.00 each. Runs of pretext-tasks-9f9e1bb8df.
            At the default length, equal samples: VTC 50.3 [25.4, 75.1], + MVM 45.5 [21.7, 69.3], + MLM 44.5 [17.2,
            71.9], + LM 47.9 [44.7, 51.1], + MVM + LM 47.5 [33.5, 61.4]; at a tenth of the weight + MVM 46.5 [17.0,
            76.1], + MLM 51.4 [33.3, 69.5], + LM 47.4 [21.3, 73.5]; latent MVM 48.1 [24.6, 71.7]. Nothing is told apart
            from VTC (p 0.21 or more; nearest MLM, -5.7 [-9.8, -1.7]; it, MVM, and MVM and LM at a tenth lie below with
            each seed), at 1.00 to 1.38 of its FLOPs; 6 of 10 pairs are in the paper's order (tau 0.20), and its
            collapse under LM does not show. After half as many samples, one seed, +-4: VTC 25.2, + MVM 39.2, + MLM
            24.8, + LM 25.0, + MVM + LM 34.8.
            At equal seconds (0.71 to 1.00 of the samples): VTC 50.3 [25.4, 75.1], + MVM 41.6 (-8.7 [-12.4, -4.9], p
            0.070 by Holm), + MLM 44.3, + LM 38.1, + MVM + LM 32.9 (-17.3 [-34.3, -0.4], p 0.19); at a tenth + MVM 41.0,
            + MLM 51.1, + LM 40.3 (-10.0 [-13.0, -7.0], p 0.039); latent MVM 39.0. LM at a tenth alone is told apart;
            all but MLM at a tenth lie below VTC with each seed, in the paper's order but for MVM and MLM (9 of 10
            pairs, tau 0.80). Runs of pretext-tasks-45a9ff0654 (samples), -084957a687 (seconds).
"""

from mac_ray.ablation import Sweep, main

MVM, MLM, LM = "objectives.reconstruction", "objectives.masked_language", "objectives.language"
WHOLE, TENTH = {"weight": 1.0}, {"weight": 0.1}

SWEEP = Sweep(
    name="pretext-tasks",
    question="Do reconstruction and language objectives help or hurt retrieval, and at what cost?",
    base="configs/ablation.yaml",
    variants={
        "VTC": {},
        "VTC + MVM": {MVM: WHOLE},
        "VTC + MLM": {MLM: WHOLE},
        "VTC + LM": {LM: WHOLE},
        "VTC + MVM + LM": {MVM: WHOLE, LM: WHOLE},
        "VTC + 0.1 MVM": {MVM: TENTH},
        "VTC + 0.1 MLM": {MLM: TENTH},
        "VTC + 0.1 LM": {LM: TENTH},
        "VTC + latent MVM": {MVM: WHOLE | {"target": "latent"}},
    },
    reference="mac/table5",
)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP))
