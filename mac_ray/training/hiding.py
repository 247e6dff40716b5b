"""What the towers are given of a batch: a stage's masking applied.

Masks and noise are drawn for the global batch on every rank, then cut to the rank's rows.

b samples on this rank, B in the global batch, F frames, L tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mac_ray.config import Config, TextMasking, value_at
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.loader import Batch
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import DualEncoder
from mac_ray.model.masking import Captions, MaskedText, guidance_flops, masked_text, view_of_clips
from mac_ray.model.views import Inputs
from mac_ray.seeds import generator_at
from mac_ray.training.distributed import Worker, autocast_dtype
from mac_ray.training.folder import RunFolder
from mac_ray.training.plan import Leg

Clues = Callable[[Lexicon, Tensor, Tensor, float], Tensor]

# what text strategies know of words, from tokens and words (b, L) and the ratio: (b, L)
CLUES: dict[str, Clues] = {
    "frequency": Lexicon.hiding_probabilities,
    "word_class": lambda lexicon, tokens, words, _: lexicon.function_words(tokens, words),
}


class Hiding:
    """The masking of one stage."""

    def __init__(
        self,
        config: Config,
        leg: Leg,
        model: DualEncoder,
        tokenizer: CaptionTokenizer,
        lexicon: Lexicon,
        worker: Worker,
    ) -> None:
        self.section = config.stage_masking(leg.stage)
        self.leg, self.model, self.tokenizer, self.lexicon, self.worker = (
            leg,
            model,
            tokenizer,
            lexicon,
            worker,
        )
        self.seed, self.noise_width = config.seed, config.data.max_caption_tokens
        self.dtype = autocast_dtype(config, worker.device)
        frames, patches = leg.stage.frames, model.grid[0] * model.grid[1]
        # per sample, to choose what is hidden; it has no backward
        self.guidance_flops = guidance_flops(self.section.video, config.model.video, frames, patches).total

    def __call__(self, batch: Batch, rows: slice, step: int) -> Inputs:
        """The inputs of a step of the run, of a batch that is `rows` of the global one; all but clips on the CPU."""
        stage, device, progress = self.leg.stage, self.worker.device, self.leg.progress(step)
        with torch.autocast(device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            view = view_of_clips(
                self.section.video,
                value_at(self.section.video.ratio, progress),
                batch.clips.to(device, non_blocking=True),
                self.model,
                generator_at(self.seed, step, "video"),
                stage.batch_size,
                rows,
                stage.accumulate,
            )
        # each use has chance of its own: rows of a study that differ in one hide the same by the other
        of_text, of_objectives = (generator_at(self.seed, step, use) for use in ("text", "objectives"))
        noise = torch.rand(stage.batch_size, self.noise_width, generator=of_text)
        draws = torch.rand(stage.batch_size, 2, generator=of_objectives)
        captions, section = Captions(batch.tokens, batch.words, batch.attended), self.section.text
        ratio = value_at(section.ratio, progress)
        text = hidden_words(section, ratio, captions, noise[rows], self.tokenizer, self.lexicon)
        return Inputs(
            clips=view.clips,
            visible=view.visible,
            tokens=text.tokens,
            attended=text.attended,
            caption=batch.tokens,
            caption_attended=batch.attended,
            rows=torch.arange(stage.batch_size)[rows],
            samples=batch.samples,
            draws=draws[rows],
        )


def hidden_words(
    section: TextMasking,
    ratio: float,
    captions: Captions,
    noise: Tensor,
    tokenizer: CaptionTokenizer,
    lexicon: Lexicon,
) -> MaskedText:
    """`captions` as the text tower reads them, at a ratio that is the section's own or of its schedule."""
    if section.strategy in CLUES:
        clues = CLUES[section.strategy](lexicon, captions.tokens, captions.words, ratio)
        captions = replace(captions, clues=clues)
    return masked_text(section, ratio, captions, noise, tokenizer.mask_token, tokenizer.pad_token)


def read_words(
    section: TextMasking,
    captions: Sequence[str],
    noise: Tensor,
    tokenizer: CaptionTokenizer,
    lexicon: Lexicon,
) -> list[str]:
    """Captions as the text tower reads them when its masking begins; noise (B, tokens that a caption may have)."""
    tokens = tokenizer(captions)
    whole = Captions(*map(torch.from_numpy, (tokens.ids, tokens.words, tokens.attended)))
    text = hidden_words(section, value_at(section.ratio, 0.0), whole, noise, tokenizer, lexicon)
    return [
        tokenizer.text_of(own[attended].tolist())
        for own, attended in zip(text.tokens, text.attended, strict=True)
    ]


def open_lexicon(config: Config, folder: RunFolder, tokenizer: CaptionTokenizer) -> Lexicon:
    """With the words the driver counted, where a stage goes by them."""
    return Lexicon.load(folder.words, tokenizer) if counts_words(config) else Lexicon(tokenizer, {})


def counts_words(config: Config) -> bool:
    maskings = [config.stage_masking(stage) for stage in config.stages]
    if config.evaluation.masked_views is not None:
        maskings += [config.masked_views_masking(stage) for stage in config.stages]
    return any(masking.text.strategy == "frequency" for masking in maskings)
