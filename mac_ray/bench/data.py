"""Clips per second that one core makes of a set, against the bare decoder's rate, and where the rest of it goes.

Some samples of a stage's training sets are read as they lie and, so that it is seen what preparing them would bring,
from what is made of them for the time of the measurement: JPEG frames in a tar, and the frame cache. The bare rate
is that of opening a sample, decoding the frames that are drawn, and bringing them to the tower's size. It is measured
in turns with the loader, batch by batch, because a machine's clock drifts by more than they differ.

Seconds are those of a processor, of the process that decodes too, so that what else runs on the machine does not
count. Neither do waits for a disk: files are read once before it counts, and then lie in the system's memory.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.compute as pc
import torch
from PIL import Image
from torch.utils.data import Dataset

from mac_ray.config import Config, ConfigError, Data, Stage
from mac_ray.data import manifest_writer
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DECODERS, DecodeError, unusable
from mac_ray.data.decode.apart import seconds_apart
from mac_ray.data.frame_cache import ensure_cache
from mac_ray.data.loader import TRAINING_TEXTS, Batch, TrainingBatches, in_steps
from mac_ray.data.manifest import Manifest, Row, Sample
from mac_ray.data.pool import midpoints, random_in_intervals, read_pool
from mac_ray.data.sets import open_set
from mac_ray.data.sizes import training_crop, with_short_side
from mac_ray.data.source import Source
from mac_ray.data.tar import append
from mac_ray.data.text import CAPTIONS_KEPT, CaptionTokenizer, save_tokenizer
from mac_ray.training.inputs import require_decoder

KEPT_FRAMES = 16  # of a sample, in what is made of it, where data.pool_frames says nothing
JPEG_QUALITY = 90
WARM_UP_STEPS = 3  # of a loader process, which starts meanwhile
DECODING, RESIZING, TEXT, REST, TRANSPORT = "decode", "resize", "text", "collate", "send"


@dataclass(frozen=True)
class DataRow:
    """Rates in clips per second of one core."""

    storage: str
    decoder: str | None  # None: there is no video to decode
    bare: float | None  # open, decode, resize and crop; None where frames lie decoded
    loader: float  # batches, made in the process that asks for them
    share: float | None  # of the last two
    received: float  # batches, made by a loader process and received from it, in seconds of both
    parts: dict[str, float]  # seconds that a clip received takes, by what they are spent on
    limit: str  # the largest of them


@dataclass(frozen=True)
class DataReport:
    stage: str
    samples: int
    frames: int
    image_size: int
    batch: int
    rows: list[DataRow]


def measure(config: Config, stage: Stage, samples: int, rounds: int) -> DataReport:
    """Each storage and decoder over about so many samples, `rounds` times.

    Raises ConfigError or ManifestError when the sets cannot be opened, or nothing of them decodes.
    """
    require_decoder(config)
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a core is a core
    decoder, timeout_s = config.cluster.decoder, config.cluster.decode_timeout_s
    kept = config.data.model_copy(update={"pool_frames": config.data.pool_frames or KEPT_FRAMES})
    with TemporaryDirectory() as made:
        folder = Path(made)
        found = list(_samples_of(config, stage, samples))
        files = _manifest_of(found, folder / "files.parquet")
        batch = min(stage.batch_size, len(found))
        alone = stage.model_copy(update={"batch_size": batch, "mix": None, "data": stage.data[:1]})
        row = partial(
            _row, config.model_copy(update={"stages": (alone,)}), _tokenizer(config, found, folder), rounds
        )
        videos = any(sample.kind == "video" for sample in found)
        rows = []
        for each in (name for name in DECODERS if not unusable(name)) if videos else [decoder]:
            if own := [sample for sample in found if _decodes(sample, config, stage, each)]:
                reader = ClipReader(
                    _manifest_of(own, folder / f"{each}.parquet"), config.data, each, None, timeout_s
                )
                rows.append(row(_storage(found), each if videos else None, reader))
        if not any(sample.kind == "frames" for sample in found):
            pictures = _manifest_of(
                _in_tar(found, kept, decoder, timeout_s, folder / "frames.tar"), folder / "frames.parquet"
            )
            rows.append(row("tar of frames", None, ClipReader(pictures, config.data, decoder, None)))
        cache = ensure_cache(
            files, "train", kept, decoder, folder, float("inf"), lambda *_: None, timeout_s=timeout_s
        )
        rows.append(row("frame cache", None, ClipReader(files, config.data, decoder, cache), decoded=True))
    return DataReport(stage.name, len(found), stage.frames, config.data.image_size, batch, rows)


# ---------------------------------------------------------------- what is read


def _samples_of(config: Config, stage: Stage, count: int) -> Iterator[Sample]:
    """As many of each of the stage's sets, evenly spaced over it, without what does not decode."""
    for name in stage.data:
        whole = open_set(
            name, config.data.sets[name], Path(config.storage.cache).expanduser(), lambda *_: None
        )
        train = whole.split("train")
        numbers = midpoints(len(train), min(-(-count // len(stage.data)), len(train)))
        tried = (train[int(number)] for number in numbers)
        usable = [sample for sample in tried if _decodes(sample, config, stage, config.cluster.decoder)]
        if not usable:
            raise ConfigError(
                f"{train.path}: none of the {len(numbers)} train samples tried can be decoded; "
                "if the media moved, set the root of this set in data.sets"
            )
        yield from (replace(sample, id=f"{name}/{sample.id}") for sample in usable)


def _decodes(sample: Sample, config: Config, stage: Stage, decoder: str) -> bool:
    timeout_s = config.cluster.decode_timeout_s
    try:
        read_pool(sample, config.data, decoder, lambda size: midpoints(size, stage.frames), timeout_s)
    except DecodeError:
        return False
    return True


def _storage(samples: Sequence[Sample]) -> str:
    if any(sample.kind == "frames" for sample in samples):
        return "tars of frames"
    return "files" if all(sample.source.file for sample in samples) else "parts of files"


def _manifest_of(samples: Sequence[Sample], path: Path) -> Manifest:
    """These samples alone."""
    rows = (
        Row(
            id=sample.id,
            path=sample.source.place,
            kind=sample.kind,
            split="train",
            captions=sample.captions,
            start=sample.start,
            end=sample.end,
            offset=sample.source.offset,
            length=sample.source.length,
        )
        for sample in samples
    )
    manifest_writer.write(path, rows, path.stem, path.parent)
    return Manifest.open(path, cache=path.parent).split("train")


def _in_tar(
    samples: Sequence[Sample], section: Data, decoder: str, timeout_s: float | None, path: Path
) -> list[Sample]:
    """The same samples with their pools as JPEG frames in one tar."""
    found = []
    with path.open("wb") as file:
        for sample in samples:
            start = file.tell()
            for number, pixels in enumerate(read_pool(sample, section, decoder, range, timeout_s)):
                encoded = BytesIO()
                Image.fromarray(pixels).save(encoded, "jpeg", quality=JPEG_QUALITY)
                append(file, f"{number:04d}.jpg", encoded.getvalue())
            source = Source(str(path), start, file.tell() - start)
            found.append(replace(sample, source=source, kind="frames", start=None, end=None))
    return found


def _tokenizer(config: Config, samples: Sequence[Sample], folder: Path) -> CaptionTokenizer:
    """Trained here, so that no hub is asked for one; others of its kind take the same time."""
    section = config.model.text.model_copy(update={"pretrained": None, "tokenizer": None})
    captions = (caption for sample in samples for caption in sample.captions)
    save_tokenizer(section, captions, folder / "tokenizer.json")
    return CaptionTokenizer(folder / "tokenizer.json", config.data.max_caption_tokens)


# ---------------------------------------------------------------- how long it takes


def _row(
    config: Config,
    tokenizer: CaptionTokenizer,
    rounds: int,
    storage: str,
    decoder: str | None,
    reader: ClipReader,
    decoded: bool = False,
) -> DataRow:
    size = config.stages[0].batch_size
    num_steps = rounds * max(1, len(reader.manifest) // size)
    batches = TrainingBatches([reader], tokenizer, config, 0, num_steps + WARM_UP_STEPS, 0, 1)
    alone: dict[str, list[float]] = {DECODING: [], RESIZING: [], TEXT: []}
    whole = []
    for step in range(num_steps):
        drawn = list(batches.order.at(range(step * size, (step + 1) * size)))
        batches[step]  # the files are in the system's memory now
        own = _as_in_training(tokenizer, reader.manifest)
        for name, seconds in _parts(reader, drawn, config, own).items():
            alone[name].append(seconds)
        batches.tokenizer = _as_in_training(tokenizer, reader.manifest)
        whole.append(_seconds(partial(batches.__getitem__, step)))
    loader = statistics.median(whole) / size
    parts = {name: statistics.median(seconds) / size for name, seconds in alone.items()}
    received = _seconds_received(batches) / size
    bare = parts[DECODING] + parts[RESIZING]
    parts[REST] = max(0.0, loader - sum(parts.values()))
    parts[TRANSPORT] = max(0.0, received - loader)
    return DataRow(
        storage=storage,
        decoder=decoder,
        bare=None if decoded else 1 / bare,
        loader=1 / loader,
        share=None if decoded else bare / loader,
        received=1 / received,
        parts=parts,
        limit=max(parts, key=lambda name: parts[name]),
    )


def _parts(
    reader: ClipReader, drawn: Sequence[tuple[int, int]], config: Config, tokenizer: CaptionTokenizer
) -> dict[str, float]:
    """Seconds that each part of one batch takes. `drawn`: epochs and sample numbers; what is drawn for a sample is
    what the loader draws.
    """
    section = config.data.model_copy(update={"short_side": None})
    bare = ClipReader(reader.manifest, section, reader.decoder, reader.cache, config.cluster.decode_timeout_s)
    spent = dict.fromkeys((DECODING, RESIZING, TEXT), 0.0)
    captions = []
    for epoch, number in drawn:
        sample = reader.manifest[number]
        generator = np.random.default_rng([config.seed, 0, epoch, number])
        texts = TRAINING_TEXTS[config.data.captions](sample.captions)
        captions.append(texts[int(generator.integers(len(texts)))])
        choose = partial(random_in_intervals, draws=generator.random(config.stages[0].frames))
        begun = _worked()
        try:
            pixels = bare.read(sample, choose)
        except DecodeError:  # other frames of it do decode; the loader takes another sample instead
            continue
        read = _worked()
        if config.data.short_side and reader.cache is None:
            pixels = with_short_side(pixels, config.data.short_side)
        training_crop(pixels, config.data, generator)
        spent[DECODING] += read - begun
        spent[RESIZING] += _worked() - read
    spent[TEXT] = _seconds(partial(tokenizer, captions))
    return spent


def _as_in_training(tokenizer: CaptionTokenizer, manifest: Manifest) -> CaptionTokenizer:
    """Of more captions than it remembers, it has hardly ever seen one before: a copy remembers nothing."""
    num_captions = pc.sum(pc.list_value_length(manifest.table["captions"])).as_py()
    return tokenizer if num_captions <= CAPTIONS_KEPT else copy(tokenizer)


class _Timed(Dataset[tuple[Batch, float]]):
    """Each batch with the seconds that its process has worked when it is made."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> tuple[Batch, float]:
        return self.batches[step], _worked()


def _seconds_received(batches: TrainingBatches) -> float:
    """Of a loader process and of this one, for each batch that goes from the one to the other."""
    received = in_steps(_Timed(batches), 0, len(batches), workers=1, pinned=False)
    for _ in range(WARM_UP_STEPS - 1):
        next(received)
    _, first = next(received)
    begun = time.process_time()
    *_, (_, last) = received
    return (time.process_time() - begun + last - first) / (len(batches) - WARM_UP_STEPS)


def _seconds(work: Callable[[], object]) -> float:
    begun = _worked()
    work()
    return _worked() - begun


def _worked() -> float:
    """Seconds of this process, and of the one that decodes for it."""
    return time.process_time() + seconds_apart()
