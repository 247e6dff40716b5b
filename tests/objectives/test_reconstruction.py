"""Hidden patches predicted: the right targets at the right places, and a teacher that follows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mac_ray.config import Reconstruction, Schedule
from mac_ray.model.views import Inputs
from mac_ray.objectives.reconstruction import ReconstructionObjective, hidden_patches
from tests.objectives.small import PATCH, PATCHES, batch, towers, views_of

GRID = 4
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # mean and deviation of each channel


def objective_of(section: Reconstruction | None = None) -> ReconstructionObjective:
    section = section or Reconstruction(depth=1, width=16)
    return ReconstructionObjective(section, towers(), torch.Generator().manual_seed(0))


def hidden_by_hand(inputs: Inputs) -> list[tuple[int, int, int, int]]:
    """(sample, place among its hidden patches, frame, patch) of every hidden patch."""
    found = []
    for b, clip in enumerate(inputs.visible.flatten(1).tolist()):
        hidden = [n for n in range(inputs.clips.shape[1] * PATCHES) if n not in clip]
        found += [(b, m, *divmod(n, PATCHES)) for m, n in enumerate(hidden)]
    return found


def hidden_of(inputs: Inputs) -> Tensor:
    return hidden_patches(inputs.visible, inputs.clips.shape[1] * PATCHES)


def pixels_by_hand(inputs: Inputs, b: int, f: int, patch: int) -> Tensor:
    row, column = divmod(patch, GRID)
    part = inputs.clips[b, f, :, PATCH * row :, PATCH * column :][:, :PATCH, :PATCH].double() / 255
    normalised = [(part[c] - mean) / deviation for c, (mean, deviation) in enumerate(IMAGENET)]
    pixels = torch.cat([channel.flatten() for channel in normalised])
    spread = ((pixels - pixels.mean()) ** 2).sum() / len(pixels)
    return (pixels - pixels.mean()) / (spread + 1e-6) ** 0.5


def test_hidden_patches_are_the_others_in_raster_order():
    inputs = batch()
    hidden = hidden_of(inputs)
    assert hidden.shape == (5, 3 * (PATCHES - 6))
    for b, m, f, patch in hidden_by_hand(inputs):
        assert hidden[b, m] == f * PATCHES + patch


def test_patches_of_dropped_frames_are_hidden_too():
    inputs = batch()
    inputs = replace(inputs, visible=inputs.visible[:, [0, 2]])
    hidden = hidden_of(inputs)
    assert hidden.shape == (5, 3 * PATCHES - 2 * 6)
    assert set(range(PATCHES, 2 * PATCHES)) < set(hidden[0].tolist())
    objective = objective_of()
    assert objective.positions(inputs) == hidden.numel()
    assert torch.isfinite(objective(towers(), views_of(inputs), inputs))


def test_pixel_loss_is_the_mean_square_error_of_hidden_patches_each_normalised():
    model, objective, inputs = towers(), objective_of(), batch()
    views = views_of(inputs)
    predicted = objective.predicted(views.patches, inputs.visible, hidden_of(inputs))
    places = hidden_by_hand(inputs)
    errors = [
        float(((predicted.detach()[b, m] - pixels_by_hand(inputs, b, f, patch)) ** 2).mean())
        for b, m, f, patch in places
    ]
    assert objective.positions(inputs) == len(places)
    assert objective(model, views, inputs).item() == pytest.approx(sum(errors), rel=1e-5)


def test_pixel_loss_does_not_ask_for_what_is_visible():
    model, objective, inputs = towers(), objective_of(), batch(size=1, frames=1)
    views = views_of(inputs)
    before = objective(model, views, inputs)
    row, column = divmod(int(inputs.visible[0, 0, 0]), GRID)
    inputs.clips[0, 0, :, PATCH * row, PATCH * column] ^= 255
    assert torch.equal(objective(model, views, inputs), before)
    row, column = divmod(int(hidden_of(inputs)[0, 0]), GRID)
    inputs.clips[0, 0, :, PATCH * row, PATCH * column] ^= 255
    assert not torch.equal(objective(model, views, inputs), before)


def test_pixel_loss_of_patches_of_one_colour_is_finite():
    model, objective, inputs = towers(), objective_of(), batch()
    flat = replace(inputs, clips=torch.full_like(inputs.clips, 7))
    assert torch.isfinite(objective(model, views_of(flat), flat))


def test_prediction_does_not_depend_on_the_order_of_what_is_visible():
    """Each token is told its own place, whichever the masker put first."""
    objective, inputs = objective_of(), batch(size=2, frames=2)
    patches = views_of(inputs).patches
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    by_frame = patches[:, 1:].unflatten(1, (2, 6))[:, :, order].flatten(1, 2)
    hidden = hidden_of(inputs)
    predicted = objective.predicted(patches, inputs.visible, hidden)
    shuffled = objective.predicted(
        torch.cat((patches[:, :1], by_frame), dim=1), inputs.visible[:, :, order], hidden
    )
    torch.testing.assert_close(shuffled, predicted, rtol=1e-4, atol=1e-5)


def test_prediction_differs_between_places_and_between_frames():
    objective, inputs = objective_of(), batch(size=1, frames=2)
    same = inputs.visible[:, :1].expand(-1, 2, -1) + PATCHES * torch.arange(2)[:, None]
    inputs = replace(inputs, visible=same)
    predicted = objective.predicted(views_of(inputs).patches, inputs.visible, hidden_of(inputs))
    assert (predicted[0, 0] - predicted[0, 1]).abs().max() > 1e-2
    assert (predicted[0, 0] - predicted[0, PATCHES - 6]).abs().max() > 1e-2


# ---------------------------------------------------------------- the teacher

LATENT = Reconstruction(target="latent", depth=1, width=16, teacher_momentum=0.9)


def test_latent_loss_is_the_mean_distance_to_normalised_features_of_the_whole_clip():
    model, objective, inputs = towers(), objective_of(LATENT), batch()
    views = views_of(inputs)
    predicted = objective.predicted(views.patches, inputs.visible, hidden_of(inputs))
    whole = model.video_model(inputs.clips).double()  # the teacher starts as the tower
    errors = []
    for b, m, f, patch in hidden_by_hand(inputs):
        feature = whole[b, 1 + f * PATCHES + patch]
        feature = (feature - feature.mean()) / (feature.var(unbiased=False) + 1e-5) ** 0.5
        errors.append((predicted[b, m] - feature).abs().mean().item())
    assert objective(model, views, inputs).item() == pytest.approx(sum(errors), rel=1e-4)


def test_teacher_gets_no_gradient_and_all_else_does():
    model, objective, inputs = towers(), objective_of(LATENT), batch()
    objective(model, model(inputs), inputs).backward()
    assert objective.teacher is not None
    teacher = {f"teacher.{name}" for name, _ in objective.teacher.named_parameters()}
    assert teacher
    assert {name for name, value in objective.named_parameters() if value.grad is None} == teacher
    assert all(parameter.grad is not None for parameter in model.video_model.parameters())


@pytest.mark.parametrize(
    ("momentum", "progress", "kept"),
    [(0.9, 0.3, 0.9), (Schedule(shape="linear", start=0.5, end=1.0), 0.25, 0.625)],
)
def test_teacher_follows_by_what_the_momentum_leaves(
    momentum: float | Schedule, progress: float, kept: float
):
    objective = objective_of(LATENT.model_copy(update={"teacher_momentum": momentum}))
    tower, target = towers(), towers(seed=1)
    assert objective.teacher is not None
    for step in (1, 2):
        objective.after_step(target, progress)
        for name, average in objective.teacher.named_parameters():
            start, goal = tower.video_model.get_parameter(name), target.video_model.get_parameter(name)
            expected = kept**step * start + (1 - kept**step) * goal
            torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6, msg=name)
