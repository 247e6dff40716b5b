"""Retrieval scores of a split: every sample embedded once, in the full view, by one rank or another.

V samples of the split, C captions, E embedding size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mac_ray.config import Config
from mac_ray.data.clips import ClipReader
from mac_ray.data.loader import EvaluationClips, in_steps
from mac_ray.data.order import share_of
from mac_ray.data.text import CaptionTokenizer
from mac_ray.errors import UndecodableSamplesError
from mac_ray.model.dual import DualEncoder
from mac_ray.objectives.gather import gather
from mac_ray.retrieval.protocols import PROTOCOLS, Protocol, Scores, score
from mac_ray.training.distributed import Worker, autocast_dtype


@dataclass(frozen=True)
class Embeddings:
    """A split in the joint space, on the CPU; equal on all ranks."""

    video: Tensor  # (V, E), undecodable samples left out
    video_ids: list[str]  # V
    text: Tensor  # (C, E)
    text_ids: list[str]  # C: the id of the caption's sample
    captions: list[str]  # C
    expected: int  # samples of the split


def embed_split(
    model: DualEncoder, reader: ClipReader, tokenizer: CaptionTokenizer, config: Config, worker: Worker
) -> Embeddings:
    """Raises UndecodableSamplesError naming the first samples, unless evaluation.allow_missing."""
    section = config.evaluation
    ids = reader.manifest.ids().to_pylist()
    captions, owners = captions_of(reader, PROTOCOLS[section.protocol])
    dtype = autocast_dtype(config, worker.device)
    training = model.training
    model.eval()
    with (
        torch.inference_mode(),
        torch.autocast(worker.device.type, dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        video, decoded = _videos(model, reader, config, worker)
        text = _texts(model, captions, tokenizer, section.batch_size, worker)
    model.train(training)
    missing = (~decoded).nonzero()[:, 0].tolist()
    if missing and not section.allow_missing:
        named = ", ".join(str(reader.manifest[position].path) for position in missing[:5])
        raise UndecodableSamplesError(
            f"{len(missing)} of {len(ids)} samples to be scored cannot be decoded, among them {named}; "
            "mend them, leave them out with `python -m mac_ray.prepare`, or set evaluation.allow_missing=true"
        )
    kept = [id for id, there in zip(ids, decoded.tolist(), strict=True) if there]
    return Embeddings(video[decoded], kept, text, [ids[owner] for owner in owners], captions, len(ids))


def captions_of(reader: ClipReader, protocol: Protocol) -> tuple[list[str], list[int]]:
    """The captions that a protocol scores, and the position of each one's sample."""
    captions: list[str] = []
    owners: list[int] = []
    for sample in reader.manifest:
        chosen = sample.captions[:1] if protocol.captions == "first" else sample.captions
        captions += chosen
        owners += [sample.index] * len(chosen)
    return captions, owners


def score_embeddings(embeddings: Embeddings, config: Config) -> Scores:
    return score(
        embeddings.video,
        embeddings.video_ids,
        embeddings.text,
        embeddings.text_ids,
        PROTOCOLS[config.evaluation.protocol],
        embeddings.expected,
        resamples=config.evaluation.bootstrap,
        generator=np.random.default_rng(config.seed),
        allow_missing=config.evaluation.allow_missing,
    )


def _videos(model: DualEncoder, reader: ClipReader, config: Config, worker: Worker) -> tuple[Tensor, Tensor]:
    """(V, E) with zeros for what cannot be decoded, and which rows were decoded (V,)."""
    section = config.evaluation
    total = len(reader.manifest)
    rows = share_of(total, worker.rank, worker.num_ranks)
    embedded = torch.zeros(len(rows), config.model.embedding_size, device=worker.device)
    decoded = torch.zeros(len(rows), dtype=torch.long, device=worker.device)
    chunks = EvaluationClips(reader, config.data, section.frames, rows, section.batch_size)
    for clips, positions, _ in in_steps(
        chunks, 0, len(chunks), config.cluster.loader_workers, pinned=worker.device.type == "cuda"
    ):
        if positions:
            own = torch.tensor(positions, device=worker.device) - rows.start
            embedded[own] = model.encode_video(clips.to(worker.device, non_blocking=True))
            decoded[own] = 1
    return gather(embedded, total).cpu(), gather(decoded, total).cpu().bool()


def _texts(
    model: DualEncoder, captions: list[str], tokenizer: CaptionTokenizer, chunk: int, worker: Worker
) -> Tensor:
    """(C, E)."""
    rows = share_of(len(captions), worker.rank, worker.num_ranks)
    parts = [torch.zeros(0, model.vid_proj.out_features, device=worker.device)]
    for first in range(rows.start, rows.stop, chunk):
        tokens = tokenizer(captions[first : min(first + chunk, rows.stop)])
        parts.append(
            model.encode_text(
                torch.from_numpy(tokens.ids).to(worker.device),
                torch.from_numpy(tokens.attended).to(worker.device),
            )
        )
    return gather(torch.cat(parts), len(captions)).cpu()
