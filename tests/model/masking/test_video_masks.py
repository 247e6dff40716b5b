"""Every video strategy keeps the same contract, and has a property of its own."""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from mac_ray.config import VideoMasking
from mac_ray.config.masking import num_visible
from mac_ray.model.masking import VIDEO_STRATEGIES, Seen, Subject, seen_of, visible_patches
from mac_ray.model.masking.guidance import GUIDES

BATCH, FRAMES, GRID = 6, 4, (5, 7)
PATCHES = 35
WHOLE_FRAMES = {"none", "frame", "resize"}
SAME_IN_ALL_FRAMES = {"tube", "block", "multi_block", "grid"}
MASKING = sorted(set(VIDEO_STRATEGIES) - {"none", "resize"})
DRAWN_BY_PATCH = sorted(set(VIDEO_STRATEGIES) - WHOLE_FRAMES)


def scores_of(batch: int, frames: int, seed: int = 0) -> Tensor:
    """Positive, as attention is."""
    return torch.rand(batch, frames, PATCHES, generator=torch.Generator().manual_seed(1000 + seed)) + 0.01


def drawn(
    seed: int = 0,
    batch: int = BATCH,
    frames: int = FRAMES,
    scores: Tensor | None = None,
    grid: tuple[int, int] = GRID,
    **section: Any,
) -> Tensor:
    masking = VideoMasking(**section)
    seen = seen_of(masking, section.get("ratio", 0.6), frames, grid)
    if scores is None and masking.strategy in GUIDES:
        scores = scores_of(batch, frames)
    subject = Subject(batch, frames, seen, masking, scores)
    return visible_patches(subject, torch.Generator().manual_seed(seed))


def by_frame(visible: Tensor, patches: int = PATCHES) -> Iterator[dict[int, list[int]]]:
    """Of each clip: the patches seen of each frame of which any are."""
    for clip in visible.tolist():
        rows = {row[0] // patches: [number % patches for number in row] for row in clip}
        assert len(rows) == len(clip)
        assert all(number // patches == row[0] // patches for row in clip for number in row)
        yield rows


# ---------------------------------------------------------------- counts


def test_num_visible_at_sixty_percent_of_196_is_the_79_of_table_4():
    assert num_visible(196, 0.6) == 79


@pytest.mark.parametrize("ratio", [0.0, 0.01])
@pytest.mark.parametrize("strategy", MASKING)
def test_ratio_that_hides_nothing_leaves_every_patch_in_its_place(strategy: str, ratio: float):
    assert torch.equal(drawn(strategy=strategy, ratio=ratio), drawn(strategy="none"))


@pytest.mark.parametrize("num_patches", [10, 64, 100, 196])
def test_num_visible_of_every_two_digit_ratio_is_what_exact_arithmetic_gives(num_patches: int):
    for percent in range(100):
        exact = num_patches - int(Fraction(percent, 100) * num_patches)
        assert num_visible(num_patches, percent / 100) == exact


@pytest.mark.parametrize("ratio", [0.95, 0.999999])
@pytest.mark.parametrize("num_patches", [1, 4, 10])
def test_num_visible_of_a_ratio_below_one_is_never_zero(num_patches: int, ratio: float):
    assert num_visible(num_patches, ratio) == 1


@pytest.mark.parametrize(
    ("ratio", "side", "visible"), [(0.0, 14, 196), (0.6, 9, 81), (0.75, 7, 49), (0.9, 4, 16), (0.999, 1, 1)]
)
def test_resize_takes_the_grid_whose_side_is_nearest_to_what_the_ratio_leaves(
    ratio: float, side: int, visible: int
):
    seen = seen_of(VideoMasking(strategy="resize"), ratio, FRAMES, (14, 14))
    assert seen == Seen(FRAMES, (side, side), visible)


# ---------------------------------------------------------------- the contract


def expected_of(strategy: str, ratio: float, frames: int) -> tuple[int, int, int]:
    """Frames and patches seen, and patches of a frame."""
    left = PATCHES - int(Fraction(str(ratio)) * PATCHES)
    if strategy == "none":
        return frames, PATCHES, PATCHES
    if strategy == "frame":
        return frames - int(Fraction(str(ratio)) * frames), PATCHES, PATCHES
    if strategy == "resize":
        rows, columns = (max(1, round((left / PATCHES) ** 0.5 * side)) for side in GRID)
        return frames, rows * columns, rows * columns
    return frames, left, PATCHES


@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_mask_is_distinct_patches_in_range_equally_many_in_each_frame(
    strategy: str, frames: int, ratio: float, order: str
):
    visible = drawn(strategy=strategy, frames=frames, ratio=ratio, order=order)
    seen_frames, seen_patches, patches = expected_of(strategy, ratio, frames)
    assert visible.dtype == torch.int64
    assert visible.shape == (BATCH, seen_frames, seen_patches)
    for clip in by_frame(visible, patches):
        assert set(clip) <= set(range(frames))
        for frame in clip.values():
            assert len(set(frame)) == seen_patches
            assert set(frame) <= set(range(patches))


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


@pytest.mark.parametrize("strategy", MASKING)
def test_mask_of_another_seed_and_of_another_sample_differs(strategy: str):
    same_clip = scores_of(1, FRAMES).expand(BATCH, -1, -1)
    one, other = (drawn(seed, strategy=strategy, scores=same_clip) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert any(not torch.equal(one[0], sample) for sample in one[1:])


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_mask_of_a_rank_that_knows_its_own_scores_only_is_its_part_of_the_whole(strategy: str):
    scores = scores_of(BATCH, FRAMES)
    whole = drawn(strategy=strategy, scores=scores)
    rows = slice(2, 5)
    known = torch.zeros_like(scores)
    known[rows] = scores[rows]
    assert torch.equal(drawn(strategy=strategy, scores=known)[rows], whole[rows])


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_sorted_order_is_the_random_order_s_patches_in_raster_order(strategy: str):
    unsorted = drawn(strategy=strategy, order="random")
    in_raster = [[sorted(frame) for frame in clip] for clip in unsorted.tolist()]
    assert drawn(strategy=strategy, order="sorted").tolist() == in_raster


@pytest.mark.parametrize("strategy", DRAWN_BY_PATCH)
def test_random_order_puts_every_kept_patch_first_equally_often(strategy: str):
    """An order that followed scores, or the shape of a block, would pair patches by these instead of by chance."""
    draws = 3000
    same_clip = scores_of(1, 1).expand(draws, -1, -1)
    visible = drawn(batch=draws, frames=1, strategy=strategy, scores=same_clip, ratio=0.8)[:, 0]
    ranks = visible.argsort(dim=-1)  # [:, k]: where the k-th in raster order stands
    low, high = binomial_interval(draws, Fraction(1, 7), alpha=1e-6 / 49)
    for place in range(7):
        counts = torch.bincount(ranks[:, place], minlength=7)
        assert low <= int(counts.min())
        assert int(counts.max()) <= high


@pytest.mark.parametrize("strategy", ["random", "tube"])
def test_mask_keeps_each_patch_equally_often(strategy: str):
    draws = 4000  # one frame of each, so that draws are independent
    visible = drawn(batch=draws, frames=1, strategy=strategy, ratio=0.6)
    counts = torch.bincount(visible.flatten(), minlength=PATCHES)
    low, high = binomial_interval(draws, Fraction(visible.shape[2], PATCHES), alpha=1e-6 / PATCHES)
    assert low <= int(counts.min())
    assert int(counts.max()) <= high


# ---------------------------------------------------------------- what sets a strategy apart


def test_none_keeps_every_patch_whatever_the_ratio():
    assert (
        drawn(strategy="none", ratio=0.9).tolist()
        == [[list(range(frame * PATCHES, (frame + 1) * PATCHES)) for frame in range(4)]] * 6
    )


def test_resize_keeps_every_patch_of_the_smaller_grid():
    visible = drawn(strategy="resize", ratio=0.75)
    assert visible.flatten(1).tolist() == [list(range(4 * 3 * 4))] * 6


@pytest.mark.parametrize("strategy", sorted(SAME_IN_ALL_FRAMES))
def test_strategy_over_all_of_time_is_constant_in_it_also_in_order(strategy: str):
    for clip in by_frame(drawn(strategy=strategy)):
        assert len(clip) == FRAMES
        assert len({tuple(frame) for frame in clip.values()}) == 1


@pytest.mark.parametrize("strategy", sorted(set(DRAWN_BY_PATCH) - SAME_IN_ALL_FRAMES))
def test_strategy_by_frame_chooses_in_each_frame_anew(strategy: str):
    for clip in by_frame(drawn(strategy=strategy, order="sorted")):
        assert len({tuple(frame) for frame in clip.values()}) == FRAMES


def hidden_by(strategy: str, **options: Any) -> Iterator[set[tuple[int, int]]]:
    """Rows and columns of what is hidden of the first frame of many clips."""
    grid = options.get("grid", GRID)
    patches = grid[0] * grid[1]
    for clip in by_frame(drawn(batch=200, strategy=strategy, **options), patches):
        yield {divmod(patch, grid[1]) for patch in set(range(patches)) - set(clip[0])}


@pytest.mark.parametrize("grid", [GRID, (14, 14), (2, 9)])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6, 0.9])
def test_block_is_one_rectangle_but_for_the_end_of_one_side(ratio: float, grid: tuple[int, int]):
    for hidden in hidden_by("block", ratio=ratio, grid=grid):
        assert len(hidden) == int(Fraction(str(ratio)) * grid[0] * grid[1])
        if not hidden:
            continue
        height, width = (max(places) - min(places) + 1 for places in zip(*hidden, strict=True))
        assert height * width - len(hidden) < width  # less than a row is missing
        reached, edge = set(), {min(hidden)}
        while edge:  # all of it can be walked
            reached |= edge
            steps = {(y + dy, x + dx) for y, x in edge for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))}
            edge = steps & hidden - reached
        assert reached == hidden


def test_block_reaches_every_place_and_has_several_shapes():
    blocks = list(hidden_by("block", ratio=0.2, grid=(6, 6)))
    assert set().union(*blocks) == {(y, x) for y in range(6) for x in range(6)}
    assert len({len({y for y, _ in hidden}) for hidden in blocks}) > 1


def rectangles_in(hidden: set[tuple[int, int]], height: int, width: int) -> set[tuple[int, int]]:
    """What lies in a wholly hidden rectangle of these sides."""
    covered = set()
    for y, x in hidden:
        cells = {(y + dy, x + dx) for dy in range(height) for dx in range(width)}
        if cells <= hidden:
            covered |= cells
    return covered


def test_multi_block_that_hides_too_little_hides_random_patches_beside_its_blocks():
    # one block of 4 x 4 or so of 36, while 30 are to be hidden
    options = {"num_blocks": 1, "block_area": (0.4, 0.4), "ratio": 30 / 36, "grid": (6, 6)}
    hidden = list(hidden_by("multi_block", **options))
    assert {len(cells) for cells in hidden} == {30}
    sizes = [(h, w) for h in range(3, 6) for w in range(3, 6) if 0.3 * 36 <= h * w <= 0.5 * 36]
    assert any(all(rectangles_in(cells, *size) for cells in hidden) for size in sizes)


def test_multi_block_that_hides_too_much_reveals_random_patches_inside_its_blocks():
    # the one block is the whole frame but for a rim, while only 6 are to be hidden
    options = {"num_blocks": 4, "block_area": (0.25, 0.25), "ratio": 6 / 36, "grid": (6, 6)}
    hidden = list(hidden_by("multi_block", **options))
    assert {len(cells) for cells in hidden} == {6}
    assert len({frozenset(cells) for cells in hidden}) > 100


def test_multi_block_with_just_its_area_to_hide_is_that_block():
    """At aspects of 0.75 to 1.5, 4 patches of 36 are a square of 2 x 2."""
    for hidden in hidden_by(
        "multi_block", num_blocks=1, block_area=(1 / 9, 1 / 9), ratio=4 / 36, grid=(6, 6)
    ):
        assert len(hidden) == 4
        assert rectangles_in(hidden, 2, 2) == hidden


def test_multi_block_of_v_jepa_hides_about_what_its_default_ratio_says():
    """8 blocks of 15% leave 37% on MAC's grid (methods.md 5.1), so that at 0.6 little is added to the blocks."""
    shares = []
    for hidden in hidden_by("multi_block", ratio=0.63, grid=(14, 14)):
        shares.append(len(rectangles_in(hidden, 4, 4)) / 196)
    assert 0.45 < sum(shares) / len(shares) <= 0.63


def test_frame_sees_whole_frames_in_their_order_and_each_as_often_as_the_others():
    visible = drawn(batch=3000, strategy="frame", ratio=0.5)
    kept = (visible[..., 0] // PATCHES).tolist()
    assert all(first < second for first, second in kept)
    low, high = binomial_interval(3000, Fraction(1, 2), alpha=1e-6 / 4)
    for frame in range(FRAMES):
        assert low <= sum(frame in frames for frames in kept) <= high


@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (14, 14), (6, 10)])
def test_grid_at_three_quarters_keeps_one_of_each_two_by_two(grid: tuple[int, int]):
    for clip in by_frame(drawn(strategy="grid", ratio=0.75, grid=grid), grid[0] * grid[1]):
        kept = [divmod(patch, grid[1]) for patch in clip[0]]
        cells = [(y // 2, x // 2) for y, x in kept]
        assert sorted(cells) == [(y, x) for y in range(grid[0] // 2) for x in range(grid[1] // 2)]
        assert len({(y % 2, x % 2) for y, x in kept}) == 1  # the same one of each


def test_grid_at_one_half_is_a_checkerboard_of_either_colour():
    colours = set()
    for clip in by_frame(drawn(batch=50, strategy="grid", ratio=0.5, grid=(8, 8)), 64):
        (colour,) = {sum(divmod(patch, 8)) % 2 for patch in clip[0]}
        colours.add(colour)
    assert colours == {0, 1}


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("strategy", "keeps_high"),
    [("attention_hide_low", True), ("motion", True), ("attention_hide_high", False)],
)
def test_guided_strategy_keeps_the_patches_of_one_end_of_the_scores(
    strategy: str, keeps_high: bool, ratio: float
):
    scores = scores_of(BATCH, FRAMES, seed=7)
    for clip, own in zip(by_frame(drawn(strategy=strategy, scores=scores, ratio=ratio)), scores, strict=True):
        for frame, patches in clip.items():
            ranked = sorted(range(PATCHES), key=lambda patch: float(own[frame, patch]), reverse=keeps_high)
            assert set(patches) == set(ranked[: len(patches)])


@pytest.mark.parametrize("strategy", ["attention_hide_low", "motion", "attention_hide_high"])
def test_guided_strategy_lets_chance_decide_between_equal_scores(strategy: str):
    draws = 3000
    visible = drawn(batch=draws, frames=1, strategy=strategy, scores=torch.ones(draws, 1, PATCHES))
    counts = torch.bincount(visible.flatten(), minlength=PATCHES)
    low, high = binomial_interval(draws, Fraction(visible.shape[2], PATCHES), alpha=1e-6 / PATCHES)
    assert low <= int(counts.min())
    assert int(counts.max()) <= high


def test_attention_keep_high_draws_in_proportion_to_the_scores():
    """With one patch to keep, the chance of each is its share of the attention."""
    draws = 6000
    weights = torch.arange(1, PATCHES + 1)
    scores = weights.float().expand(draws, 1, -1) / 1000
    visible = drawn(batch=draws, frames=1, strategy="attention_keep_high", scores=scores, ratio=0.98)
    assert visible.shape == (draws, 1, 1)
    counts = torch.bincount(visible.flatten(), minlength=PATCHES)
    for patch, weight in enumerate(weights.tolist()):
        low, high = binomial_interval(draws, Fraction(weight, int(weights.sum())), alpha=1e-6 / PATCHES)
        assert low <= int(counts[patch]) <= high


def binomial_interval(draws: int, rate: Fraction, alpha: float) -> tuple[int, int]:
    """Counts that a binomial leaves on either side with probability below `alpha`, by summation."""
    weights = [
        math.exp(
            math.lgamma(draws + 1) - math.lgamma(hits + 1) - math.lgamma(draws - hits + 1)
            + hits * math.log(rate) + (draws - hits) * math.log(1 - rate)
        )
        for hits in range(draws + 1)
    ]  # fmt: skip
    low = sum(tail <= alpha for tail in accumulate(weights))
    high = draws - sum(tail <= alpha for tail in accumulate(reversed(weights)))
    return low, high
