"""What masking saves by arithmetic (MAC, Table 4): parameters and operations, nothing is trained.

Question:   how many operations does a sample cost at each masking ratio, as the paper counts and as executed?
Hypothesis: 189.3 GFLOP unmasked and 83.3 at 60%, as published.
Result:     2026-11-21: 189.59 and 83.60, within 0.4%; with the products of attention 195.79 and 84.91.
"""

import sys
from pathlib import Path

from mac_ray.bench.__main__ import main

CONFIG = str(Path(__file__).parents[1] / "configs" / "mac.yaml")

if __name__ == "__main__":
    raise SystemExit(main(["flops", CONFIG, *sys.argv[1:], "--ratio", "0", "0.3", "0.6", "0.75", "0.9"]))
