"""Media and manifests that the tests of `prepare check` make for themselves."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.manifest_writer import write


def make_clip(path: Path, seconds: float = 1, size: int = 32, seed: int = 0) -> None:
    """H.264 of noise at 10 frames per second."""
    generator = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for number in range(round(10 * seconds)):
            pixels = generator.integers(0, 255, (size, size, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_manifest(folder: Path, *rows: tuple[str, str, list[str]], name: str = "made") -> Manifest:
    """Rows are (path, split, captions); the path without its ending is the id. The file is beside the folder."""
    written = (
        Row(
            path.rpartition(".")[0],
            Path(path),
            "image" if path.endswith(".png") else "video",
            split,
            tuple(said),
        )
        for path, split, said in rows
    )
    return write(folder.parent / f"{name}.parquet", written, name, folder)
