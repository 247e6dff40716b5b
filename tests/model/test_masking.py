"""Every video strategy keeps the same contract; words are hidden whole, at the rate asked for."""

from collections.abc import Sequence
from fractions import Fraction
from math import comb
from typing import Any

import pytest
import torch
from torch import Tensor

from mac_ray.config import TextMasking, VideoMasking
from mac_ray.model.masking import (
    VIDEO_STRATEGIES,
    masked_text,
    num_visible,
    visible_patches,
    visible_per_frame,
)

GRID = (5, 7)
PATCHES = 35
MASK = 99


def drawn(seed: int = 0, batch: int = 6, frames: int = 4, **section: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return visible_patches(VideoMasking(**section), batch, frames, GRID, generator)


# ---------------------------------------------------------------- counts


def test_num_visible_at_sixty_percent_of_196_is_the_79_of_table_4():
    assert num_visible(196, 0.6) == 79


@pytest.mark.parametrize("num_patches", [10, 64, 100, 196])
def test_num_visible_of_every_two_digit_ratio_is_what_exact_arithmetic_gives(num_patches: int):
    for percent in range(100):
        exact = num_patches - int(Fraction(percent, 100) * num_patches)
        assert num_visible(num_patches, percent / 100) == exact


@pytest.mark.parametrize("ratio", [0.95, 0.999999, 1 - 1e-12])
@pytest.mark.parametrize("num_patches", [1, 4, 10])
def test_num_visible_of_a_ratio_just_below_one_is_never_zero(num_patches: int, ratio: float):
    assert num_visible(num_patches, ratio) == 1


# ---------------------------------------------------------------- video: the contract


@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.6, 0.9])
@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_mask_of_any_strategy_is_distinct_patches_in_range_equally_many_in_each_frame(
    strategy: str, ratio: float, order: str
):
    visible = drawn(strategy=strategy, ratio=ratio, order=order)
    kept = PATCHES if strategy == "none" else PATCHES - int(Fraction(str(ratio)) * PATCHES)
    assert visible.shape == (6, 4, kept)
    assert visible_per_frame(VideoMasking(strategy=strategy, ratio=ratio), PATCHES) == kept
    for frame in visible.reshape(-1, kept).tolist():
        assert len(set(frame)) == kept
        assert set(frame) <= set(range(PATCHES))


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_mask_of_one_frame_has_the_count_of_many(strategy: str):
    assert drawn(strategy=strategy, frames=1).shape[2] == drawn(strategy=strategy).shape[2]


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_mask_of_the_same_generator_state_is_the_same_whatever_the_global_state(strategy: str):
    torch.manual_seed(1)
    first = drawn(seed=3, strategy=strategy)
    torch.manual_seed(2)
    assert torch.equal(first, drawn(seed=3, strategy=strategy))


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_mask_draws_nothing_from_the_global_generator(strategy: str):
    before = torch.get_rng_state()
    drawn(strategy=strategy)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("strategy", sorted(set(VIDEO_STRATEGIES) - {"none"}))
def test_mask_of_another_seed_and_of_another_sample_differs(strategy: str):
    one, other = drawn(seed=0, strategy=strategy, order="sorted"), drawn(1, strategy=strategy, order="sorted")
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_sorted_order_is_the_random_order_s_patches_in_raster_order(strategy: str):
    unsorted = drawn(strategy=strategy, order="random")
    in_raster = [[sorted(frame) for frame in clip] for clip in unsorted.tolist()]
    assert drawn(strategy=strategy, order="sorted").tolist() == in_raster


@pytest.mark.parametrize("strategy", sorted(set(VIDEO_STRATEGIES) - {"none"}))
def test_random_order_does_not_come_sorted(strategy: str):
    clips = drawn(strategy=strategy, order="random").tolist()
    assert all(frame != sorted(frame) for clip in clips for frame in clip)


@pytest.mark.parametrize("strategy", sorted(set(VIDEO_STRATEGIES) - {"none"}))
def test_mask_keeps_each_patch_equally_often(strategy: str):
    draws = 4000  # one frame of each, so that draws are independent
    visible = drawn(batch=draws, frames=1, strategy=strategy, ratio=0.6)
    counts = torch.bincount(visible.flatten(), minlength=PATCHES)
    rate = visible.shape[2] / PATCHES
    low, high = binomial_interval(draws, rate, alpha=1e-6 / PATCHES)
    assert low <= int(counts.min())
    assert int(counts.max()) <= high


# ---------------------------------------------------------------- video: what sets a strategy apart


def test_none_keeps_every_patch_whatever_the_ratio():
    assert drawn(strategy="none", ratio=0.9).tolist() == [[list(range(PATCHES))] * 4] * 6


def test_tube_is_constant_in_time():
    visible = drawn(strategy="tube")
    assert torch.equal(visible, visible[:, :1].expand_as(visible))


def test_random_draws_each_frame_anew():
    clip = drawn(strategy="random", order="sorted")[0].tolist()
    assert len({tuple(frame) for frame in clip}) == len(clip)


# ---------------------------------------------------------------- text


def captions(lengths: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) and words (B, L) of captions given as pieces per word: [CLS] pieces … [SEP] padding."""
    tokens, words = [], []
    for pieces in lengths:
        numbers = [word for word, count in enumerate(pieces) for _ in range(count)]
        padding = length - len(numbers) - 2
        tokens.append([1, *range(10, 10 + len(numbers)), 2] + [0] * padding)
        words.append([-1, *numbers, -1] + [-1] * padding)
    return torch.tensor(tokens), torch.tensor(words)


def noise_of(tokens: Tensor, columns: int | None = None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(tokens.shape[0], columns or tokens.shape[1], generator=generator)


def test_whole_words_hide_all_pieces_of_a_word_or_none():
    tokens, words = captions([[1, 3, 2, 1, 4]] * 200, length=16)
    masked = masked_text(TextMasking(ratio=0.5), tokens, words, noise_of(tokens), MASK)
    seen = set()
    for row, numbers in zip((masked == MASK).tolist(), words.tolist(), strict=True):
        for word in range(5):
            pieces = {hidden for hidden, number in zip(row, numbers, strict=True) if number == word}
            assert len(pieces) == 1
            seen |= pieces
    assert seen == {True, False}


def test_whole_words_leave_specials_padding_and_what_is_not_hidden_as_they_were():
    tokens, words = captions([[1, 2], [2, 2, 1, 3]], length=14)
    masked = masked_text(TextMasking(ratio=0.999), tokens, words, noise_of(tokens), MASK)
    assert torch.equal(masked[words < 0], tokens[words < 0])
    assert set(masked[words >= 0].tolist()) == {MASK}
    some = masked_text(TextMasking(ratio=0.5), tokens, words, noise_of(tokens), MASK)
    assert torch.equal(some[some != MASK], tokens[some != MASK])
    assert some.shape == tokens.shape


def test_whole_words_at_ratio_zero_and_strategy_none_hide_nothing():
    tokens, words = captions([[1, 2, 1]] * 50, length=9)
    for section in (TextMasking(ratio=0.0), TextMasking(strategy="none", ratio=0.9)):
        assert torch.equal(masked_text(section, tokens, words, noise_of(tokens), MASK), tokens)


def test_whole_words_leave_the_given_tokens_alone():
    tokens, words = captions([[1, 2, 1]] * 50, length=9)
    before = tokens.clone()
    masked_text(TextMasking(ratio=0.5), tokens, words, noise_of(tokens), MASK)
    assert torch.equal(tokens, before)


def test_whole_words_hide_words_of_any_length_at_the_rate_asked_for():
    tokens, words = captions([[1, 3, 2, 1, 4]] * 4000, length=14)
    masked = masked_text(TextMasking(ratio=0.15), tokens, words, noise_of(tokens), MASK)
    low, high = binomial_interval(4000, 0.15, alpha=1e-6 / 5)
    for word in range(5):
        first_piece = words[0].tolist().index(word)
        assert low <= int((masked[:, first_piece] == MASK).sum()) <= high


def test_whole_words_do_not_depend_on_the_padding_of_the_batch():
    pieces = [[1, 2, 1, 3], [2, 1]]
    short_tokens, short_words = captions(pieces, length=9)
    long_tokens, long_words = captions(pieces, length=20)
    noise = noise_of(short_tokens, columns=32)
    section = TextMasking(ratio=0.5)
    short = masked_text(section, short_tokens, short_words, noise, MASK)
    long = masked_text(section, long_tokens, long_words, noise, MASK)
    assert (short == MASK).any()
    assert torch.equal(short, long[:, :9])


def binomial_interval(draws: int, rate: float, alpha: float) -> tuple[int, int]:
    """Counts that a binomial leaves on either side with probability below `alpha`, by exact summation."""
    exact = Fraction(rate).limit_denominator(1000)
    above = exact.denominator - exact.numerator
    tail, weights = Fraction(alpha) * exact.denominator**draws, []
    for hits in range(draws + 1):
        weights.append(comb(draws, hits) * exact.numerator**hits * above ** (draws - hits))
        if sum(weights) > tail:
            break
    low, total = len(weights) - 1, 0
    for high in range(draws, -1, -1):
        total += comb(draws, high) * exact.numerator**high * above ** (draws - high)
        if total > tail:
            return low, high
    raise AssertionError("no count is likely")
