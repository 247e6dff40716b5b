"""decord: frames of H.264 and VP8/VP9 with times of their own.

decord seeks to the keyframe before a frame and counts from there. The count is wrong where the first frames after
a keyframe are dropped or shown before it, as in HEVC and MPEG-4 with B-frames and in containers without
presentation times, and decord does not notice: these kinds of file it is not given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mac_ray.data.decode.timeline import TIME_TOLERANCE, Times
from mac_ray.data.decode.video import Media, Video, stream_of

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
CODECS = ("h264", "vp8", "vp9")


def suits(video: Video) -> bool:
    # it cannot be told which stream is meant
    return video.container in CONTAINERS and video.codec in CODECS and video.num_streams == 1


def decode(media: Media, video: Video, numbers: Sequence[int], times: Times) -> NDArray[np.uint8] | None:
    """Frames by number, upright (F, H, W, 3); None where decord gives none, or not surely these."""
    import decord

    try:
        reader = decord.VideoReader(stream_of(media), ctx=decord.cpu(0), num_threads=1)
        stamps = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        if stamps.shape != times.shape or np.abs(stamps - stamps[0] - times).max() > TIME_TOLERANCE:
            return None  # with frames outside the edit list, for instance
        pixels: NDArray[np.uint8] = reader.get_batch(numbers).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError):
        return None
    return pixels
