"""Whole small runs with pretext tasks: the same twice, resumed, in pieces and on several ranks."""

import math
from pathlib import Path

import pytest

from mac_ray.config import file as config_file
from mac_ray.training import checkpoint
from mac_ray.training.distributed import Worker
from mac_ray.training.loop import train
from mac_ray.training.start import PreparedRun
from tests.runs import TINY_STEPS, metrics_of
from tests.training.whole_runs import (
    SMOOTH,
    assert_close,
    assert_same,
    first_weights,
    open_journal,
    prepared,
    trained,
    trained_on,
)

MASKED_STEPS = 8  # of TINY_STEPS; then the stage without masks, and without what needs them
ALL = [
    "objectives.sigmoid={weight: 0.5}",
    "objectives.reconstruction={target: latent, depth: 1, width: 16}",
    "objectives.reconstruction.teacher_momentum={shape: linear, start: 0.8, end: 1}",
    "objectives.masked_language={context: video, weight: {shape: linear, start: 0, end: 1}}",
    "objectives.language={depth: 1}",
    "objectives.matching={depth: 1, group_size: 2}",  # a batch of 8 is cut into 4 and 4, or into 2, 2, 2 and 2
    "masking.text.ratio=0.4",
]
# both stages mask, and heads come, go and go on between them
OTHERS_LATER = [
    "stages.1.masking={}",
    "stages.1.objectives={contrastive: null, masked_language: null, reconstruction: {weight: 2}}",
]
ONLY_POSITIONS = [
    "objectives.contrastive=null",
    "objectives.reconstruction={target: latent, depth: 1, teacher_momentum: 0.5}",
    "objectives.language={depth: 1}",
    "stages.1.masking={}",
    "stages.1.objectives={language: null}",
]
ONLY_SIGMOID = ["objectives.contrastive=null", "objectives.sigmoid={}"]
NAMES = ("contrastive", "sigmoid", "reconstruction", "masked_language", "language", "matching")


def losses_of(run: PreparedRun) -> dict[str, set[int]]:
    """The steps at which each objective's loss was logged; all of them log every step."""
    points = [point for point in metrics_of(run.folder.path) if point[0].startswith("train/loss/")]
    steps = {name: {step for point, step in points if point == f"train/loss/{name}"} for name in NAMES}
    return {name: found for name, found in steps.items() if found}


@pytest.mark.parametrize("target", ["pixels", "latent"])
@pytest.mark.parametrize(
    "ratio", ["{shape: linear, start: 0.0, end: 0.6}", "{shape: step, start: 0.6, end: 0.0}"]
)
def test_reconstruction_is_trained_where_some_steps_hide_nothing(
    tiny_overrides: list[str], tmp_path: Path, target: str, ratio: str
) -> None:
    """Which have nothing to reconstruct."""
    given = [f"objectives.reconstruction={{target: {target}, depth: 1}}", f"masking.video.ratio={ratio}"]
    config = config_file.load(None, [*tiny_overrides, *given, "tracking.log_every=1"])
    run = trained(config, tmp_path)
    losses = {
        step: value
        for (name, step), value in metrics_of(run.folder.path).items()
        if name == "train/loss/reconstruction"
    }
    assert losses
    assert all(math.isfinite(value) for value in losses.values())
    assert max(losses.values()) > 0


def test_train_with_all_objectives_twice_is_bit_identical(tiny_overrides: list[str], tmp_path: Path) -> None:
    config = config_file.load(None, [*tiny_overrides, *ALL, "tracking.log_every=1"])
    one = trained(config, tmp_path / "one")
    assert_same(one, trained(config, tmp_path / "two"))
    points = metrics_of(one.folder.path)
    for step in range(1, MASKED_STEPS + 1):
        made = (step - 1) / MASKED_STEPS
        weights = dict.fromkeys(NAMES, 1.0) | {"sigmoid": 0.5, "masked_language": made}
        parts = sum(weight * points[f"train/loss/{name}", step] for name, weight in weights.items())
        assert points["train/loss", step] == pytest.approx(parts, rel=1e-5), step
    masked, every = set(range(1, MASKED_STEPS + 1)), set(range(1, TINY_STEPS + 1))
    assert losses_of(one) == dict.fromkeys(NAMES, masked) | {"contrastive": every, "sigmoid": every}


@pytest.mark.parametrize("later", [[], OTHERS_LATER], ids=["fewer later", "others later"])
def test_train_with_all_objectives_stopped_after_every_step_continues_exactly(
    tiny_overrides: list[str], tmp_path: Path, later: list[str]
) -> None:
    """Teacher, heads, temperatures and their moments are in the checkpoint, and cross the stages' border."""
    config = config_file.load(None, [*tiny_overrides, *ALL, *later, "tracking.log_every=1"])
    stopped = prepared(config, tmp_path / "stopped")
    with open_journal(stopped) as journal:
        stopped.folder.stop_request.touch()
        while train(stopped.config, stopped.folder, Worker(), journal) == "interrupted":
            pass
    assert_same(stopped, trained(config, tmp_path / "whole"))


def test_checkpoint_holds_a_teacher_that_is_not_the_tower(tiny_overrides: list[str], tmp_path: Path) -> None:
    config = config_file.load(None, [*tiny_overrides, *ONLY_POSITIONS])
    run = trained(config, tmp_path)
    newest = checkpoint.latest(run.folder.checkpoints)
    assert newest is not None
    weights, state = checkpoint.load(newest)
    prefix = "positions.objectives.reconstruction.teacher."
    teacher = {name.removeprefix(prefix) for name in state["objectives"] if name.startswith(prefix)}
    assert teacher == {
        name.removeprefix("video_model.") for name in weights if name.startswith("video_model.")
    }
    average, now = (
        state["objectives"][f"{prefix}cls_token"],
        weights["video_model.cls_token"],
    )
    first = first_weights(run)["video_model.cls_token"]
    # on the way from where both began to where the tower has come
    assert 0.01 < (average - first).norm() / (now - first).norm() < 0.99


def test_train_with_all_objectives_in_pieces_equals_train_at_once(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    smooth = [*tiny_overrides, *SMOOTH, *ALL]
    whole = trained(config_file.load(None, smooth), tmp_path / "whole")
    cut = [*smooth, "stages.0.accumulate=4", "stages.1.accumulate=3"]
    assert_close(whole, trained(config_file.load(None, cut), tmp_path / "pieces"))


@pytest.mark.parametrize(
    ("num_ranks", "overrides"),
    [
        (2, [*ALL, *OTHERS_LATER, "stages.0.accumulate=2"]),
        # matching's neighbours would be torn apart by shares of 3, 3 and 2
        (3, [*ALL, *OTHERS_LATER, "objectives.matching=null"]),
        (2, ONLY_POSITIONS),
        (2, ONLY_SIGMOID),
    ],
    ids=["all, in pieces", "all but matching", "only positions", "only sigmoid"],
)
def test_train_with_pretext_tasks_on_several_ranks_equals_one(
    tiny_overrides: list[str], tmp_path: Path, num_ranks: int, overrides: list[str]
) -> None:
    config = config_file.load(None, [*tiny_overrides, *SMOOTH, *overrides])
    assert_close(trained(config, tmp_path / "alone"), trained_on(num_ranks, config, tmp_path / "together"))


def test_cost_of_pretext_tasks_is_part_of_the_run_s(tiny_overrides: list[str], tmp_path: Path) -> None:
    flops = []
    for number, given in enumerate(["{reconstruction: {}}", "{}"]):
        config = config_file.load(None, [*tiny_overrides, f"stages.0.objectives={given}"])
        run = trained(config, tmp_path / str(number))
        flops.append(metrics_of(run.folder.path)["cost/flops", TINY_STEPS])
    # decoder of width 16, 4 blocks: 1 + 4 * 16 tokens, of which 1 + 4 * 7 are the tower's and 4 * 9 are predicted
    linear = 29 * 32 * 16 + 36 * 16 * 192 + 4 * 12 * 16**2 * 65
    products = 4 * 2 * 16 * 65**2
    assert flops[0] - flops[1] == 3 * 2 * (linear + products) * 8 * MASKED_STEPS
