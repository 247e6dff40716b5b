"""torchcodec: PyTorch's own decoder, on the FFmpeg libraries of the system.

It finds a frame by the order of presentation times, so it is not given containers that store none; and it tells
at what time each frame it gives is shown, so that one that was not asked for is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mac_ray.data.decode.timeline import TIME_TOLERANCE, Times
from mac_ray.data.decode.video import Media, Video

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "gif")


def finds_ffmpeg() -> bool:
    """Without these libraries it can be imported, but every video is an error."""
    import torchcodec

    return torchcodec.ffmpeg_major_version is not None


def suits(video: Video) -> bool:
    return video.container in CONTAINERS


def decode(media: Media, video: Video, numbers: Sequence[int], times: Times) -> NDArray[np.uint8] | None:
    """Frames by number, upright (F, H, W, 3); None where torchcodec gives none, or not these."""
    from torchcodec.decoders import VideoDecoder

    try:
        decoder = VideoDecoder(media, stream_index=video.index, dimension_order="NHWC", num_ffmpeg_threads=1)
        if decoder.metadata.num_frames != len(times):
            return None
        batch = decoder.get_frames_at(list(numbers))
    except (RuntimeError, ValueError, IndexError):
        return None
    shown = batch.pts_seconds.numpy() - decoder.metadata.begin_stream_seconds
    if np.abs(shown - times[numbers]).max() > TIME_TOLERANCE:
        return None
    pixels: NDArray[np.uint8] = batch.data.numpy()
    return pixels
