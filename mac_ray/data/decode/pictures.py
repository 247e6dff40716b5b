"""Pictures: an image file is a clip of one frame, a tar of pictures a clip of several."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mac_ray.data.decode.error import DecodeError, refusing
from mac_ray.data.decode.timeline import Select
from mac_ray.data.kinds import kind_of
from mac_ray.data.source import Source
from mac_ray.data.tar import contents_of

PLAIN_JPEG = b"\xff\xd8\xff\xe0"  # JFIF; what a camera wrote starts otherwise
EXIF, WITHIN = b"Exif\0\0", 4096  # bytes from the start; what has it may be turned
UPRIGHT = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNSCALED = ("I", "F")  # modes of 32 bits, of which nobody can say what is white
# what Pillow lets out of files that are broken in ways it did not think of
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error)


def decode_image(source: Source, media: Path | bytes, select: Select) -> NDArray[np.uint8]:
    """(F, H, W, 3), upright, all of them one picture in memory. Raises DecodeError."""
    pixels = _picture(source, media)
    times = np.full(1, np.inf)  # its one frame is in every window
    one = np.stack([pixels])
    count = len(select(times, 0.0))
    return one if count == 1 else np.broadcast_to(one, (count, *pixels.shape))


def decode_pictures(source: Source, media: Path | bytes, select: Select) -> NDArray[np.uint8]:
    """(F, H, W, 3), upright; only the pictures that are chosen are decoded. Raises DecodeError."""
    with refusing(source, "tar", (OSError, ValueError)):
        run = contents_of(media if isinstance(media, bytes) else media.read_bytes())
    members = [content for name, content in run if kind_of(name) == "image"]
    if not members:
        raise DecodeError(source, "tar: there is no picture in it")
    chosen = select(np.arange(len(members), dtype=np.float64), 0.0)
    pixels = {number: _frame(source, members[number]) for number in set(chosen)}
    if len({picture.shape for picture in pixels.values()}) > 1:
        raise DecodeError(source, "its pictures are not of one size")
    return np.stack([pixels[number] for number in chosen])


def _frame(source: Source, content: memoryview) -> NDArray[np.uint8]:
    """(H, W, 3). Plain JPEG is decoded by torchvision: the pixels are those of Pillow, in 0.6 of the time."""
    if content[:4] == PLAIN_JPEG and EXIF not in bytes(content[:WITHIN]):
        import torch  # takes seconds, which what decodes no frames should not wait for
        from torchvision.io import ImageReadMode, decode_jpeg

        with suppress(RuntimeError):  # Pillow says what is wrong with it
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            planes = decode_jpeg(data, mode=ImageReadMode.RGB)
            return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())
    return _picture(source, bytes(content))


def _picture(source: Source, media: Path | bytes) -> NDArray[np.uint8]:
    """(H, W, 3), upright; of 16 bits the upper eight."""
    with (
        refusing(source, "pillow", (*BROKEN, Image.DecompressionBombError)),
        Image.open(io.BytesIO(media) if isinstance(media, bytes) else media) as image,
    ):
        if image.mode in UNSCALED:
            raise ValueError(
                f"its values have 32 bits (mode {image.mode}), and what is white among them is not said"
            )
        image.load()  # of a TIFF, Pillow turns it then, and says so
        orientation = _orientation(image)
        upright = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
        if upright.mode.startswith("I;16"):  # Pillow would clip it to white
            grey = (np.asarray(upright) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if upright.has_transparency_data:  # what shines through is white, as viewers and img2dataset have it
            over = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
        return np.asarray(upright.convert("RGB"))


def _orientation(image: Image.Image) -> int | None:
    """As EXIF or XMP says; None where they do not, or cannot be read: such a picture is shown as it is."""
    with suppress(*BROKEN):
        found: int | None = image.getexif().get(ExifTags.Base.Orientation)
        return found
    return None
