"""Words hidden at the rate asked for, whatever the padding; special tokens never; each strategy's own rule."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mac_ray.config import TextMasking
from mac_ray.model.masking import TEXT_STRATEGIES, Captions, MaskedText, masked_text
from mac_ray.objectives.costs import tokens_left

PAD, CLS, SEP, MASK = 0, 1, 2, 99
WIDTH = 32  # of the noise
PIECES = [[1, 3, 2, 1, 4], [2, 1], [1] * 12, [], [1, 1, 2, 1, 1, 1, 3]]
BY_CLUES = {"frequency", "word_class"}
HIDING = sorted(set(TEXT_STRATEGIES) - {"none"})
TAKEN_OUT = {name for name in HIDING if not TextMasking(strategy=name).leaves_mask_tokens}
IN_PLACE = sorted(set(HIDING) - TAKEN_OUT)


def captions(pieces: Sequence[Sequence[int]] = PIECES, length: int = 16, clues: Any = None) -> Captions:
    """[CLS], pieces of each word numbered from 10, [SEP], padding. `clues`: a value per word of each caption."""
    tokens, words, known = [], [], []
    for row, counts in enumerate(pieces):
        numbers = [word for word, count in enumerate(counts) for _ in range(count)]
        padding = length - len(numbers) - 2
        tokens.append([CLS, *range(10, 10 + len(numbers)), SEP] + [PAD] * padding)
        words.append([-1, *numbers, -1] + [-1] * padding)
        values = clues[row] if clues is not None else [(word % 2) * 0.5 for word in range(len(counts))]
        known.append([0.0, *(values[number] for number in numbers), 0.0] + [0.0] * padding)
    ids = torch.tensor(tokens)
    return Captions(ids, torch.tensor(words), ids != PAD, torch.tensor(known))


def noise_of(rows: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def masked(given: Captions, seed: int = 0, ratio: float = 0.4, **section: Any) -> MaskedText:
    return masked_text(TextMasking(**section), ratio, given, noise_of(len(given.tokens), seed), MASK, PAD)


def hidden_words(given: Captions, seen: MaskedText) -> list[set[int]]:
    """Of each caption the words of which a token is missing or [MASK]."""
    hidden = []
    for tokens, words, left, attended in zip(
        given.tokens.tolist(), given.words.tolist(), seen.tokens.tolist(), seen.attended.tolist(), strict=True
    ):
        there = {token for token, is_there in zip(left, attended, strict=True) if is_there}
        hidden.append(
            {word for token, word in zip(tokens, words, strict=True) if word >= 0 and token not in there}
        )
    return hidden


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("ratio", [0.0, 0.15, 0.6, 0.99])
@pytest.mark.parametrize("strategy", TEXT_STRATEGIES)
def test_masked_captions_are_the_given_ones_with_tokens_masked_or_missing(
    strategy: str, ratio: float, exact: bool
) -> None:
    given = captions()
    seen = masked(given, strategy=strategy, ratio=ratio, exact=exact)
    assert seen.tokens.shape == seen.attended.shape
    if strategy not in TAKEN_OUT:
        assert torch.equal(seen.attended, given.attended)
    for tokens, left, attended in zip(
        given.tokens.tolist(), seen.tokens.tolist(), seen.attended.tolist(), strict=True
    ):
        own = [token for token in tokens if token != PAD]
        there = [token for token, is_there in zip(left, attended, strict=True) if is_there]
        assert (there[0], there[-1]) == (CLS, SEP)
        assert attended == sorted(attended, reverse=True)  # padding comes last
        assert left[len(there) :] == [PAD] * (len(left) - len(there))
        if strategy in TAKEN_OUT:
            assert there == [token for token in own if token in there]
        else:
            assert all(token in (before, MASK) for token, before in zip(there, own, strict=True))


@pytest.mark.parametrize("strategy", sorted(TAKEN_OUT))
def test_captions_with_words_taken_out_are_as_long_as_the_longest_that_is_left(strategy: str) -> None:
    seen = masked(captions(), strategy=strategy, ratio=0.7, exact=True)
    assert seen.tokens.shape[1] == int(seen.attended.sum(dim=1).max()) < 16


@pytest.mark.parametrize("ratio", [0.0, 0.15, 0.4, 0.9])
@pytest.mark.parametrize("strategy", HIDING)
def test_captions_are_as_long_as_costs_take_them_to_be(strategy: str, ratio: float) -> None:
    section = TextMasking(strategy=strategy, exact=True)
    given = captions([[1] * 12] * 3, length=14)
    left = masked_text(section, ratio, given, noise_of(3), MASK, PAD).tokens.shape[1]
    assert left == tokens_left(section, ratio, tokens=14)


@pytest.mark.parametrize("strategy", sorted(set(HIDING) - {"token"}))
@pytest.mark.parametrize("exact", [False, True])
def test_words_are_hidden_with_all_their_pieces(strategy: str, exact: bool) -> None:
    given = captions([[1, 3, 2, 1, 4]] * 200)
    seen = masked(given, strategy=strategy, ratio=0.5, exact=exact)
    numbers = set(range(10, 21))
    for words, left in zip(given.words.tolist(), seen.tokens.tolist(), strict=True):
        there = numbers & set(left)
        own = {token: word for token, word in zip(given.tokens[0].tolist(), words, strict=True) if word >= 0}
        kept = {own[token] for token in there}
        assert there == {token for token, word in own.items() if word in kept}


@pytest.mark.parametrize("strategy", TEXT_STRATEGIES)
def test_mask_is_decided_by_the_noise_alone(strategy: str) -> None:
    given = captions([[1] * 11] * 50)
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), masked(given, seed=3, strategy=strategy)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = (masked(given, seed=seed, strategy=strategy) for seed in (3, 4))
    assert torch.equal(first.tokens, again.tokens)
    # what truncation hides is chance only in its number
    assert strategy == "none" or not torch.equal(first.tokens, other.tokens)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("strategy", TEXT_STRATEGIES)
def test_mask_depends_neither_on_the_padding_nor_on_the_batch(strategy: str, exact: bool) -> None:
    section, noise = TextMasking.model_validate({"strategy": strategy, "exact": exact}), noise_of(len(PIECES))
    whole = masked_text(section, 0.5, captions(length=24), noise, MASK, PAD)
    for row, pieces in enumerate(PIECES):
        alone = captions([pieces], length=sum(pieces) + 2)
        seen = masked_text(section, 0.5, alone, noise[row : row + 1], MASK, PAD)
        own = whole.tokens[row][whole.attended[row]]
        assert torch.equal(seen.tokens[0][seen.attended[0]], own)


@pytest.mark.parametrize("strategy", TEXT_STRATEGIES)
def test_given_captions_are_left_alone(strategy: str) -> None:
    given = captions()
    before = [tensor.clone() for tensor in (given.tokens, given.words, given.attended)]
    masked(given, strategy=strategy)
    assert all(map(torch.equal, before, (given.tokens, given.words, given.attended)))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("strategy", sorted(set(TEXT_STRATEGIES) - {"frequency"}))
def test_ratio_zero_and_strategy_none_hide_nothing(strategy: str, exact: bool) -> None:
    given = captions()
    for seen in (
        masked(given, strategy=strategy, ratio=0.0, exact=exact),
        masked(given, strategy="none", ratio=0.9, exact=exact),
    ):
        assert not any(hidden_words(given, seen))


# ---------------------------------------------------------------- how many


@pytest.mark.parametrize("strategy", sorted(set(HIDING) - {"token"}))
def test_exact_count_is_the_rounded_share_but_at_least_one_word(strategy: str) -> None:
    given = captions([[1] * words for words in range(13)])
    for ratio in (0.05, 0.15, 0.5, 0.9):
        seen = masked(given, strategy=strategy, ratio=ratio, exact=True)
        counts = [len(hidden) for hidden in hidden_words(given, seen)]
        assert counts == [min(words, max(1, round(ratio * words))) for words in range(13)]


def test_exact_count_of_tokens_is_the_rounded_share_but_at_least_one_token() -> None:
    given = captions()
    seen = masked(given, strategy="token", ratio=0.3, exact=True)
    counts = [sum(pieces) for pieces in PIECES]
    assert (seen.tokens == MASK).sum(dim=1).tolist() == [
        min(count, max(1, round(0.3 * count))) for count in counts
    ]


@pytest.mark.parametrize("strategy", ["whole_word", "drop"])
def test_each_word_of_any_length_is_hidden_at_the_rate_asked_for(strategy: str) -> None:
    given = captions([[1, 3, 2, 1, 4]] * 4000)
    hidden = hidden_words(given, masked(given, strategy=strategy, ratio=0.15))
    for word in range(5):
        assert abs(sum(word in words for words in hidden) / 4000 - 0.15) < 5 * math.sqrt(0.15 * 0.85 / 4000)


@pytest.mark.parametrize("strategy", ["span", "truncate", "word_class"])
def test_share_of_words_hidden_is_right_on_average_also_of_short_captions(strategy: str) -> None:
    given = captions([[1] * 4] * 4000)
    hidden = hidden_words(given, masked(given, strategy=strategy, ratio=0.15))
    assert {len(words) for words in hidden} == {0, 1}  # the two numbers around 0.6
    assert abs(sum(map(len, hidden)) / 4000 - 0.6) < 5 * math.sqrt(0.24 / 4000)


def test_each_token_is_hidden_at_the_rate_asked_for_whatever_its_word() -> None:
    given = captions([[3, 1]] * 4000)
    is_masked = masked(given, strategy="token", ratio=0.3).tokens == MASK
    for place in range(1, 5):
        assert abs(float(is_masked[:, place].float().mean()) - 0.3) < 5 * math.sqrt(0.21 / 4000)
    some = is_masked[:, 1:4].sum(dim=1)
    assert {1, 2} <= set(some.tolist())  # parts of one word


# ---------------------------------------------------------------- which


def test_span_is_consecutive_and_reaches_every_place() -> None:
    given = captions([[1] * 8] * 500)
    hidden = hidden_words(given, masked(given, strategy="span", ratio=0.375, exact=True))
    assert {tuple(sorted(words)) for words in hidden} == {(first, first + 1, first + 2) for first in range(6)}


def test_truncation_keeps_the_head() -> None:
    given = captions([[1, 2, 1, 3, 1, 1, 1, 1]] * 50)
    seen = masked(given, strategy="truncate", ratio=0.5, exact=True)
    assert hidden_words(given, seen) == [{4, 5, 6, 7}] * 50
    assert seen.tokens[0].tolist() == [CLS, *range(10, 17), SEP]


def test_drop_hides_the_words_that_whole_word_hides() -> None:
    given = captions([[1, 2, 1, 3]] * 100)
    dropped, in_place = (masked(given, strategy=strategy) for strategy in ("drop", "whole_word"))
    assert hidden_words(given, dropped) == hidden_words(given, in_place)
    assert MASK not in dropped.tokens


def test_frequency_hides_each_word_with_its_own_probability() -> None:
    likely = [0.0, 0.2, 0.7, 1.0]
    given = captions([[1, 2, 1, 1]] * 4000, clues=[likely] * 4000)
    hidden = hidden_words(given, masked(given, strategy="frequency"))
    for word, probability in enumerate(likely):
        rate = sum(word in words for words in hidden) / 4000
        assert abs(rate - probability) <= 5 * math.sqrt(probability * (1 - probability) / 4000)


def test_frequency_with_an_exact_count_prefers_the_likely_and_takes_the_impossible_last() -> None:
    likely = [0.0, 0.1, 0.3, 0.0]
    given = captions([[1, 2, 1, 1]] * 4000, clues=[likely] * 4000)
    one = hidden_words(given, masked(given, strategy="frequency", ratio=0.25, exact=True))
    assert {len(words) for words in one} == {1}
    assert abs(sum(2 in words for words in one) / 4000 - 0.75) < 5 * math.sqrt(0.1875 / 4000)
    assert not any({0, 3} & words for words in one)
    three = hidden_words(given, masked(given, strategy="frequency", ratio=0.75, exact=True))
    assert all({1, 2} < words for words in three)
    assert {0, 3} <= set.union(*three)


def test_word_class_hides_function_words_first() -> None:
    function = [1.0, 0.0, 0.0, 1.0, 0.0]
    given = captions([[1] * 5] * 300, clues=[function] * 300)
    one, two, three = (
        hidden_words(given, masked(given, strategy="word_class", ratio=count / 5, exact=True))
        for count in (1, 2, 3)
    )
    assert {frozenset(words) for words in one} == {frozenset({0}), frozenset({3})}
    assert {frozenset(words) for words in two} == {frozenset({0, 3})}
    assert {frozenset(words) for words in three} == {frozenset({0, 3, word}) for word in (1, 2, 4)}
