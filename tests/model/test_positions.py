"""Position embeddings of other sizes, against values worked out by hand and against timm."""

import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from mac_ray.model.positions import Inflation, inflate_time, resize_grid


def times(*values: float) -> torch.Tensor:
    """One value per frame, and its tenfold beside it."""
    return torch.tensor([[[value, 10.0 * value] for value in values]])


@pytest.mark.parametrize(
    ("inflation", "expected"),
    [
        ("zeros", times(1, 2, 4, 0, 0)),
        ("nearest", times(1, 1, 2, 2, 4)),
        ("linear", times(1, 1.5, 2, 3, 4)),
    ],
)
def test_inflated_time_is_padded_repeated_or_interpolated(
    inflation: Inflation, expected: torch.Tensor
) -> None:
    torch.testing.assert_close(inflate_time(times(1, 2, 4), 5, inflation), expected)


@pytest.mark.parametrize("inflation", ["nearest", "linear"])
def test_one_frame_stretched_is_repeated(inflation: Inflation) -> None:
    torch.testing.assert_close(inflate_time(times(3), 4, inflation), times(3, 3, 3, 3))


@pytest.mark.parametrize("inflation", ["zeros", "nearest", "linear"])
def test_fewer_frames_are_the_first_ones(inflation: Inflation) -> None:
    assert torch.equal(inflate_time(times(1, 2, 4), 2, inflation), times(1, 2))


@pytest.mark.parametrize("frames", [2, 3, 6])
def test_inflated_time_shares_no_memory_with_what_it_came_from(frames: int) -> None:
    given = times(1, 2, 4)
    inflate_time(given, frames, "zeros").fill_(7)
    assert torch.equal(given, times(1, 2, 4))


@pytest.mark.parametrize("grid", [(7, 7), (2, 2), (3, 5)])
def test_resized_grid_is_that_of_timm(grid: tuple[int, int]) -> None:
    given = torch.randn(1, 1 + 16, 6, generator=torch.Generator().manual_seed(0))
    expected = resample_abs_pos_embed(given, list(grid), [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(resize_grid(given, grid), expected)


def test_grid_of_the_same_size_is_kept_to_the_bit() -> None:
    given = torch.randn(1, 1 + 6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize_grid(given, (2, 3), given=(2, 3)), given)


def test_resized_ramp_goes_the_way_of_its_own_axis() -> None:
    rows = torch.arange(4.0).repeat_interleave(4)
    columns = torch.arange(4.0).repeat(4)
    given = torch.cat([torch.full((1, 2), -1.0), torch.stack([rows, columns], dim=1)])[None]
    resized = resize_grid(given, (8, 8))
    assert torch.equal(resized[0, 0], torch.tensor([-1.0, -1.0]))
    places = resized[0, 1:].reshape(8, 8, 2)
    assert (places[1:, :, 0] > places[:-1, :, 0]).all()
    assert (places[:, 1:, 1] > places[:, :-1, 1]).all()
    torch.testing.assert_close(places[..., 0], places[:, :1, 0].expand(8, 8))


def test_positions_that_are_no_grid_are_refused_by_their_number() -> None:
    with pytest.raises(ValueError, match=r"17 positions.*4 x 4"):
        resize_grid(torch.zeros(1, 18, 4), (2, 2))
