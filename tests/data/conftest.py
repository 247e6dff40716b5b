"""A small set of every kind of media, with a tokeniser of its captions, made once per session."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.data import manifest_writer
from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.text import save_tokenizer

# frames, height, width: shorter than a clip of 4 frames, longer, and very wide or tall
VIDEOS = [(1, 32, 48), (2, 48, 32), (3, 32, 32), (9, 40, 56), (12, 16, 128), (30, 144, 16), (5, 34, 50)]
IMAGES = [(20, 30), (64, 8)]


def write_video(path: Path, num_frames: int, height: int, width: int) -> None:
    """Noise, with a B-frame now and then."""
    generator = np.random.default_rng(num_frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "6", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(num_frames):
            pixels = generator.integers(0, 255, (height, width, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_media(folder: Path) -> list[Row]:
    """Videos and images of every size, each with three captions of its own."""
    rows = []
    for number, (num_frames, height, width) in enumerate(VIDEOS):
        write_video(folder / f"video{number}.mp4", num_frames, height, width)
        rows.append((f"video{number}.mp4", "video"))
    for number, (height, width) in enumerate(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"image{number}.png")
        rows.append((f"image{number}.png", "image"))
    return [
        Row(name, Path(name), kind, "train", tuple(f"{name} said {word}" for word in ("one", "two", "three")))
        for name, kind in rows
    ]


def config_with(overrides: Sequence[str]) -> Config:
    """Frames and batches that fit the small set."""
    small = ["data.image_size=16", "stages.0.batch_size=4", "stages.1.batch_size=4"]
    return config_file.load(None, [*small, *overrides])


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The training split of a set of every kind of media."""
    folder = tmp_path_factory.mktemp("mixed")
    return manifest_writer.write(folder / "set.parquet", write_media(folder), "mixed", folder).split("train")


@pytest.fixture(scope="session")
def tokenizer_file(mixed: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    captions = [caption for sample in mixed for caption in sample.captions]
    save_tokenizer(Config().model.text, captions, path)
    return path


def make_hanging(path: Path) -> Path:
    """A video on which opening hangs; returns the pipe it waits for.

    A list of files in FFmpeg's own format makes FFmpeg open the file it names: a pipe into which nobody writes.
    """
    pipe = path.with_suffix(".pipe")
    os.mkfifo(pipe)
    path.write_text(f"ffconcat version 1.0\nfile {pipe.name}\n")
    return pipe
