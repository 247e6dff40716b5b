"""A video file as its container describes it: the compressed packets of one stream, and when they are shown.

Every backend works from this, so that all mean the same stream and the same frame by a number. The stream is the
one that FFmpeg holds to be the best: marked as default, then of the highest bit rate. Frames are numbered in the
order in which they are shown.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from mac_ray.data.decode.error import DecodeError, refusing
from mac_ray.data.decode.timeline import Times, timeline
from mac_ray.data.source import Source

Media = Path | bytes  # a whole file on disk, or what was read of anything else

ERRORS = (av.error.FFmpegError, IndexError)
UNTIMED = ("avi",)  # containers that store no presentation time: what FFmpeg makes up is off by reordering
KEPT_PROMISE = 0.95  # of the frames, or the time, that a header promises: headers are not exact everywhere


@dataclass(frozen=True)
class Video:
    """One stream, with its packets in memory."""

    source: Source
    container: str  # FFmpeg's names for the format, with commas between them
    index: int  # of the stream in the container
    num_streams: int  # of video
    context: Any  # av.CodecContext
    packets: Sequence[Any]
    stamps: Sequence[
        Any
    ]  # of the frames shown, in order, in units of `unit`; all None where they are not told apart
    unit: float  # the stream's time base, in seconds
    rate: float  # frames a second; 0: unknown
    promised: int  # frames, by the header or the packets
    missing: str | None  # what is promised and the file has not, in words
    # whether a frame that is decoded can be told by its stamp; if not, by counting from the start
    is_timed: bool

    @property
    def codec(self) -> str:
        return str(self.context.codec.canonical_name)

    @property
    def bits(self) -> int:
        """Of a sample of a colour plane."""
        format = self.context.format
        return max((component.bits for component in format.components), default=0) if format else 0

    def timeline(self) -> tuple[Times, float]:
        """Raises DecodeError where there is no frame."""
        return timeline(self.source, np.array(self.stamps, np.float64) * self.unit, self.rate)


def stream_of(media: Media) -> str | io.BytesIO:
    return io.BytesIO(media) if isinstance(media, bytes) else str(media)


@contextmanager
def opened(source: Source, media: Media) -> Iterator[Video]:
    """Read all packets of the file's best video stream. Raises DecodeError."""
    with refusing(source, "pyav", ERRORS):
        # metadata is text that nobody reads here, often not in UTF-8
        container = av.open(stream_of(media), metadata_errors="ignore")
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise DecodeError(source, "pyav: there is no video stream, or none of a known codec")
        stream.codec_context.thread_count = 1
        with refusing(source, "pyav", ERRORS):
            packets = [packet for packet in container.demux(stream) if packet.size]
        # packets outside the file's edit list are decoded but never shown
        stamps = [packet.pts for packet in packets if not packet.is_discard]
        is_told_apart = None not in stamps and len(set(stamps)) == len(stamps)
        yield Video(
            source=source,
            container=container.format.name,
            index=stream.index,
            num_streams=len(container.streams.video),
            context=stream.codec_context,
            packets=packets,
            stamps=sorted(stamps) if is_told_apart else [None] * len(stamps),
            unit=float(stream.time_base),
            rate=float(stream.average_rate or 0),
            promised=max(stream.frames, len(stamps)),
            missing=_missing(container, stream, packets),
            is_timed=is_told_apart and container.format.name not in UNTIMED,
        )


def _missing(container: Any, stream: Any, packets: Sequence[Any]) -> str | None:
    """What a download that broke off lacks, told by its header where that comes first."""
    if stream.frames:
        if len(packets) < KEPT_PROMISE * stream.frames:
            return f"only {len(packets)} of the {stream.frames} frames that it promises decode"
        return None
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    if not container.duration or not stamps:
        return None
    promised = container.duration / av.time_base
    there = float((max(stamps) - min(stamps)) * stream.time_base)
    gap = there / max(1, len(stamps) - 1)
    if there + gap < KEPT_PROMISE * promised:
        return f"only {there + gap:.1f} of the {promised:.1f} s that it promises are there"
    return None
