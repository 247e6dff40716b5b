"""Batches as a function of the step: any rank can have the batch of any step at once.

b samples of the global batch on this rank, F frames, S pixels, L tokens.

What is drawn for a sample (frames, crop, caption) comes from (seed, stage, epoch, sample), and which samples
make a step from `order`. So neither resuming nor the number of workers changes what is seen.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mac_ray.config import Config, Data
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DecodeError
from mac_ray.data.manifest import Sample
from mac_ray.data.order import share_of, stage_order
from mac_ray.data.patience import patiently
from mac_ray.data.pool import midpoints, random_in_intervals
from mac_ray.data.sizes import Pixels, centre_crop, training_crop
from mac_ray.data.text import CaptionTokenizer, Texts, each_caption, paragraph
from mac_ray.errors import StorageError, TooManyFailuresError

ItemT = TypeVar("ItemT")
SUBSTITUTES = 20  # samples tried in place of an undecodable one before giving up


# by data.captions, the texts of a sample of which training draws one
TRAINING_TEXTS: dict[str, Texts] = {"one": each_caption, "paragraph": paragraph}


@dataclass(frozen=True)
class Batch:
    clips: Tensor  # (b, F, 3, S, S) uint8
    tokens: Tensor  # (b, L) int64
    words: Tensor  # (b, L) int64, -1 on special tokens and padding
    attended: Tensor  # (b, L) bool
    samples: Tensor  # (b,) int64: a number per sample, unique over the sets of a stage
    failures: tuple[str, ...]  # what could not be decoded and was replaced, with its path
    shortened: tuple[str, ...]  # what was decoded, but has less than it promises

    def pin_memory(self) -> "Batch":
        tensors = (self.clips, self.tokens, self.words, self.attended, self.samples)
        clips, tokens, words, attended, samples = (tensor.pin_memory() for tensor in tensors)
        return Batch(clips, tokens, words, attended, samples, self.failures, self.shortened)


class TrainingBatches(Dataset[Batch]):
    """`batches[step]` is this rank's part of that step of the stage."""

    def __init__(
        self,
        readers: Sequence[ClipReader],
        tokenizer: CaptionTokenizer,
        config: Config,
        stage: int,
        num_steps: int,
        rank: int,
        num_ranks: int,
    ) -> None:
        self.readers = readers
        self.tokenizer = tokenizer
        self.section = config.data
        self.seed, self.stage = config.seed, stage
        section = config.stages[stage]
        self.frames = section.frames
        self.batch_size = section.batch_size
        self.num_steps = num_steps
        own = share_of(self.batch_size, rank, num_ranks)
        self.rows = slice(own.start, own.stop)  # of the global batch
        sizes = [len(reader.manifest) for reader in readers]
        self.ends = np.cumsum(sizes)  # of each set in the joint numbering
        weights = None if section.mix is None else [section.mix[name] for name in section.data]
        self.order = stage_order(sizes, weights, self.seed, stage)

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Batch:
        captions: list[str] = []
        numbers: list[int] = []
        failures: list[str] = []
        shortened: list[str] = []
        start = step * self.batch_size
        positions = range(start + self.rows.start, start + self.rows.stop)
        clips = _no_clips(len(positions), self.frames, self.section.image_size)
        for clip, (epoch, drawn) in zip(clips, self.order.at(positions), strict=True):
            pixels, caption, number = self._example(epoch, drawn, failures, shortened)
            _fill(clip, pixels)
            captions.append(caption)
            numbers.append(number)
        tokens = self.tokenizer(captions)
        return Batch(
            clips=torch.from_numpy(clips),
            tokens=torch.from_numpy(tokens.ids),
            words=torch.from_numpy(tokens.words),
            attended=torch.from_numpy(tokens.attended),
            samples=torch.tensor(numbers),
            failures=tuple(failures),
            shortened=tuple(shortened),
        )

    def _example(
        self, epoch: int, number: int, failures: list[str], shortened: list[str]
    ) -> tuple[Pixels, str, int]:
        """The clip and text of a sample; if it cannot be decoded, of the substitute that its number draws."""
        generator = np.random.default_rng([self.seed, self.stage, epoch, number])
        for _ in range(SUBSTITUTES):
            reader, sample = self._find(number)
            texts = TRAINING_TEXTS[self.section.captions](sample.captions)
            caption = texts[int(generator.integers(len(texts)))]
            choose = partial(random_in_intervals, draws=generator.random(self.frames))
            try:
                pixels = patiently(partial(reader.read, sample, choose, shortened.append))
            except DecodeError as error:
                failures.append(str(error))
                alternatives = self.order.alternatives(number)
                number = alternatives[int(generator.integers(len(alternatives)))]
                reason = error.reason
                continue
            return training_crop(pixels, self.section, generator), caption, number
        raise TooManyFailuresError(
            f"{SUBSTITUTES} samples drawn one for another cannot be decoded, the last is {sample.source} ({reason}); "
            "`python -m mac_ray.prepare check` names all that cannot"
        )

    def _find(self, number: int) -> tuple[ClipReader, Sample]:
        which = int(np.searchsorted(self.ends, number, side="right"))
        reader = self.readers[which]
        return reader, reader.manifest[number - (int(self.ends[which - 1]) if which else 0)]


class Chunk(NamedTuple):
    """Some consecutive samples of a split, without those that cannot be decoded."""

    clips: Tensor  # (b, F, 3, S, S) uint8
    positions: list[int]  # b, in the split
    failures: Sequence[str]  # what could not be decoded, with its path
    shortened: Sequence[str]  # what was decoded, but has less than it promises


class EvaluationClips(Dataset[Chunk]):
    """Chunks of a split in order: middle frames, centre crop."""

    def __init__(self, reader: ClipReader, section: Data, frames: int, positions: range, chunk: int) -> None:
        self.reader = reader
        self.section = section
        self.frames = frames
        self.chunks = [positions[first : first + chunk] for first in range(0, len(positions), chunk)]

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> Chunk:
        clips = _no_clips(len(self.chunks[number]), self.frames, self.section.image_size)
        decoded: list[int] = []
        failures: list[str] = []
        shortened: list[str] = []
        for position in self.chunks[number]:
            try:
                pixels = patiently(
                    partial(
                        self.reader.read,
                        self.reader.manifest[position],
                        lambda size: midpoints(size, self.frames),
                        shortened.append,
                    )
                )
            except DecodeError as error:
                failures.append(str(error))
                continue
            _fill(clips[len(decoded)], centre_crop(pixels, self.section.image_size))
            decoded.append(position)
        return Chunk(torch.from_numpy(clips[: len(decoded)]), decoded, failures, shortened)


def in_steps(dataset: Dataset[ItemT], first: int, last: int, workers: int, pinned: bool) -> Iterator[ItemT]:
    """Items first … last - 1 of a dataset, in order, made ahead by `workers` processes, or by a thread (0).

    A forkserver starts the processes, because decoders and Ray's threads do not survive a plain fork. It has
    imported what they need, so that starting them takes a tenth of a second, not seconds, at every stage and
    evaluation; nothing is opened in it, readers open their files in the process that asks for frames. Raises
    RuntimeError when one of them dies.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    items = iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            multiprocessing_context=context if workers else None,
            worker_init_fn=_on_one_core,
            pin_memory=pinned,
        )
    )
    return _or_who_died(items, first) if workers else _one_ahead(items)


def _on_one_core(_: int) -> None:
    """There are as many loader processes as cores are to be used; torch sees to its own threads."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _one_ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """The same items, the next one made while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _or_who_died(items: Iterator[ItemT], first: int) -> Iterator[ItemT]:
    """The same items; where a loader process dies, what to do about it. Raises RuntimeError."""
    number = first
    try:
        for item in items:
            yield item
            number += 1
    except (TooManyFailuresError, StorageError) as error:
        # torch has put the traceback of the loader process before the sentence
        _, _, sentence = str(error).rpartition(f"{type(error).__name__}: ")
        raise type(error)(sentence.strip()) from error
    except (RuntimeError, ConnectionError) as error:
        if str(error).startswith("Caught "):  # raised by the dataset, as torch marks it
            raise
        raise RuntimeError(
            f"a loader process died while it made batch {number} or one soon after ({error}). What decodes videos dies "
            "without it, so memory has run out, most likely: set cluster.loader_workers lower. With "
            "cluster.decode_timeout_s=null it may be a video that crashed the decoder: give a time, and it is named. A "
            "signal to stop that went to every process does it too: send it to the first alone, which saves and stops"
        ) from error


def _no_clips(count: int, frames: int, size: int) -> Pixels:
    """(b, F, 3, S, S), to be filled one after the other: each clip goes where it belongs as soon as it is there."""
    return np.empty((count, frames, 3, size, size), np.uint8)


def _fill(clip: Pixels, pixels: Pixels) -> None:
    """(F, S, S, 3) into (F, 3, S, S)."""
    np.copyto(clip, pixels.transpose(0, 3, 1, 2))
