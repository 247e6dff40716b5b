"""Pictures: an image file is a clip of one frame, a tar of pictures a clip of several."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mac_ray.data.decode.error import DecodeError, refusing
from mac_ray.data.decode.timeline import Select
from mac_ray.data.source import Source

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def decode_image(source: Source, media: Path | bytes, select: Select) -> NDArray[np.uint8]:
    """(F, H, W, 3), upright. Raises DecodeError."""
    pixels = _picture(source, media)
    times = np.full(1, np.inf)  # its one frame is in every window
    return np.stack([pixels for _ in select(times, 0.0)])


def decode_pictures(source: Source, media: Path | bytes, select: Select) -> NDArray[np.uint8]:
    """(F, H, W, 3), upright; only the pictures that are chosen are decoded. Raises DecodeError."""
    with (
        refusing(source, "tar", (OSError, tarfile.TarError)),
        tarfile.open(fileobj=io.BytesIO(media if isinstance(media, bytes) else media.read_bytes())) as tar,
    ):
        members = [
            (extracted.read() if (extracted := tar.extractfile(member)) else b"")
            for member in tar
            if member.name.endswith(PICTURES)
        ]
    if not members:
        raise DecodeError(source, "tar: there is no picture in it")
    chosen = select(np.arange(len(members), dtype=np.float64), 0.0)
    pixels = {number: _picture(source, members[number]) for number in set(chosen)}
    if len({picture.shape for picture in pixels.values()}) > 1:
        raise DecodeError(source, "its pictures are not of one size")
    return np.stack([pixels[number] for number in chosen])


def _picture(source: Source, media: Path | bytes) -> NDArray[np.uint8]:
    """(H, W, 3), upright."""
    errors = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    with (
        refusing(source, "pillow", errors),
        Image.open(io.BytesIO(media) if isinstance(media, bytes) else media) as image,
    ):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
