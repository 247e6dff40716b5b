"""What is known of single words: how often the training captions use them, and which are function words.

b captions, L tokens.

Words are spelled as the tokeniser spells them, so the file in a run's folder can be read by people. The function
words are a small closed-class list of English, written for this purpose: articles, pronouns, prepositions,
conjunctions, auxiliaries and the like. It stands in for a part-of-speech tagger, whose models would have to be
downloaded; other languages have no function words here.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mac_ray import files
from mac_ray.data.text import CaptionTokenizer

ENGLISH = """
a an the this that these those some any each every no all both either neither such what which whose
i me my mine you your yours he him his she her hers it its we us our ours they them their theirs
myself yourself himself herself itself ourselves themselves who whom someone something anyone anything
of in on at by to from with without into onto over under above below up down out off through across
along around about after before behind beside between beyond during for near past since toward towards
until upon within against among as like than per via
and or but nor so yet if while when where because although though whether then
is are was were be been being am do does did done has have had having can could will would shall should
may might must not
there here very too also just only
"""
FUNCTION_WORDS = frozenset(ENGLISH.split())
CHUNK = 4096  # captions tokenised at once


class Lexicon:
    """Words of the training captions by how often they occur. `counts` may be empty where nobody asks."""

    def __init__(self, tokenizer: CaptionTokenizer, counts: Mapping[str, int]) -> None:
        self._tokenizer = tokenizer
        total = sum(counts.values())
        self._shares = {word: count / total for word, count in counts.items()}
        descending = np.sort(np.array(list(self._shares.values()), dtype=np.float64))[::-1]
        self._mass, self._roots = descending.cumsum(), np.sqrt(descending).cumsum()

    @classmethod
    def load(cls, path: Path, tokenizer: CaptionTokenizer) -> "Lexicon":
        return cls(tokenizer, json.loads(path.read_text()))

    def hiding_probabilities(self, tokens: Tensor, words: Tensor, ratio: float) -> Tensor:
        """CLIPF's P(w) = 1 - sqrt(t / f(w)), at least 0, of each token's word: (b, L), 0 where there is none.

        t is such that over all training captions the share `ratio` of the words is hidden.
        """
        threshold = self.threshold(ratio)

        def probability(word: str) -> float:
            share = self._shares.get(word, 0.0)
            return 1 - (threshold / share) ** 0.5 if share > threshold else 0.0

        return self._of_words(tokens, words, probability)

    def threshold(self, ratio: float) -> float:
        """The t at which sum over w of f(w) max(0, 1 - sqrt(t / f(w))) is `ratio`.

        In sqrt(t) that sum is the highest of the lines that count the m most frequent words alone, so the
        highest of the places where these lines reach the ratio is where the sum does.
        """
        return float(max(0.0, ((self._mass - ratio) / self._roots).max()) ** 2)

    def function_words(self, tokens: Tensor, words: Tensor) -> Tensor:
        """1 on tokens of function words and of punctuation, 0 on others: (b, L)."""
        return self._of_words(tokens, words, lambda word: float(is_function_word(word)))

    def _of_words(self, tokens: Tensor, words: Tensor, value: Callable[[str], float]) -> Tensor:
        rows = []
        for ids, numbers in zip(tokens.tolist(), words.tolist(), strict=True):
            values = [value(word) for word in self._tokenizer.spelled(ids, numbers)]
            known = dict(zip(sorted(set(numbers) - {-1}), values, strict=True))
            rows.append([known.get(number, 0.0) for number in numbers])
        return torch.tensor(rows)


def is_function_word(word: str) -> bool:
    return word.lower() in FUNCTION_WORDS or not any(map(str.isalnum, word))


def count_words(captions: Iterable[str], tokenizer: CaptionTokenizer) -> Counter[str]:
    """How often each word stands in the captions, as far as these are not cut off."""
    counts: Counter[str] = Counter()
    remaining = iter(captions)
    while chunk := list(islice(remaining, CHUNK)):
        tokens = tokenizer(chunk)
        for ids, numbers in zip(tokens.ids.tolist(), tokens.words.tolist(), strict=True):
            counts.update(tokenizer.spelled(ids, numbers))
    return counts


def save_words(counts: Counter[str], path: Path) -> None:
    """The most frequent first."""
    files.write(path, json.dumps(dict(counts.most_common()), ensure_ascii=False, indent=0))
