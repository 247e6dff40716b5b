"""Who sees which sample when: a pure function of (seed, stage, step), the same for any number of ranks.

The order of a stage is one long sequence, epoch after epoch, each a permutation drawn from (seed, stage,
epoch). Step k takes positions k B … (k + 1) B - 1 of it, and each rank its share of those, so a batch may
straddle two epochs and no sample is ever dropped.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def shares(total: int, num_ranks: int) -> list[int]:
    """Rows of each rank when `total` rows are dealt out in order; they differ by one at most."""
    return [total // num_ranks + (rank < total % num_ranks) for rank in range(num_ranks)]


def share_of(total: int, rank: int, num_ranks: int) -> range:
    """The rows of one rank."""
    counts = shares(total, num_ranks)
    first = sum(counts[:rank])
    return range(first, first + counts[rank])


class GlobalOrder:
    """(epoch, sample number) at every position of a stage."""

    def __init__(self, num_samples: int, seed: int, stage: int) -> None:
        self.num_samples = num_samples
        self.seed, self.stage = seed, stage
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def at(self, positions: range) -> Iterator[tuple[int, int]]:
        for position in positions:
            epoch, place = divmod(position, self.num_samples)
            yield epoch, int(self._permutation(epoch)[place])

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._permutations:
            # a batch spans two epochs at most, unless it is larger than the set, which the plan refuses
            self._permutations = {
                kept: order for kept, order in self._permutations.items() if kept == epoch - 1
            }
            # the loader's generator of sample n has n in the last place, so this is never one of those
            generator = np.random.default_rng([self.seed, self.stage, epoch, self.num_samples])
            self._permutations[epoch] = generator.permutation(self.num_samples)
        return self._permutations[epoch]
