"""Frames brought to another size, and cut to the tower's square.

F frames of H × W pixels, S the tower's square input.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mac_ray.config import Data

Pixels = NDArray[np.uint8]
LONGEST = 4 / 3  # side of a training crop to the other
ATTEMPTS = 10


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
    if len(pixels) > 1 and pixels.strides[0] == 0:  # one picture, in every frame
        return np.broadcast_to(resized(pixels[:1], size), (len(pixels), *size, pixels.shape[3]))
    planes = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).permute(0, 3, 1, 2)
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
        top, left, height, width = _drawn_window(pixels.shape[1], pixels.shape[2], section, generator)
        window = pixels[:, top : top + height, left : left + width]
        cropped = resized(window, (section.image_size, section.image_size))
    if section.horizontal_flip and generator.random() < 0.5:
        cropped = cropped[:, :, ::-1]
    return cropped


def _drawn_window(
    height: int, width: int, section: Data, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width, as torchvision's RandomResizedCrop: one that leads out of the picture is drawn anew,
    and in the end the middle is taken, as large as its shape may be. Cut to fit, it would be smaller than asked for."""
    for _ in range(ATTEMPTS):
        area = generator.uniform(*section.crop_scale) * height * width
        aspect = np.exp(generator.uniform(-np.log(LONGEST), np.log(LONGEST)))
        own_height, own_width = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if 0 < own_height <= height and 0 < own_width <= width:
            top = int(generator.integers(height - own_height + 1))
            left = int(generator.integers(width - own_width + 1))
            return top, left, own_height, own_width
    own_height, own_width = min(height, round(width * LONGEST)), min(width, round(height * LONGEST))
    return (height - own_height) // 2, (width - own_width) // 2, own_height, own_width
