"""How alike masked views of a sample are to its full view, and to each other across modalities (MAC, Figure 4).

The paper compares each sample with itself alone. Here the same views are compared with all other samples too:
two embeddings of an untrained tower are alike whatever they are of, and only what lies above that was learned.

B samples, M masks, F frames, L tokens, E embedding size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mac_ray.config import Config, MaskedViews, value_at
from mac_ray.data.clips import ClipReader
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.loader import EvaluationClips, in_steps
from mac_ray.data.order import share_of
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import DualEncoder
from mac_ray.model.masking import Captions, view_of_clips
from mac_ray.objectives.gather import gather
from mac_ray.retrieval.protocols import PROTOCOLS
from mac_ray.seeds import generator_at
from mac_ray.training.distributed import Worker, meet
from mac_ray.training.evaluation import evaluating, require_decoded, scored_texts
from mac_ray.training.hiding import hidden_words
from mac_ray.training.plan import Leg

PREFIX = "val/masked_views/"
# after the name of a comparison: deviation over the masks of a sample, and what other samples have
SPREAD, OTHERS = "_spread", "_others"


@dataclass(frozen=True)
class ViewEmbeddings:
    """Unit vectors, on the CPU; equal on all ranks."""

    video: Tensor  # (B, E), full views
    text: Tensor  # (B, E)
    masked_video: Tensor  # (B, M, E)
    masked_text: Tensor  # (B, M, E)


def masked_view_metrics(
    model: DualEncoder,
    val: ClipReader,
    tokenizer: CaptionTokenizer,
    lexicon: Lexicon,
    config: Config,
    leg: Leg,
    step: int,
    worker: Worker,
) -> dict[str, float]:
    """Metrics by the name they are tracked under; none where evaluation.masked_views is null.

    Every rank calls it at the same step. Raises UndecodableSamplesError as `embed_split` does.
    """
    section = config.evaluation.masked_views
    if section is None:
        return {}
    views = embed_views(model, val, tokenizer, lexicon, section, config, leg, step, worker)
    return {PREFIX + name: value for name, value in similarities(views).items()}


def embed_views(
    model: DualEncoder,
    val: ClipReader,
    tokenizer: CaptionTokenizer,
    lexicon: Lexicon,
    section: MaskedViews,
    config: Config,
    leg: Leg,
    step: int,
    worker: Worker,
) -> ViewEmbeddings:
    """The first samples of the val split, whole and as config.masked_views_masking hides them at this step."""
    masking, progress = config.masked_views_masking(leg.stage), leg.progress(step)
    if config.stage_masking(leg.stage).hides_nothing:  # another's stands in, as it was when training left it
        progress = 1.0
    video_ratio, text_ratio = (value_at(hidden.ratio, progress) for hidden in (masking.video, masking.text))
    total, size = section.videos, config.model.embedding_size
    scored = scored_texts(PROTOCOLS[config.evaluation.protocol])
    tokens = tokenizer([scored(val.manifest[position].captions)[0] for position in range(total)])
    whole = Captions(*map(torch.from_numpy, (tokens.ids, tokens.words, tokens.attended)))
    rows = share_of(total, worker.rank, worker.num_ranks)
    videos, texts = torch.zeros(2, len(rows), size, device=worker.device)
    masked_videos, masked_texts = torch.zeros(2, len(rows), section.masks, size, device=worker.device)
    decoded = torch.zeros(len(rows), dtype=torch.long, device=worker.device)
    failures: list[str] = []
    chunks = EvaluationClips(val, config.data, config.evaluation.frames, rows, config.evaluation.batch_size)
    with evaluating(model, config, worker):
        for clips, positions, failed, _ in in_steps(
            chunks, 0, len(chunks), config.cluster.loader_workers, pinned=worker.device.type == "cuda"
        ):
            failures.extend(failed)
            if not positions:
                continue
            own = torch.tensor(positions, device=worker.device) - rows.start
            clips = clips.to(worker.device, non_blocking=True)
            captions = Captions(*(part[positions] for part in (whole.tokens, whole.words, whole.attended)))
            videos[own] = model.encode_video(clips)
            texts[own] = model.encode_text(
                captions.tokens.to(worker.device), captions.attended.to(worker.device)
            )
            decoded[own] = 1
            # drawn for all samples and anew for each chunk, so that chunks and ranks make no difference
            generator = generator_at(config.seed, step)
            for mask in range(section.masks):
                view = view_of_clips(masking.video, video_ratio, clips, model, generator, total, positions)
                noise = torch.rand(total, config.data.max_caption_tokens, generator=generator)[positions]
                read = hidden_words(masking.text, text_ratio, captions, noise, tokenizer, lexicon)
                masked_videos[own, mask] = model.encode_video(view.clips, view.visible.to(worker.device))
                masked_texts[own, mask] = model.encode_text(
                    read.tokens.to(worker.device), read.attended.to(worker.device)
                )
    meet(worker)
    there = gather(decoded, total).cpu().bool()
    require_decoded(val, there, config.evaluation.allow_missing, failures)
    gathered = (gather(own, total).cpu()[there] for own in (videos, texts, masked_videos, masked_texts))
    return ViewEmbeddings(*gathered)


def similarities(views: ViewEmbeddings) -> dict[str, float]:
    """Mean cosines: of masked and full views by modality, and of video and text, both masked and both full.

    Of each comparison also the mean with every other sample, and the deviation over masks, a mean over samples.
    """
    video, text = views.video[:, None], views.text[:, None]  # (B, 1, E)
    compared = {
        "video": (views.masked_video, video),
        "text": (views.masked_text, text),
        "video_text": (views.masked_video, views.masked_text),  # one draw of the one with one of the other
        "full_video_text": (video, text),
    }
    found: dict[str, float] = {}
    for name, (left, right) in compared.items():
        left, right = left.double(), right.double()  # (B, M or 1, E)
        cosine = (left * right).sum(dim=-1)  # (B, M); 1 where both are full
        found[name] = float(cosine.mean())
        if len(cosine) > 1:
            # the sum over all pairs of samples is the product of their sums
            pairs = (left.sum(dim=0) * right.sum(dim=0)).sum(dim=-1) - cosine.sum(dim=0)  # (M,)
            found[name + OTHERS] = float(pairs.mean()) / (len(cosine) * (len(cosine) - 1))
        if cosine.shape[1] > 1:
            found[name + SPREAD] = float(cosine.std(dim=1, correction=0).mean())
    return found
