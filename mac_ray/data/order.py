"""Who sees which sample when: a pure function of (seed, stage, step), the same for any number of ranks.

The order of a stage is one long sequence, epoch after epoch. Step k takes positions k B … (k + 1) B - 1 of it,
and each rank its share of those, so a batch may straddle two epochs, and no sample is dropped but those that make no
whole batch at the end of a stage. An epoch of a stage is as many positions as its sets have samples together, whether
or not the sets are weighed.

An epoch is a permutation of its samples, drawn when one of its positions is first asked for and kept until one of
another epoch is. It is all that a process holds of N: 4 bytes a sample, with weights 9. For ten million samples
that is 40 MB (90 MB) and, at the first step of an epoch or the step that is resumed at, half a second.

N samples of all sets of a stage together, numbered one set after the other.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.signedinteger[Any]]
DrawnT = TypeVar("DrawnT")


def shares(total: int, num_ranks: int) -> list[int]:
    """Rows of each rank when `total` rows are dealt out in order; they differ by one at most."""
    return [total // num_ranks + (rank < total % num_ranks) for rank in range(num_ranks)]


def share_of(total: int, rank: int, num_ranks: int) -> range:
    """The rows of one rank."""
    counts = shares(total, num_ranks)
    first = sum(counts[:rank])
    return range(first, first + counts[rank])


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in whole parts as the weights say: each within one of its exact part, by largest remainder."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(part) for part in exact]
    by_remainder = sorted(range(len(weights)), key=lambda index: (counts[index] - exact[index], index))
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


class GlobalOrder:
    """(epoch, sample number) at every position of a stage whose sets are drawn from as one."""

    def __init__(self, num_samples: int, seed: int, stage: int) -> None:
        self.num_samples = num_samples
        self._permutations = _Drawn(partial(_permutation, num_samples), seed, stage, stream=num_samples)

    def at(self, positions: range) -> Iterator[tuple[int, int]]:
        for position in positions:
            epoch, place = divmod(position, self.num_samples)
            yield epoch, int(self._permutations[epoch][place])

    def alternatives(self, number: int) -> range:
        """The samples that may take the place of one."""
        return range(self.num_samples)


class MixedOrder:
    """(epoch, sample number) at every position of a stage whose sets are drawn from by weight.

    In every epoch of the stage each set has its exact share of the positions, scattered over them all. Each set
    is walked through epochs of its own, so none of its samples comes again before all have come; the epoch
    that is given for a position is that of its set.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int, stage: int) -> None:
        self.sizes = list(sizes)
        self.num_samples = sum(sizes)
        self.counts = apportioned(self.num_samples, weights)
        self._firsts = [sum(self.sizes[:which]) for which in range(len(self.sizes))]
        self._arrangements = _Drawn(partial(_arrangement, self.counts), seed, stage, stream=self.num_samples)
        self._permutations = [
            _Drawn(partial(_permutation, size), seed, stage, stream=self.num_samples + 1 + which)
            for which, size in enumerate(self.sizes)
        ]

    def at(self, positions: range) -> Iterator[tuple[int, int]]:
        for position in positions:
            stage_epoch, place = divmod(position, self.num_samples)
            which, turn = (int(drawn[place]) for drawn in self._arrangements[stage_epoch])
            epoch, own_place = divmod(stage_epoch * self.counts[which] + turn, self.sizes[which])
            yield epoch, self._firsts[which] + int(self._permutations[which][epoch][own_place])

    def alternatives(self, number: int) -> range:
        """The samples that may take the place of one: those of its set, which keeps its share."""
        which = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return range(self._firsts[which], self._firsts[which] + self.sizes[which])


Order = GlobalOrder | MixedOrder


def stage_order(sizes: Sequence[int], weights: Sequence[float] | None, seed: int, stage: int) -> Order:
    """The order of a stage that draws from sets of these sizes; without weights they count as one set."""
    if weights is None:
        return GlobalOrder(sum(sizes), seed, stage)
    return MixedOrder(sizes, weights, seed, stage)


def _permutation(size: int, generator: np.random.Generator) -> Integers:
    """What generator.permutation(size) is, in half the memory."""
    numbers = np.arange(size, dtype=np.int32)
    generator.shuffle(numbers)
    return numbers


def _arrangement(counts: Sequence[int], generator: np.random.Generator) -> tuple[Integers, Integers]:
    """(N,), (N,): the set at each place of an epoch, and how many places of that set there were before."""
    numbers = np.arange(len(counts), dtype=np.min_scalar_type(-len(counts)))
    which = np.repeat(numbers, counts)
    generator.shuffle(which)
    turn = np.empty(len(which), dtype=np.int32)
    for number, count in enumerate(counts):
        turn[which == number] = np.arange(count, dtype=np.int32)
    return which, turn


class _Drawn(Generic[DrawnT]):
    """What is drawn for an epoch from (seed, stage, epoch, stream); that of the newest is kept.

    Positions are asked for in rising order, so no epoch comes again before a later one. The loader's generator of
    sample n has n < N for a stream, so those from N on are never one of its own.
    """

    def __init__(
        self, draw: Callable[[np.random.Generator], DrawnT], seed: int, stage: int, stream: int
    ) -> None:
        self._draw = draw
        self._place, self._stream = (seed, stage), stream
        self._kept: tuple[int, DrawnT] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}  # drawn anew is sooner there than sent to a loader process

    def __getitem__(self, epoch: int) -> DrawnT:
        if self._kept is None or self._kept[0] != epoch:
            self._kept = None  # before the next is drawn: there is never room for two
            self._kept = epoch, self._draw(np.random.default_rng([*self._place, epoch, self._stream]))
        return self._kept[1]
