"""Pictures that carry a number in the brightness of eight blocks, so that what was decoded can be read off."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # pixels


def numbered(number: int) -> NDArray[np.uint8]:
    """A picture (2 * BLOCK, 4 * BLOCK, 3) whose eight blocks are the bits of its number."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8).reshape(2, 4)
    gray = (bits * 200 + 28).repeat(BLOCK, 0).repeat(BLOCK, 1)
    return np.stack([gray] * 3, axis=-1)


def numbers(pictures: NDArray[np.uint8]) -> list[int]:
    """The numbers on pictures (F, 2 * BLOCK, 4 * BLOCK, 3)."""
    blocks = pictures[..., 0].reshape(len(pictures), 2, BLOCK, 4, BLOCK).mean((2, 4)) > 128
    return [int(sum(1 << bit for bit in range(8) if block.flat[bit])) for block in blocks]
