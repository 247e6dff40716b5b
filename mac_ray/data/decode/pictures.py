"""Pictures: an image file is a clip of one frame, a tar of pictures a clip of several."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mac_ray.data.decode.error import DecodeError, refusing
from mac_ray.data.decode.timeline import Select
from mac_ray.data.source import Source
from mac_ray.data.tar import contents_of

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
PLAIN_JPEG = b"\xff\xd8\xff\xe0"  # JFIF; what a camera wrote starts otherwise, and may be turned


def decode_image(source: Source, media: Path | bytes, select: Select) -> NDArray[np.uint8]:
    """(F, H, W, 3), upright. Raises DecodeError."""
    pixels = _picture(source, media)
    times = np.full(1, np.inf)  # its one frame is in every window
    return np.stack([pixels for _ in select(times, 0.0)])


def decode_pictures(source: Source, media: Path | bytes, select: Select) -> NDArray[np.uint8]:
    """(F, H, W, 3), upright; only the pictures that are chosen are decoded. Raises DecodeError."""
    with refusing(source, "tar", (OSError, ValueError)):
        run = contents_of(media if isinstance(media, bytes) else media.read_bytes())
    members = [content for name, content in run if name.endswith(PICTURES)]
    if not members:
        raise DecodeError(source, "tar: there is no picture in it")
    chosen = select(np.arange(len(members), dtype=np.float64), 0.0)
    pixels = {number: _frame(source, members[number]) for number in set(chosen)}
    if len({picture.shape for picture in pixels.values()}) > 1:
        raise DecodeError(source, "its pictures are not of one size")
    return np.stack([pixels[number] for number in chosen])


def _frame(source: Source, content: memoryview) -> NDArray[np.uint8]:
    """(H, W, 3). Plain JPEG is decoded by torchvision: the pixels are those of Pillow, in 0.6 of the time."""
    if content[:4] == PLAIN_JPEG:
        import torch  # takes seconds, which what decodes no frames should not wait for
        from torchvision.io import ImageReadMode, decode_jpeg

        with suppress(RuntimeError):  # Pillow says what is wrong with it
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            planes = decode_jpeg(data, mode=ImageReadMode.RGB)
            return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())
    return _picture(source, bytes(content))


def _picture(source: Source, media: Path | bytes) -> NDArray[np.uint8]:
    """(H, W, 3), upright."""
    errors = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    with (
        refusing(source, "pillow", errors),
        Image.open(io.BytesIO(media) if isinstance(media, bytes) else media) as image,
    ):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
