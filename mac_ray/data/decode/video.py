"""A video file as its container describes it: the compressed packets of one stream, and when they are shown.

All packets are looked at, because only they say which frames there are, but those of a large file are not kept: a run
of them is read again where frames of it are wanted.

Every backend works from this, so that all mean the same stream and the same frame by a number. The stream is the
one that FFmpeg holds to be the best: marked as default, then of the highest bit rate. Frames are numbered in the
order in which they are shown.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from mac_ray.data.decode.error import DecodeError, refusing
from mac_ray.data.decode.timeline import Times, timeline
from mac_ray.data.source import Source

Media = Path | bytes  # a whole file on disk, or what was read of anything else

ERRORS = (av.error.FFmpegError, IndexError, OSError)
UNTIMED = ("avi",)  # containers that store no presentation time: what FFmpeg makes up is off by reordering
KEPT_BYTES = 2**26  # of packets in memory; what has more is read again
KEPT_PROMISE = 0.95  # of the frames, or the time, that a header promises: headers are not exact everywhere


class Head(NamedTuple):
    """What is kept of every packet."""

    pts: int | None
    is_keyframe: bool


@dataclass(frozen=True)
class Video:
    """One stream."""

    source: Source
    media: Media
    container: str  # FFmpeg's names for the format, with commas between them
    index: int  # of the stream in the container
    num_streams: int  # of video
    context: Any  # av.CodecContext
    heads: Sequence[Head]  # of its packets, in the order of decoding
    kept: Sequence[Any] | None  # the packets themselves; None: they are too large
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

    @contextmanager
    def new_context(self) -> Iterator[Any]:
        """A decoder that has decoded nothing yet: what a damaged packet did to one, flushing does not undo everywhere.

        Raises FFmpeg's errors.
        """
        with _container(self.media) as container:
            context = container.streams[self.index].codec_context
            context.thread_count = 1
            yield context

    def packets(self, first: int = 0) -> Iterator[Any]:
        """Those from a number on, in the order of decoding. Raises FFmpeg's errors."""
        if self.kept is not None:
            yield from self.kept[first:]
            return
        with _container(self.media) as container:
            stream = container.streams[self.index]
            stamp = self.heads[first].pts
            if first and self.is_timed and stamp is not None:
                container.seek(stamp, stream=stream)
                packets = _packets(container, stream)
                nearest = next(packets, None)
                found = (n for n, head in enumerate(self.heads) if nearest and head.pts == nearest.pts)
                if (position := next(found, len(self.heads))) <= first:
                    yield from islice(chain([nearest], packets), first - position, None)
                    return
                container.seek(0)  # an index that leads past what was asked for
            yield from islice(_packets(container, stream), first, None)

    def timeline(self) -> tuple[Times, float]:
        """Raises DecodeError where there is no frame."""
        return timeline(self.source, np.array(self.stamps, np.float64) * self.unit, self.rate)


def stream_of(media: Media) -> str | io.BytesIO:
    return io.BytesIO(media) if isinstance(media, bytes) else str(media)


@contextmanager
def opened(source: Source, media: Media) -> Iterator[Video]:
    """Read all packets of the file's best video stream. Raises DecodeError."""
    with refusing(source, "pyav", ERRORS):
        container = _container(media)
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise DecodeError(source, "pyav: there is no video stream, or none of a known codec")
        stream.codec_context.thread_count = 1
        with refusing(source, "pyav", ERRORS):
            scan = _scanned(media, container, stream)
        stamps = scan.stamps
        is_told_apart = None not in stamps and len(set(stamps)) == len(stamps)
        yield Video(
            source=source,
            media=media,
            container=container.format.name,
            index=stream.index,
            num_streams=len(container.streams.video),
            context=stream.codec_context,
            heads=scan.heads,
            kept=scan.kept,
            stamps=sorted(stamps) if is_told_apart else [None] * len(stamps),
            unit=float(stream.time_base),
            rate=float(stream.average_rate or 0),
            promised=max(stream.frames, len(stamps)),
            missing=scan.missing,
            is_timed=is_told_apart and container.format.name not in UNTIMED,
        )


@dataclass(frozen=True)
class _Scan:
    """What looking at all packets of a stream showed."""

    heads: Sequence[Head]
    stamps: Sequence[int | None]  # of the frames shown, in the order of decoding
    kept: Sequence[Any] | None
    missing: str | None


# of the large file that was opened last, with its path and state: whoever wants much of one comes again and again
_last: tuple[tuple[Path, int, int], _Scan] | None = None


def _scanned(media: Media, container: Any, stream: Any) -> _Scan:
    global _last
    status = None if isinstance(media, bytes) else media.stat()
    key = (media, status.st_size, status.st_mtime_ns) if status and isinstance(media, Path) else None
    known = _last  # another thread may replace it
    if key and known and known[0] == key:
        return known[1]
    heads: list[Head] = []
    stamps: list[int | None] = []
    kept: list[Any] | None = []
    num_bytes = 0
    for packet in _packets(container, stream):
        heads.append(Head(packet.pts, packet.is_keyframe))
        if not packet.is_discard:  # what is outside the file's edit list is decoded but never shown
            stamps.append(packet.pts)
        num_bytes += packet.size
        if num_bytes > KEPT_BYTES:
            kept = None
        if kept is not None:
            kept.append(packet)
    scan = _Scan(heads, stamps, kept, _missing(container, stream, heads))
    if key and kept is None:
        _last = key, scan
    return scan


def _container(media: Media) -> Any:
    # metadata is text that nobody reads here, often not in UTF-8
    return av.open(stream_of(media), metadata_errors="ignore")


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    return (packet for packet in container.demux(stream) if packet.size)


def _missing(container: Any, stream: Any, heads: Sequence[Head]) -> str | None:
    """What a download that broke off lacks, told by its header where that comes first."""
    if stream.frames:
        if len(heads) < KEPT_PROMISE * stream.frames:
            return f"only {len(heads)} of the {stream.frames} frames that it promises decode"
        return None
    stamps = [head.pts for head in heads if head.pts is not None]
    if not container.duration or not stamps:
        return None
    promised = container.duration / av.time_base
    there = float((max(stamps) - min(stamps)) * stream.time_base)
    gap = there / max(1, len(stamps) - 1)
    if there + gap < KEPT_PROMISE * promised and _last_end(container) < KEPT_PROMISE * promised:
        return f"only {there + gap:.1f} of the {promised:.1f} s that it promises are there"
    return None


def _last_end(container: Any) -> float:
    """When the last packet of any stream ends, in seconds after the first: sound may outlast the picture."""
    container.seek(0)
    try:
        ends = [
            (packet.pts + (packet.duration or 0)) * packet.time_base
            for packet in container.demux()
            if packet.pts is not None
        ]
    except ERRORS:  # broken midway
        return 0.0
    start: float = (container.start_time or 0) / av.time_base
    return float(max(ends, default=0)) - start
