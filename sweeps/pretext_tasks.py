"""What to train beside the contrast (MAC, Table 5), and what the paper did not vary: weight and target.

Question:   do reconstruction and language objectives help or hurt retrieval, and at what cost?
Hypothesis: at weight 1 they hurt, language most, as in the paper; at a tenth, or with a latent target, less so.
Result:     2026-11-24, one seed, half of the epochs, +-4: t2v R@1 VTC 25.2, + MVM 39.2, + MLM 24.8, + LM 25.0, + MVM
            + LM 34.8, at 1.13, 1.01, 1.26 and 1.38 of the FLOPs: reconstruction pays, the paper's collapse under LM
            does not show. At twice the learning rate (2026-11-21) nothing was told apart at weight 1: 27.8, 28.2,
            26.0, 31.8, 26.2.
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
