"""Decoding of images, and of tars of pictures that are the frames of a clip."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mac_ray.data.decode import DecodeError, Probe, frames, frames_of_windows, probe
from mac_ray.data.source import Source
from tests.data.numbered import BLOCK, numbered, numbers


def test_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(numbered(77)).save(tmp_path / "picture.png")
    pictures = frames(Source.of(tmp_path / "picture.png"), "image", lambda count: [0] * (3 * count), "pyav")
    assert (pictures.shape, pictures.dtype) == ((3, 2 * BLOCK, 4 * BLOCK, 3), np.uint8)
    assert numbers(pictures) == [77] * 3
    assert probe(Source.of(tmp_path / "picture.png"), "image", "pyav") == Probe(1, 0.0, 4 * BLOCK, 2 * BLOCK)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_image_of_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.fromarray(numbered(77)).convert(mode).save(tmp_path / "picture.tiff")
    assert numbers(frames(Source.of(tmp_path / "picture.tiff"), "image", range, "pyav")) == [77]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_shines_through_is_white(tmp_path: Path, mode: str) -> None:
    """A black drawing on nothing, whose nothing is black as well underneath."""
    drawing = np.zeros((8, 8, 4), np.uint8)
    drawing[:, :4, 3] = 255
    image = Image.fromarray(drawing)
    if mode == "P":
        image = Image.frombytes("P", (8, 8), bytes([0] * 4 + [1] * 4) * 8)
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.info["transparency"] = 1
    else:
        image = image.convert(mode)
    image.save(tmp_path / "drawing.png")
    (pixels,) = frames(Source.of(tmp_path / "drawing.png"), "image", range, "pyav")
    assert np.array_equal(
        pixels[..., 0], np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1).repeat(8, axis=0)
    )


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_image_of_16_bits_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(numbered(77)[..., 0].astype(np.uint16) * 257).save(path)
    assert np.array_equal(frames(Source.of(path), "image", range, "pyav")[0], numbered(77))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_image_of_32_bits_is_refused_as_nobody_knows_its_white(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(numbered(77)[..., 0].astype(dtype)).save(tmp_path / "picture.tiff")
    with pytest.raises(DecodeError, match=r"picture\.tiff: pillow: its values have 32 bits"):
        frames(Source.of(tmp_path / "picture.tiff"), "image", range, "pyav")


TURNED = {  # how a camera that says so had stored the picture
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", TURNED)
def test_image_orientation_in_exif_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    told = {"tiffinfo": {0x0112: orientation}} if suffix == "tiff" else {"exif": exif, "quality": 95}
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(np.ascontiguousarray(TURNED[orientation](numbered(77)))).save(path, **told)
    assert numbers(frames(Source.of(path), "image", range, "pyav")) == [77]


def test_broken_exif_is_no_more_than_a_picture_that_is_not_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    Image.fromarray(numbered(77)).save(tmp_path / "picture.jpg", exif=exif, quality=95)
    whole = (tmp_path / "picture.jpg").read_bytes()
    start = whole.index(b"Exif") + 6
    told, outcomes = Source.of(tmp_path / "broken.jpg"), set()
    for place in range(start, start + 60):
        for value in (0, 1, 7, 255):
            broken = bytearray(whole)
            broken[place] = value
            (tmp_path / "broken.jpg").write_bytes(broken)
            try:
                outcomes.add(frames(told, "image", range, "pyav").shape)
            except DecodeError:
                outcomes.add("refused")
    assert (1, 2 * BLOCK, 4 * BLOCK, 3) in outcomes


def test_image_is_in_every_window(tmp_path: Path) -> None:
    Image.fromarray(numbered(9)).save(tmp_path / "picture.png")
    pictures = frames_of_windows(
        Source.of(tmp_path / "picture.png"),
        "image",
        lambda _, duration: [(duration, duration), (5.0, 6.0)],
        range,
        "pyav",
    )
    assert numbers(pictures) == [9, 9]


def test_jpeg_frames_with_exif_are_turned_also_where_jfif_comes_first(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(TURNED[8](numbered(77)))).save(file, "JPEG", exif=exif, quality=95)
    assert file.getvalue()[:4] == b"\xff\xd8\xff\xe0"
    with tarfile.open(tmp_path / "clip.tar", "w") as tar:
        entry = tarfile.TarInfo("0.jpg")
        entry.size = file.tell()
        tar.addfile(entry, io.BytesIO(file.getvalue()))
        end = tar.offset
    assert numbers(frames(Source(str(tmp_path / "clip.tar"), 0, end), "frames", range, "pyav")) == [77]


def test_pictures_of_a_part_of_a_tar_are_the_frames_of_a_clip(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for clip in range(2):
            for number in range(4):
                file = io.BytesIO()
                Image.fromarray(numbered(10 * clip + number)).save(file, "PNG")
                entry = tarfile.TarInfo(f"clip{clip}.{number}.png")
                entry.size = file.tell()
                tar.addfile(entry, io.BytesIO(file.getvalue()))
        end = tar.offset
    with tarfile.open(tmp_path / "shard.tar") as tar:
        starts = [member.offset for member in tar]
    second = Source(str(tmp_path / "shard.tar"), starts[4], end - starts[4])
    assert numbers(frames(second, "frames", lambda count: [0, count - 1], "pyav")) == [10, 13]
    cut = Source(str(tmp_path / "shard.tar"), starts[4], 10 * end)
    with pytest.raises(DecodeError, match=r"shard\.tar \(bytes \d+ to \d+\): only \d+ bytes"):
        frames(cut, "frames", range, "pyav")
