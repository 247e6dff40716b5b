"""Brings the store of a folder up to date: only what is new or has changed is decoded and embedded.

Files are decoded in threads, a stretch of windows at a time, and embedded in batches across files. Each batch
is stored at once, so a search that is killed goes on where it was, also within a long video.

W windows, F frames, S pixels, E embedding size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mac_ray.config import Search
from mac_ray.cores import usable_cores
from mac_ray.data.decode import DecodeError, DecoderDiedError, UnreadableError
from mac_ray.encoder import Encoder
from mac_ray.gallery.media import Media, Unreadable
from mac_ray.gallery.store import Rows, Store, Vectors
from mac_ray.gallery.windows import Stretch, read_stretch, sliding
from mac_ray.model import weights

FORMAT_VERSION = 2
CLIPS_AT_ONCE = 32  # embedded in one batch
MOST_THREADS = 8  # each holds the frames of a stretch, and the compressed bytes of a file
FRAMES_AT_ONCE = 32  # decoded in one pass over a file, if they fit in so many bytes, as those of 1080p do
BYTES_AT_ONCE = 200_000_000
SMALL_FILE = 8_000_000  # bytes; of a larger one the first window shows how large its frames are
MENTIONED_LOSS_S = 0.5  # headers are a little off without anything missing

Progress = Callable[[int, int], None]  # files done, of all


def place_of(folder: Path, encoder: Encoder, section: Search) -> Path:
    """Where the index of a folder lies: another place for other weights, frames, windows or folder."""
    config = encoder.config
    taken = [
        config.data.image_size,
        config.data.short_side,
        config.data.pool_frames,
        config.evaluation.frames,
    ]
    key = [
        FORMAT_VERSION,
        fingerprint(encoder),
        *taken,
        section.window,
        section.hop,
        os.fsencode(folder.resolve()).hex(),
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return Path(section.cache).expanduser() / "search" / name


def fingerprint(encoder: Encoder) -> str:
    """Hash of every weight by name, and of how the video tower uses them.

    Where training once read weights from is no part of it, so a run, its checkpoint and its export are the same.
    """
    used = encoder.config.model.video.model_dump_json(exclude={"pretrained"})
    return hashlib.sha256(f"{used} {weights.fingerprint(encoder.model.state_dict())}".encode()).hexdigest()


def bring_up_to_date(
    store: Store,
    folder: Path,
    files: Sequence[Media],
    refused: Sequence[Unreadable],
    encoder: Encoder,
    section: Search,
    progress: Progress,
) -> None:
    """Forget what is gone or has changed, and embed what the store lacks. The caller holds the index alone.

    What is refused now, a file or all below a folder, is neither gone nor known to have changed.
    """
    known = store.known()
    same = {media.path for media in files if media.path in known and known[media.path].is_of(media)}
    unseen = {entry.path for entry in refused}
    store.forget(path for path in known.keys() - same if not unseen & {path, *map(str, Path(path).parents)})
    begun = {path: known[path].num_windows for path in same if not known[path].complete}
    missing = [media for media in files if media.path not in same or media.path in begun]
    if not missing:
        return
    read = partial(
        read_stretch,
        cut=partial(sliding, section=section),
        data=encoder.config.data,
        num_frames=encoder.config.evaluation.frames,
    )
    most = max(1, FRAMES_AT_ONCE // encoder.config.evaluation.frames)
    done = 0
    progress(done, len(missing))
    for parts in _batches(_decoded(folder, missing, begun, read, most)):
        store.add(_embedded(parts, encoder))
        done += sum(part.ends for part in parts)
        progress(done, len(missing))


@dataclass(frozen=True)
class _Part:
    """What was decoded of a file at once."""

    media: Media
    stretch: Stretch | None  # None: it does not decode
    complete: bool  # nothing of the file is left to decode
    problem: str
    ends: bool = False  # no more of the file in this search
    is_late: bool = False  # decoding took too long

    @property
    def num_windows(self) -> int:
        return len(self.stretch.windows) if self.stretch else 0


@dataclass(frozen=True)
class _Next:
    """Windows of a file to decode."""

    media: Media
    first: int
    at_once: int


def _decoded(
    folder: Path, missing: Sequence[Media], begun: Mapping[str, int], read: Callable[..., Stretch], most: int
) -> Iterator[_Part]:
    """The files in order, from the window on that was not embedded yet; as many stretches ahead as threads.

    A stretch has `most` windows, or fewer where frames are large; what takes too long is tried a window at a time.
    """
    threads = min(usable_cores(), MOST_THREADS)
    left = deque(
        _Next(media, begun.get(media.path, 0), most if media.size <= SMALL_FILE else 1) for media in missing
    )
    ahead: deque[tuple[_Next, Future[Stretch]]] = deque()
    ended: set[str] = set()
    with ThreadPoolExecutor(threads) as pool:

        def submitted(media: Media, first: int, at_once: int) -> Future[Stretch]:
            return pool.submit(read, folder / media.path, media.kind, first, at_once)

        while left or ahead:
            while left and len(ahead) < threads:
                wanted = left.popleft()
                ahead.append((wanted, submitted(wanted.media, wanted.first, wanted.at_once)))
            wanted, future = ahead.popleft()
            media, first, at_once = wanted.media, wanted.first, wanted.at_once
            if media.path in ended:
                continue
            part = _part(media, first, future)
            parts: Iterable[_Part] = [part]
            if part.is_late and at_once > 1:
                singly = range(first, first + at_once)
                parts = (_part(media, number, submitted(media, number, 1)) for number in singly)
            number = first
            for part in parts:
                yield part
                number += part.num_windows
                if part.ends:
                    ended.add(media.path)
                    break
            if media.path not in ended and part.stretch and first == begun.get(media.path, 0):
                # now it is known how many there are, and how large
                fit = BYTES_AT_ONCE // (part.stretch.frame_bytes * part.stretch.clips.shape[1])
                at_once = max(1, min(most, fit))
                later = range(number, part.stretch.total, at_once)
                left.extendleft(_Next(media, number, at_once) for number in reversed(later))


def _part(media: Media, first: int, future: Future[Stretch]) -> _Part:
    try:
        stretch = future.result()
    except DecodeError as error:
        after = f"after its first {first} windows: " if first else ""
        # of what could not be read, or whose decoder was killed, nothing is known: the next search tries again
        unknown = isinstance(error, UnreadableError) or (isinstance(error, DecoderDiedError) and error.killed)
        is_late = isinstance(error, DecoderDiedError) and error.late
        return _Part(media, None, not unknown, after + error.reason, ends=True, is_late=is_late)
    is_last = first + len(stretch.windows) >= stretch.total
    # a decoder that has to read all of a file for any part of it says so with the first
    is_short = is_last and stretch.lost > MENTIONED_LOSS_S
    problem = f"its last {stretch.lost:.1f} s do not decode" if is_short else ""
    return _Part(media, stretch, complete=is_last, problem=problem, ends=is_last)


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Parts that together have CLIPS_AT_ONCE windows or more; one that does not decode counts as a window."""
    batch: list[_Part] = []
    for part in parts:
        batch.append(part)
        if sum(max(1, part.num_windows) for part in batch) >= CLIPS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _embedded(parts: Sequence[_Part], encoder: Encoder) -> list[Rows]:
    clips = [part.stretch.clips for part in parts if part.stretch]
    together = np.concatenate(clips) if clips else np.zeros(0)
    vectors: Vectors = np.zeros((0, encoder.config.model.embedding_size), np.float32)
    if len(together):
        vectors = encoder.embed_clips(torch.from_numpy(together)).numpy()
    ends = np.cumsum([part.num_windows for part in parts])
    return [
        Rows(part.media, part.stretch.windows if part.stretch else (), own, part.complete, part.problem)
        for part, own in zip(parts, np.split(vectors, ends[:-1]), strict=True)
    ]
