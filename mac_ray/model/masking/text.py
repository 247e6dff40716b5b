"""Which words of captions the tower reads.

B captions, L tokens, W words that a caption may have.

A strategy decides what is hidden; another table says whether that becomes [MASK] in its place, so that lengths
stay, or is taken out, so that what follows moves up and the batch may get shorter. A word is what the
tokeniser's pre-tokeniser splits off, so punctuation is a word of its own. [CLS], [SEP] and padding stay.

All chance comes from a row of noise per caption, drawn for the longest caption there may be: word w goes by its
entry w. So neither the padding of the batch nor its other captions matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mac_ray.config import TextMasking


@dataclass(frozen=True)
class Captions:
    tokens: Tensor  # (B, L)
    words: Tensor  # (B, L): number of the word of each token, -1 on special tokens and padding
    attended: Tensor  # (B, L): false on padding
    # (B, L), what some strategies know of each token's word: for "frequency" the probability that it is hidden,
    # for "word_class" 1 for a function word and 0 for others
    clues: Tensor | None = None


class MaskedText(NamedTuple):
    tokens: Tensor  # (B, L'), L' at most L
    attended: Tensor  # (B, L')


Strategy = Callable[[TextMasking, float, Captions, Tensor], Tensor]


def masked_text(
    section: TextMasking, ratio: float, captions: Captions, noise: Tensor, mask_token: int, pad_token: int
) -> MaskedText:
    """The captions as the text tower reads them, at a ratio that is the section's own or of its schedule.

    noise (B, L or more), uniform in [0, 1), is as wide for every batch of a run.
    """
    hidden = TEXT_STRATEGIES[section.strategy](section, ratio, captions, noise)
    if section.leaves_mask_tokens:
        return MaskedText(captions.tokens.masked_fill(hidden, mask_token), captions.attended)
    kept = captions.attended & ~hidden
    length = int(kept.sum(dim=1).max())
    order = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :length]
    attended = kept.gather(1, order)
    return MaskedText(captions.tokens.gather(1, order).masked_fill(~attended, pad_token), attended)


# ---------------------------------------------------------------- strategies: (B, L), true on what is hidden


def keep_words(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """Nothing."""
    return torch.zeros_like(captions.words, dtype=torch.bool)


def whole_words(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """Each word with probability `ratio`, all its pieces together (MAC section 3.1)."""
    if not section.exact:
        return _of_words(noise < ratio, captions)
    return _of_words(_first(noise, _counts(section, ratio, captions, noise), captions), captions)


def single_tokens(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """Each token with probability `ratio`, whatever the rest of its word (BERT, without its random tokens)."""
    own = noise[:, : captions.words.shape[1]]
    countable = captions.words >= 0
    if not section.exact:
        return (own < ratio) & countable
    counts = _exact(ratio, countable.sum(dim=1))
    return _ranks(own.masked_fill(~countable, 2.0)) < counts[:, None]


def span(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """One run of consecutive words, at a random place."""
    counts, words = _counts(section, ratio, captions, noise), _num_words(captions)
    first = (noise[:, -2] * (words - counts + 1)).long()[:, None]
    return (captions.words >= first) & (captions.words < first + counts[:, None])


def tail(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """The last words, so that the head is kept (CLIPA's truncation)."""
    counts, words = _counts(section, ratio, captions, noise), _num_words(captions)
    return captions.words >= (words - counts)[:, None]


def frequent_words(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """Each word with a probability that grows with its frequency (CLIPF, arXiv 2412.16148).

    With an exact count, words are drawn in proportion to it, those of no probability last.
    """
    likely = _per_word(captions, noise.shape[1])
    if not section.exact:
        return _of_words(noise < likely, captions)
    waiting = torch.where(likely > 0, -torch.log1p(-noise) / likely.clamp(min=1e-6), 1e9 * (1 + noise))
    return _of_words(_first(waiting, _counts(section, ratio, captions, noise), captions), captions)


def function_words(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """Function words before all others, by chance within both (CLIPA's priority of word classes, reduced to two)."""
    later = 1 - _per_word(captions, noise.shape[1])
    return _of_words(_first(noise + later, _counts(section, ratio, captions, noise), captions), captions)


TEXT_STRATEGIES: dict[str, Strategy] = {
    "none": keep_words,
    "whole_word": whole_words,
    "token": single_tokens,
    "span": span,
    "drop": whole_words,
    "truncate": tail,
    "frequency": frequent_words,
    "word_class": function_words,
}


# ---------------------------------------------------------------- shared by strategies


def _num_words(captions: Captions) -> Tensor:
    """(B,)"""
    return captions.words.max(dim=1).values + 1


def _counts(section: TextMasking, ratio: float, captions: Captions, noise: Tensor) -> Tensor:
    """How many words to hide (B,): exact, or one of the two numbers around ratio x words, right on average."""
    words = _num_words(captions)
    if section.exact:
        return _exact(ratio, words)
    # the last two entries of a row are no word's, for [CLS] and [SEP] take two places
    return (ratio * words + noise[:, -1]).floor().long()


def _exact(ratio: float, available: Tensor) -> Tensor:
    """max(1, round(ratio x available)), but 0 at ratio 0 and where there is nothing."""
    counts = (ratio * available).round().long().clamp(min=1)
    return counts.minimum(available) if ratio > 0 else torch.zeros_like(available)


def _of_words(chosen: Tensor, captions: Captions) -> Tensor:
    """Words (B, W) -> their tokens (B, L)."""
    return chosen.gather(1, captions.words.clamp(min=0)) & (captions.words >= 0)


def _first(keys: Tensor, counts: Tensor, captions: Captions) -> Tensor:
    """Of each caption the words (B, W) of the lowest keys, as many as `counts` (B,) says."""
    there = torch.arange(keys.shape[1]) < _num_words(captions)[:, None]
    return _ranks(keys.masked_fill(~there, torch.inf)) < counts[:, None]


def _ranks(keys: Tensor) -> Tensor:
    return keys.argsort(dim=1).argsort(dim=1)


def _per_word(captions: Captions, width: int) -> Tensor:
    """Clues (B, L) of tokens -> of words (B, W), W = width; zero where there is no word."""
    assert captions.clues is not None, "frequency and word_class go by clues"
    clues = captions.clues.new_zeros(len(captions.words), width + 1)
    # what is no word goes to a column of its own, which is cut off
    return clues.scatter(1, captions.words.where(captions.words >= 0, width), captions.clues)[:, :width]
