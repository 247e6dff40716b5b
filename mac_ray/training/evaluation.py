"""Retrieval scores of a split: every sample embedded once, in the full view, by one rank or another.

V samples of the split, C captions, F frames, E embedding size.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mac_ray.config import ClipSampling, Config
from mac_ray.data.clips import ClipReader
from mac_ray.data.loader import EvaluationClips, in_steps
from mac_ray.data.manifest import Manifest
from mac_ray.data.order import share_of
from mac_ray.data.text import CaptionTokenizer, Texts, each_caption, paragraph
from mac_ray.errors import NonFiniteLossError, UndecodableSamplesError
from mac_ray.model.dual import DualEncoder
from mac_ray.objectives.gather import gather
from mac_ray.retrieval.protocols import PROTOCOLS, Protocol, Scores, score
from mac_ray.training.distributed import Worker, autocast_dtype, meet, summed

FEWEST_SAMPLES = 2  # of a gallery
NAMED = 5  # of what cannot be decoded, in a sentence


@dataclass(frozen=True)
class Faults:
    """Sentences of what could not be decoded, and of what has less than it promises, each with its path."""

    failures: list[str] = field(default_factory=list)
    shortened: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Embeddings:
    """A split in the joint space, on the CPU; equal on all ranks but for the faults."""

    video: Tensor  # (V, E), undecodable samples left out
    video_ids: list[str]  # V
    text: Tensor  # (C, E)
    text_ids: list[str]  # C: the id of the caption's sample
    captions: list[str]  # C
    expected: int  # samples of the split
    truncated: float  # share of the captions that the text tower did not get whole
    faults: Faults  # those that this rank met


def embed_split(
    model: DualEncoder, reader: ClipReader, tokenizer: CaptionTokenizer, config: Config, worker: Worker
) -> Embeddings:
    """Raises UndecodableSamplesError naming the first samples, unless evaluation.allow_missing."""
    section = config.evaluation
    captions, owners = captions_of(reader.manifest, PROTOCOLS[section.protocol])
    with evaluating(model, config, worker):
        video, decoded, faults = _videos(model, reader, section.sampling, config, worker)
        text, truncated = _texts(model, captions, tokenizer, section.batch_size, worker)
    ids = reader.manifest.ids().to_pylist()
    return Embeddings(
        video[decoded],
        _decoded_ids(reader, decoded, section.allow_missing, faults),
        text,
        [ids[owner] for owner in owners],
        captions,
        len(ids),
        truncated,
        faults,
    )


def sampled_anew(
    embeddings: Embeddings,
    sampling: ClipSampling,
    model: DualEncoder,
    reader: ClipReader,
    config: Config,
    worker: Worker,
) -> Embeddings:
    """The same split with other frames of its videos, and the faults that only these have. Raises as `embed_split`
    does."""
    with evaluating(model, config, worker):
        video, decoded, faults = _videos(model, reader, sampling, config, worker)
    ids = _decoded_ids(reader, decoded, config.evaluation.allow_missing, faults)
    own = Faults(
        [said for said in faults.failures if said not in embeddings.faults.failures],
        [said for said in faults.shortened if said not in embeddings.faults.shortened],
    )
    return replace(embeddings, video=video[decoded], video_ids=ids, faults=own)


# by Protocol.captions
SCORED_TEXTS: dict[str, Texts] = {"every": each_caption, "joined": paragraph}


def scored_texts(protocol: Protocol) -> Texts:
    """What becomes of the captions of a sample that is scored."""
    texts = SCORED_TEXTS[protocol.captions]
    return lambda captions: texts(captions[: protocol.at_most])


def captions_of(manifest: Manifest, protocol: Protocol) -> tuple[list[str], list[int]]:
    """The texts that a protocol scores, and the position of each one's sample."""
    captions: list[str] = []
    owners: list[int] = []
    texts = scored_texts(protocol)
    for sample in manifest:
        chosen = texts(sample.captions)
        captions += chosen
        owners += [sample.index] * len(chosen)
    return captions, owners


def require_finite(embeddings: Embeddings, step: int) -> None:
    """Raises NonFiniteLossError, on all ranks or none, where the weights after `step` steps have overflowed."""
    if not (embeddings.video.isfinite().all() and embeddings.text.isfinite().all()):
        remedy = "lower optimizer.learning_rate, or set" if step else "set"
        raise NonFiniteLossError(
            f"after step {step} the model's embeddings are not finite; {remedy} precision=fp32 to see whether bf16 is "
            "the cause"
        )


def score_val(embeddings: Embeddings, config: Config) -> Scores:
    """By the convention of the protocol; no benchmark says how large a val split is."""
    return _scores(embeddings, PROTOCOLS[config.evaluation.protocol].of_any_split, config)


def score_test(embeddings: Embeddings, config: Config) -> Scores:
    return _scores(embeddings, PROTOCOLS[config.evaluation.protocol], config)


def _scores(embeddings: Embeddings, protocol: Protocol, config: Config) -> Scores:
    return score(
        embeddings.video,
        embeddings.video_ids,
        embeddings.text,
        embeddings.text_ids,
        protocol,
        embeddings.expected,
        resamples=config.evaluation.bootstrap,
        generator=np.random.default_rng(config.seed),
        allow_missing=config.evaluation.allow_missing,
    )


@contextlib.contextmanager
def evaluating(model: DualEncoder, config: Config, worker: Worker) -> Iterator[None]:
    """Without dropout and gradients, in the precision of training."""
    dtype = autocast_dtype(config, worker.device)
    training = model.training
    model.eval()
    with (
        torch.inference_mode(),
        torch.autocast(worker.device.type, dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        yield
    model.train(training)


def _decoded_ids(reader: ClipReader, decoded: Tensor, allow_missing: bool, faults: Faults) -> list[str]:
    """The ids of what was decoded (V,). Raises UndecodableSamplesError."""
    require_decoded(reader, decoded, allow_missing, faults.failures)
    ids = reader.manifest.ids().to_pylist()
    return [id for id, there in zip(ids, decoded.tolist(), strict=True) if there]


def require_decoded(
    reader: ClipReader, decoded: Tensor, allow_missing: bool, failures: Sequence[str]
) -> None:
    """`decoded` (n,): booleans of the first n samples; `failures`: the sentences of those that this rank tried.

    Raises UndecodableSamplesError.
    """
    missing = (~decoded).nonzero()[:, 0].tolist()
    if missing and not allow_missing:
        named = failures or [f"cannot decode {reader.manifest[position].source}" for position in missing]
        raise UndecodableSamplesError(
            f"{len(missing)} of {len(decoded)} samples to be scored cannot be decoded ({'; '.join(named[:NAMED])}"
            f"{'; all of them are in undecodable_rank*.txt of the run' if len(missing) > NAMED else ''}); "
            "mend them, and the same command goes on; or leave them out, by `python -m mac_ray.prepare convert` or by "
            "deleting the files and writing the manifest again with --drop-missing, or set evaluation.allow_missing="
            "true, each of which is another run",
            failures,
        )
    if len(decoded) - len(missing) < FEWEST_SAMPLES:
        remedy = (
            "mend the others, and train another run"
            if len(decoded) >= FEWEST_SAMPLES
            else "give the split another"
        )
        raise UndecodableSamplesError(
            f"{len(decoded) - len(missing)} of {len(decoded)} samples to be scored can be decoded, and one alone is "
            f"found by any model; {remedy}",
            failures,
        )


def _videos(
    model: DualEncoder, reader: ClipReader, sampling: ClipSampling, config: Config, worker: Worker
) -> tuple[Tensor, Tensor, Faults]:
    """(V, E) with zeros for what cannot be decoded, which rows were decoded (V,), and what this rank met."""
    total = len(reader.manifest)
    rows = share_of(total, worker.rank, worker.num_ranks)
    embedded = torch.zeros(len(rows), config.model.embedding_size, device=worker.device)
    decoded = torch.zeros(len(rows), dtype=torch.long, device=worker.device)
    # the middles of so many intervals, dealt out to the windows in turn: each has one frame of every F-th of the clip
    frames = sampling.frames * sampling.windows
    chunks = EvaluationClips(reader, config.data, frames, rows, config.evaluation.batch_size)
    faults = Faults()
    for clips, positions, failures, shortened in in_steps(
        chunks, 0, len(chunks), config.cluster.loader_workers, pinned=worker.device.type == "cuda"
    ):
        faults.failures.extend(failures)
        faults.shortened.extend(shortened)
        if positions:
            own = torch.tensor(positions, device=worker.device) - rows.start
            windows = [
                model.encode_video(clips[:, first :: sampling.windows].to(worker.device, non_blocking=True))
                for first in range(sampling.windows)
            ]
            embedded[own] = (
                windows[0] if len(windows) == 1 else F.normalize(torch.stack(windows).sum(dim=0), dim=-1)
            )
            decoded[own] = 1
    meet(worker)
    return gather(embedded, total).cpu(), gather(decoded, total).cpu().bool(), faults


def _texts(
    model: DualEncoder, captions: list[str], tokenizer: CaptionTokenizer, chunk: int, worker: Worker
) -> tuple[Tensor, float]:
    """(C, E), and the share of the captions that were truncated."""
    rows = share_of(len(captions), worker.rank, worker.num_ranks)
    parts = [torch.zeros(0, model.vid_proj.out_features, device=worker.device)]
    truncated = torch.zeros(1)
    for first in range(rows.start, rows.stop, chunk):
        tokens = tokenizer(captions[first : min(first + chunk, rows.stop)])
        truncated += int(tokens.truncated.sum())
        parts.append(
            model.encode_text(
                torch.from_numpy(tokens.ids).to(worker.device),
                torch.from_numpy(tokens.attended).to(worker.device),
            )
        )
    share = float(summed(truncated, worker)) / len(captions)
    return gather(torch.cat(parts), len(captions)).cpu(), share
