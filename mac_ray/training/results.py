"""What a finished run leaves beside its metrics: scores with intervals, ranks of every query, pictures."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from einops import rearrange
from PIL import Image, ImageDraw

from mac_ray.config import ClipSampling, Config, TextMasking, VideoMasking, value_at
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DecodeError
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.pool import midpoints
from mac_ray.data.sizes import Pixels, centre_crop
from mac_ray.data.text import CaptionTokenizer
from mac_ray.files import replaced
from mac_ray.model.dual import DualEncoder
from mac_ray.model.masking import ClipView, view_of_clips
from mac_ray.retrieval.protocols import PROTOCOLS, Scores
from mac_ray.tracking.journal import Journal, points
from mac_ray.training.evaluation import Embeddings, score_test
from mac_ray.training.folder import RunFolder
from mac_ray.training.hiding import read_words
from mac_ray.training.masked_views import PREFIX
from mac_ray.training.plan import Leg

PICTURED_CLIPS = 6
TRIED_CLIPS = 64  # for these
PICTURED_QUERIES = 8
RETRIEVED = 5
TILE = 112  # pixels
TEXT_HEIGHT, GAP = 14, 4
GREY = 110  # of hidden patches


def scored_set(config: Config, sampling: ClipSampling) -> str:
    """What stands in front of test metrics: the set, how it is scored and, but for the main scores, which frames.

    The name of a benchmark says the set too. 3 windows of 8 frames are `-8x3`.
    """
    protocol = PROTOCOLS[config.evaluation.protocol]
    main = protocol.name if protocol.benchmark else f"{config.evaluation.data}_{protocol.name}"
    if sampling == config.evaluation.sampling:
        return main
    return f"{main}-{sampling.frames}x{sampling.windows}"


def named(scored: str, scores: Scores, truncated: float) -> dict[str, float]:
    """Metrics by the name they are tracked under, such as `val/t2v/R1`; shares of samples and texts beside them."""
    values = _prefixed(scored, scores.metrics) | _prefixed(scored, scores.collapse.numbers)
    return values | _prefixed(scored, {"coverage": scores.coverage, "truncated": truncated})


def _prefixed(scored: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{scored}/{name}": value for name, value in values.items()}


def write(
    folder: RunFolder,
    journal: Journal,
    step: int,
    config: Config,
    embeddings: Embeddings,
    also: Sequence[Embeddings],
    test: ClipReader,
) -> None:
    """Scores, ranks and a picture of some answers into the run's folder, and all of it into the journal.

    `also` are the test split's embeddings for each of evaluation.also.
    """
    section = config.evaluation
    scores = score_test(embeddings, config)
    values = named(scored_set(config, section.sampling), scores, embeddings.truncated)
    summary = _summary(scores, embeddings, section.sampling, config)
    summary["also"] = []
    for sampling, other in zip(section.also, also, strict=True):
        other_scores = score_test(other, config)
        # their signs of collapse are in the file: a run has a few dozen metrics, not hundreds
        values |= _prefixed(scored_set(config, sampling), other_scores.metrics)
        summary["also"].append(_summary(other_scores, other, sampling, config))
    # on the disk, as the journal is, which says next that the run has finished
    with replaced(folder.scores, on_disk=True) as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    with replaced(folder.ranks, on_disk=True) as temporary:
        pq.write_table(scores.table(), temporary)
    journal.metrics(step, values)
    for path in (folder.scores, folder.ranks):
        journal.artifact(path)
    _keep(picture_retrieved(embeddings, test, config), folder, journal, "retrieved.png")


def write_masked_clips(
    folder: RunFolder,
    journal: Journal,
    train: ClipReader,
    model: DualEncoder,
    config: Config,
    tokenizer: CaptionTokenizer,
    lexicon: Lexicon,
) -> None:
    """A picture of what the first stage hid; `train` reads its first set, which may be away by now."""
    if picture := picture_masked_clips(train, model, config, tokenizer, lexicon):
        _keep(picture, folder, journal, "masked_clips.png")


def _keep(picture: Image.Image, folder: RunFolder, journal: Journal, name: str) -> None:
    folder.pictures.mkdir(exist_ok=True)
    picture.save(folder.pictures / name)
    journal.artifact(folder.pictures / name, "pictures")


def write_masked_views(folder: RunFolder, journal: Journal, plan: Sequence[Leg]) -> None:
    """The curves of evaluation.masked_views over the whole run, which the journal remembers."""
    from mac_ray.training.curves import masked_views_figure  # only here: matplotlib is slow to import

    folder.pictures.mkdir(exist_ok=True)
    path = folder.pictures / "masked_views.png"
    masked_views_figure(points(folder.path, PREFIX), plan).savefig(path)
    journal.artifact(path, "pictures")


def _summary(
    scores: Scores, embeddings: Embeddings, sampling: ClipSampling, config: Config
) -> dict[str, Any]:
    return {
        "scored": scored_set(config, sampling),
        "sampling": sampling.model_dump(),
        "coverage": [scores.decoded, scores.expected],
        "truncated": embeddings.truncated,
        "warning": scores.collapse.warning,
        "metrics": scores.metrics,
        "intervals": scores.intervals,
        "chance": scores.chance,
    }


# ---------------------------------------------------------------- pictures


def picture_masked_clips(
    reader: ClipReader, model: DualEncoder, config: Config, tokenizer: CaptionTokenizer, lexicon: Lexicon
) -> Image.Image | None:
    """Training clips of the first stage: whole on the left, as the tower sees them first on the right; above, their
    captions as the other tower reads them. None where the first TRIED_CLIPS cannot be decoded.

    Strategies that go by the model's attention show what it has become by now.
    """
    stage = config.stages[0]
    masking = config.stage_masking(stage)
    ratio = value_at(masking.video.ratio, 0.0)
    found = first_decoded(reader, PICTURED_CLIPS, stage.frames, config.data.image_size)
    if not found:
        return None
    clips = np.stack(list(found.values()))  # (b, F, S, S, 3)
    pixels = torch.from_numpy(rearrange(clips, "b f y x c -> b f c y x").copy()).to(
        model.video_model.cls_token.device
    )
    generator = torch.Generator().manual_seed(config.seed)
    view = view_of_clips(masking.video, ratio, pixels, model, generator)
    tiles = [
        Image.fromarray(frame).resize((TILE, TILE))
        for whole, seen in zip(clips, _greyed(view, config.model.video.patch_size), strict=True)
        for frame in (*whole, *seen)
    ]
    captions = [reader.manifest[number].captions[0] for number in found]
    if masking.text.strategy != "none":
        noise = torch.rand(len(captions), config.data.max_caption_tokens, generator=generator)
        captions = read_words(masking.text, captions, noise, tokenizer, lexicon)
    lines = [f"{_called(masking.video)} | {_called(masking.text)}: {caption}" for caption in captions]
    return _sheet(tiles, 2 * stage.frames, lines)


def _called(section: VideoMasking | TextMasking) -> str:
    if section.strategy == "none":
        return "none"
    return f"{section.strategy} {value_at(section.ratio, 0.0):g}"


def first_decoded(reader: ClipReader, count: int, frames: int, size: int) -> dict[int, Pixels]:
    """The first so many samples that can be decoded, by number, (F, S, S, 3) each: training goes without the others.
    Fewer where few of the first TRIED_CLIPS can: no picture is worth going through millions."""
    found: dict[int, Pixels] = {}
    for number in range(min(len(reader.manifest), TRIED_CLIPS)):
        with suppress(DecodeError):
            found[number] = middle_frames(reader, number, frames, size)
        if len(found) == count:
            break
    return found


def _greyed(view: ClipView, patch: int) -> Pixels:
    """(b, F, S', S', 3), grey where nothing is seen."""
    clips = rearrange(view.clips.cpu().numpy(), "b f c y x -> b f y x c")
    batch, frames, height, width, _ = clips.shape
    rows, columns = height // patch, width // patch
    kept = torch.zeros(batch, frames * rows * columns, dtype=torch.bool)
    kept.scatter_(1, view.visible.flatten(1).cpu(), True)
    mask = kept.view(batch, frames, rows, columns).numpy().repeat(patch, axis=2).repeat(patch, axis=3)
    return np.where(mask[..., None], clips, np.uint8(GREY))


def picture_retrieved(embeddings: Embeddings, reader: ClipReader, config: Config) -> Image.Image:
    """The clips found for some captions, best first; the caption's own clip has a green frame."""
    queries = midpoints(len(embeddings.captions), min(PICTURED_QUERIES, len(embeddings.captions))).tolist()
    positions = {id: position for position, id in enumerate(reader.manifest.ids().to_pylist())}
    similarity = embeddings.text[queries] @ embeddings.video.T  # (Q, V)
    best = similarity.topk(min(RETRIEVED, similarity.shape[1]), dim=1).indices.tolist()
    tiles: list[Image.Image] = []
    for query, found in zip(queries, best, strict=True):
        for video in found:
            id = embeddings.video_ids[video]
            try:
                frames = middle_frames(reader, positions[id], 2, config.data.image_size)
            except DecodeError:  # decoded a moment ago, perhaps on another machine; no picture is worth a run
                frames = np.full((2, TILE, TILE, 3), GREY, np.uint8)
            tile = Image.fromarray(np.concatenate(list(frames), axis=1)).resize((2 * TILE, TILE))
            if id == embeddings.text_ids[query]:
                ImageDraw.Draw(tile).rectangle((0, 0, 2 * TILE - 1, TILE - 1), outline="lime", width=4)
            tiles.append(tile)
    return _sheet(
        tiles, min(RETRIEVED, similarity.shape[1]), [embeddings.captions[query] for query in queries]
    )


def middle_frames(reader: ClipReader, number: int, frames: int, size: int) -> Pixels:
    """(F, S, S, 3) as evaluation sees a sample."""
    return centre_crop(reader.read(reader.manifest[number], lambda length: midpoints(length, frames)), size)


def _sheet(tiles: Sequence[Image.Image], columns: int, lines: Sequence[str]) -> Image.Image:
    """Rows of equal tiles, each under its line of text."""
    width, height = tiles[0].width + GAP, tiles[0].height + TEXT_HEIGHT + GAP
    sheet = Image.new("RGB", (columns * width, len(lines) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        draw.text((2, row * height + 1), _cut(line, columns * width - 4, draw), fill="black")
        for column, tile in enumerate(tiles[row * columns : (row + 1) * columns]):
            sheet.paste(tile, (column * width, row * height + TEXT_HEIGHT))
    return sheet


def _cut(line: str, width: int, draw: ImageDraw.ImageDraw) -> str:
    """As much of it as is no wider."""
    if draw.textlength(line) <= width:
        return line
    while line and draw.textlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip()}..."


def read_summary(path: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary
