"""Frames brought to another size, and cut to the tower's square.

F frames of H × W pixels, S the tower's square input.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mac_ray.config import Data

Pixels = NDArray[np.uint8]


def with_short_side(pixels: Pixels, short_side: int) -> Pixels:
    """(F, H, W, 3) scaled so that min(H, W) is `short_side`."""
    return resized(pixels, scaled_size(pixels.shape[1], pixels.shape[2], short_side))


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    scale = short_side / min(height, width)
    return round(height * scale), round(width * scale)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(F, H, W, 3) to the given height and width, bilinear with antialiasing."""
    if pixels.shape[1:3] == size:
        return pixels
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, size=size, mode="bilinear", antialias=True, align_corners=False)
    return scaled.permute(0, 2, 3, 1).numpy()


def centre_crop(pixels: Pixels, size: int) -> Pixels:
    """The largest centred square, at S × S: (F, S, S, 3)."""
    height, width = pixels.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pixels[:, top : top + side, left : left + side], (size, size))


def training_crop(pixels: Pixels, section: Data, generator: np.random.Generator) -> Pixels:
    """One random resized crop and flip for all frames of a clip: (F, S, S, 3)."""
    if section.crop_scale == (1.0, 1.0):
        cropped = centre_crop(pixels, section.image_size)
    else:
        height, width = pixels.shape[1:3]
        area = generator.uniform(*section.crop_scale) * height * width
        aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        crop_height = min(height, max(1, round(np.sqrt(area / aspect))))
        crop_width = min(width, max(1, round(np.sqrt(area * aspect))))
        top = generator.integers(height - crop_height + 1)
        left = generator.integers(width - crop_width + 1)
        window = pixels[:, top : top + crop_height, left : left + crop_width]
        cropped = resized(window, (section.image_size, section.image_size))
    if section.horizontal_flip and generator.random() < 0.5:
        cropped = cropped[:, :, ::-1]
    return cropped
