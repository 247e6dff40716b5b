"""The pixels of the moving-shapes set: a clip as frames, as an H.264 file, and the process that makes many.

`mac_ray.data.shapes` runs this module as a command of its own. A process of `multiprocessing` would first
import the main module of the caller, and torch with it, which takes longer than a thousand clips.

T frames, H = W pixels. Lengths are shares of the width of the picture, so every size shows the same scene;
x goes right, y goes down.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from mac_ray import files
from mac_ray.data.shape_scenes import LOOK, Clip

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

FRAMES_PER_SECOND = 8
# An object is at its place in the middle of the clip, so there the takes of a scene look alike. Place,
# travel, jitter and radius together keep every object inside the picture.
PLACE_CENTRES = {
    "top left": (0.28, 0.28),
    "top right": (0.72, 0.28),
    "bottom left": (0.28, 0.72),
    "bottom right": (0.72, 0.72),
}
TRAVEL = 0.125  # from the middle of the clip to either end
JITTER = 0.03  # of the place, the same in both takes, so that a position alone says less about the motion
RADII = {"large": 0.125, "small": 0.08}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
# red, green, blue; far apart also in chroma, which H.264 stores at half the resolution
COLOURS = {
    "red": (215, 25, 30),
    "orange": (248, 128, 15),
    "yellow": (245, 235, 50),
    "green": (30, 165, 50),
    "cyan": (40, 225, 230),
    "blue": (45, 70, 240),
    "purple": (150, 40, 190),
    "white": (250, 250, 250),
}

# Signed distance to the outline, negative inside, of shapes of radius about 1 at the origin
OUTLINES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": lambda x, y: np.hypot(x, y) - 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) - 0.85,
    "diamond": lambda x, y: (abs(x) + abs(y) - 1.1) / math.sqrt(2),
    "triangle": lambda x, y: np.maximum(y - 0.85, 0.88 * abs(x) - 0.47 * y - 0.45),
    "cross": lambda x, y: np.minimum(
        np.maximum(abs(x) - 1, abs(y) - 0.33), np.maximum(abs(x) - 0.33, abs(y) - 1)
    ),
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.72) - 0.28,
}


def _ramp(grid: Floats, angle: float) -> Floats:
    x, y = grid - 0.5
    distance: Floats = math.cos(angle) * x + math.sin(angle) * y
    return distance


def _stripes(grid: Floats, angle: float, cycles: float) -> Floats:
    share: Floats = np.clip(0.5 + 2 * np.sin(2 * math.pi * cycles * _ramp(grid, angle)), 0, 1)
    return share


def _plain(grid: Floats, generator: np.random.Generator) -> Floats:
    return np.full_like(grid[0], generator.random())


def _gradient(grid: Floats, generator: np.random.Generator) -> Floats:
    return 0.5 + _ramp(grid, generator.uniform(0, 2 * math.pi))


def _striped(grid: Floats, generator: np.random.Generator) -> Floats:
    return _stripes(grid, generator.uniform(0, math.pi), generator.uniform(3, 7))


def _checked(grid: Floats, generator: np.random.Generator) -> Floats:
    cycles = generator.uniform(2, 4)
    return abs(_stripes(grid, 0, cycles) - _stripes(grid, math.pi / 2, cycles))


def _clouds(grid: Floats, generator: np.random.Generator) -> Floats:
    total = np.zeros_like(grid[0])
    for angle in generator.uniform(0, 2 * math.pi, size=5):
        cycles, phase = generator.uniform(1, 5), generator.random()
        total += np.sin(2 * math.pi * (cycles * _ramp(grid, angle) + phase))
    share: Floats = np.clip(0.5 + 0.2 * total, 0, 1)
    return share


# of coordinates (2, H, W), how much of the second of two tones each pixel has, (H, W)
BACKGROUNDS = (_plain, _gradient, _striped, _checked, _clouds)


def render(clip: Clip, num_frames: int, size: int) -> Bytes:
    """The frames of a clip, RGB (T, H, W, 3)."""
    generator = clip.generator(LOOK)
    centres = (np.arange(size) + 0.5) / size
    grid = np.stack(np.meshgrid(centres, centres))  # (2, H, W): x, y
    # muted tones, darker than white and greyer than any object
    tones = generator.uniform(45, 125, size=(2, 1)) + generator.uniform(-14, 14, size=(2, 3))
    pattern = BACKGROUNDS[generator.integers(len(BACKGROUNDS))]
    share = pattern(grid, generator)[..., None]
    background = tones[0] + (tones[1] - tones[0]) * share
    video: Floats = np.tile(background, (num_frames, 1, 1, 1))  # (T, H, W, 3)
    # from -1 to 1 over the clip, each frame standing for the middle of its interval
    moments = 2 * (np.arange(num_frames) + 0.5) / num_frames - 1
    jitters = generator.uniform(-JITTER, JITTER, size=(len(clip.scene), 2))
    parts = zip(clip.scene, clip.motions, jitters, strict=True)
    # small objects are drawn last: where two meet, none is ever hidden
    for thing, motion, jitter in sorted(parts, key=lambda part: -RADII[part[0].size]):
        radius = RADII[thing.size]
        place = np.array(PLACE_CENTRES[thing.place]) + jitter
        path = place + TRAVEL * moments[:, None] * np.array(DIRECTIONS[motion])
        x, y = ((grid - path[:, :, None, None]) / radius).swapaxes(0, 1)  # (T, H, W) each
        distance = OUTLINES[thing.shape](x, y)
        cover = np.clip(0.5 - distance * radius * size, 0, 1)[..., None]  # (T, H, W, 1)
        video += cover * (np.array(COLOURS[thing.colour]) - video)
    return np.rint(video).astype(np.uint8)


def encode(frames: Bytes) -> bytes:
    """An H.264 MP4 file of RGB frames (T, H, W, 3); the same bytes on every call with one build of PyAV."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # no B-frames: frame n is packet n. One thread: x264's result depends on their number. No macroblock tree: with
        # it, the same frames come out as other bytes once in thousands of calls.
        options = {
            "preset": "veryfast",
            "crf": "18",
            "bf": "0",
            "threads": "1",
            "flags": "+bitexact",
            "x264-params": "mbtree=0",
        }
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for planes in _yuv420(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _yuv420(frames: Bytes) -> Bytes:
    """RGB (T, H, W, 3) to the planes of BT.601 in limited range, stacked (T, 3/2 H, W).

    Done here because the rounding of ffmpeg's own conversion depends on the processor.
    """
    num_frames, height, width, _ = frames.shape
    red, green, blue = (frames[..., channel].astype(np.float64) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [(16 + luma * (219 / 255)).reshape(num_frames, -1)]
    for difference in ((blue - luma) / 1.772, (red - luma) / 1.402):
        squares = difference.reshape(num_frames, height // 2, 2, width // 2, 2)
        planes.append((128 + squares.mean(axis=(2, 4)) * (224 / 255)).reshape(num_frames, -1))
    stacked = np.concatenate(planes, axis=1).reshape(num_frames, height * 3 // 2, width)
    return np.rint(stacked).astype(np.uint8)


def make(folder: Path, clip: Clip, num_frames: int, size: int) -> str:
    """Write one clip as `folder`/<its name>.mp4, whole or not at all, and return the SHA-256 of the file."""
    content = encode(render(clip, num_frames, size))
    files.write(folder / f"{clip.name}.mp4", content)
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Make the clips named on standard input, and write the checksum of each to standard output."""
    folder, clips, num_frames, size = pickle.load(sys.stdin.buffer)
    for clip in clips:
        print(make(folder, clip, num_frames, size), flush=True)


if __name__ == "__main__":
    main()
