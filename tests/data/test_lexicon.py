"""Words counted, hidden by their frequency as CLIPF's formula says, and told apart by class."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mac_ray.config import TextTower
from mac_ray.data.lexicon import Lexicon, count_words, is_function_word, save_words
from mac_ray.data.text import CaptionTokenizer, save_tokenizer

CAPTIONS = [
    "a red square moves to the left",
    "a red circle and a blue ring stand still",
    "the Square, in a corner",
    "two triangles",
]
COUNTS = Counter(
    ["a", "a", "a", "a", "red", "red", "square", "square", "circle", "and", "blue", "ring", "stand"]
)
COUNTS.update(["still", "moves", "to", "the", "the", "left", ",", "in", "corner", "two", "triangles"])


@pytest.fixture
def tokenizer(tmp_path: Path) -> CaptionTokenizer:
    # so few entries that most words are of several pieces
    save_tokenizer(TextTower(vocabulary_size=60), CAPTIONS, tmp_path / "tokenizer.json")
    return CaptionTokenizer(tmp_path / "tokenizer.json", 40)


def tokens_of(tokenizer: CaptionTokenizer, captions: list[str]) -> tuple[Tensor, Tensor]:
    tokens = tokenizer(captions)
    return torch.from_numpy(tokens.ids), torch.from_numpy(tokens.words)


def by_word(values: Tensor, words: Tensor) -> list[list[float]]:
    """One value per word of each caption; all pieces of a word have the same, and what is no word has zero."""
    rows = []
    for row, numbers in zip(values.tolist(), words.tolist(), strict=True):
        assert all(value == 0 for value, number in zip(row, numbers, strict=True) if number < 0)
        own = {number: {v for v, n in zip(row, numbers, strict=True) if n == number} for number in numbers}
        own.pop(-1)
        assert all(len(found) == 1 for found in own.values())
        rows.append([own[number].pop() for number in sorted(own)])
    return rows


def test_words_are_counted_as_the_tokeniser_splits_and_normalises_them(tokenizer: CaptionTokenizer) -> None:
    assert count_words(CAPTIONS, tokenizer) == COUNTS
    assert (tokens_of(tokenizer, CAPTIONS)[1].diff(dim=1) == 0).sum() > len(
        CAPTIONS
    )  # there are such of pieces


def test_counts_saved_are_counts_loaded_the_most_frequent_first(
    tokenizer: CaptionTokenizer, tmp_path: Path
) -> None:
    save_words(COUNTS, tmp_path / "words.json")
    assert list(tmp_path.glob("words.*")) == [tmp_path / "words.json"]
    assert (tmp_path / "words.json").read_text().index('"a"') < (tmp_path / "words.json").read_text().index(
        '"two"'
    )
    loaded, counted = Lexicon.load(tmp_path / "words.json", tokenizer), Lexicon(tokenizer, COUNTS)
    given = tokens_of(tokenizer, CAPTIONS)
    assert torch.equal(loaded.hiding_probabilities(*given, 0.3), counted.hiding_probabilities(*given, 0.3))


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.15, 0.5, 0.9, 0.99])
def test_hiding_probability_is_clipf_s_and_hides_the_share_asked_for(
    tokenizer: CaptionTokenizer, ratio: float
) -> None:
    lexicon = Lexicon(tokenizer, COUNTS)
    total, threshold = sum(COUNTS.values()), lexicon.threshold(ratio)
    formula = {word: max(0.0, 1 - (threshold / (count / total)) ** 0.5) for word, count in COUNTS.items()}
    assert sum(COUNTS[word] * formula[word] for word in COUNTS) / total == pytest.approx(ratio, abs=1e-9)
    tokens, words = tokens_of(tokenizer, CAPTIONS)
    found = by_word(lexicon.hiding_probabilities(tokens, words, ratio), words)
    spelled = [tokenizer.spelled(*row) for row in zip(tokens.tolist(), words.tolist(), strict=True)]
    for values, names in zip(found, spelled, strict=True):
        assert values == pytest.approx([formula[name] for name in names], abs=1e-6)


def test_frequent_words_are_likelier_to_be_hidden(tokenizer: CaptionTokenizer) -> None:
    tokens, words = tokens_of(tokenizer, ["a red circle"])
    (values,) = by_word(Lexicon(tokenizer, COUNTS).hiding_probabilities(tokens, words, 0.5), words)
    assert values[0] > values[1] > values[2] > 0


def test_word_that_was_never_counted_is_not_hidden(tokenizer: CaptionTokenizer) -> None:
    tokens, words = tokens_of(tokenizer, ["a crescent"])
    (values,) = by_word(Lexicon(tokenizer, COUNTS).hiding_probabilities(tokens, words, 0.9), words)
    assert values[0] > 0.9
    assert values[1] == 0


def test_function_words_and_punctuation_are_told_from_the_rest(tokenizer: CaptionTokenizer) -> None:
    tokens, words = tokens_of(tokenizer, ["The square, in a corner", "two triangles"])
    found = by_word(Lexicon(tokenizer, {}).function_words(tokens, words), words)
    assert found == [[1, 0, 1, 1, 1, 0], [0, 0]]


@pytest.mark.parametrize("word", ["the", "Of", "is", "and", ".", "--"])
def test_function_words_are_of_closed_classes(word: str) -> None:
    assert is_function_word(word)


@pytest.mark.parametrize("word", ["dog", "runs", "red", "2", "[UNK]", "left"])
def test_content_words_are_not_function_words(word: str) -> None:
    assert not is_function_word(word)
