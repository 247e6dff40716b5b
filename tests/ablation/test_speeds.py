"""Times of steps: what two kinds share cancels out, what is measured stays, and bad files are named."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mac_ray.ablation import speeds
from mac_ray.ablation.budget import Calculator, equalised
from mac_ray.ablation.locate import Locator
from mac_ray.ablation.plan import Point, Row
from mac_ray.ablation.speeds import MOST_TURNS, Steps, error_of_median
from mac_ray.ablation.sweep import Budget
from mac_ray.config import Config, ConfigError, value_at
from mac_ray.config import file as config_file
from mac_ray.errors import NoRoomToTimeError
from tests.ablation.trials import locked
from tests.checkpoints import save_text_tower
from tests.jobs import wait_for


@pytest.fixture
def calculator(tmp_path: Path) -> Calculator:
    return Calculator(Locator(Path.cwd(), tmp_path, lambda *_: None), tmp_path / "speeds.json")


def test_error_of_a_median_is_its_spread_over_many_samples_and_no_burst_moves_it() -> None:
    generator = np.random.default_rng(0)
    samples = 2 + 0.3 * generator.standard_normal((4000, 25))
    stated = [error_of_median(row) for row in samples.tolist()]
    assert np.median(stated) == pytest.approx(np.median(samples, axis=1).std() / 2, rel=0.1)
    quiet = samples[0].tolist()
    assert error_of_median([*quiet, 500.0]) == pytest.approx(error_of_median(quiet), rel=0.25)


def test_kinds_of_a_plan_are_measured_together_and_those_that_come_later_keep_them(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    few = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.9"])
    many = config_file.load(None, [*tiny_overrides, "model.video.depth=6"])
    calculator.time_steps([few, many])
    kinds = list(calculator.measured.values())
    assert len(kinds) == 4  # each with an unmasked stage of its own tower
    assert max(kind.turns for kind in kinds[1:]) <= MOST_TURNS
    assert calculator.seconds(many) > 1.5 * calculator.seconds(few)  # three times the blocks
    stored = json.loads((tmp_path / "speeds.json").read_text())

    again = Calculator(calculator.locator, tmp_path / "speeds.json")
    more = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.5"])
    again.time_steps([few, more])
    now = json.loads((tmp_path / "speeds.json").read_text())
    assert {name: now[name] for name in stored} == stored
    assert len(now) == 5  # its unmasked stage was known
    assert again.seconds(few) == calculator.seconds(few)


def test_kind_that_comes_later_is_known_by_its_ratio_also_where_the_machine_has_become_busy(
    tiny_overrides: list[str], calculator: Calculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As trials of a search are timed, beside whatever trains then."""
    few = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.9"])
    more = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.5"])
    calculator.time_steps([few])
    before, quiet = calculator.seconds(few), Steps.take

    def busy(steps: Steps, turn: int, piece: tuple[float, float] | None = None) -> float:
        return 20 * quiet(steps, turn, piece)

    monkeypatch.setattr(Steps, "take", busy)
    calculator.time_steps([few, more])
    assert calculator.seconds(few) == before
    assert calculator.seconds(more) < 5 * before


def test_what_was_timed_before_an_interrupt_is_kept(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, called = speeds.in_turns, []

    def interrupted(*given: Any) -> list[float]:
        called.append(given)
        if len(called) == 2:
            raise KeyboardInterrupt
        return turns(*given)

    monkeypatch.setattr(speeds, "in_turns", interrupted)
    config = config_file.load(None, [*tiny_overrides, "model.video.depth=6"])
    other = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.5"])
    with pytest.raises(KeyboardInterrupt):
        calculator.time_steps([config, other])
    kept = json.loads((tmp_path / "speeds.json").read_text())
    assert len(kept) == 2  # the first, which others are timed against, and one of them
    calculator.time_steps([config, other])
    now = json.loads((tmp_path / "speeds.json").read_text())
    assert {name: now[name] for name in kept} == kept
    assert len(now) == 4


def test_steps_that_come_in_stairs_count_by_their_mean(
    tiny_overrides: list[str], calculator: Calculator
) -> None:
    """Whole frames are hidden one by one: the median of such a stage knows one number of them alone."""
    stairs = "masking.video={strategy: frame, ratio: {shape: linear, start: 0.0, end: 0.6}}"
    gradual, _ = calculator._kinds(config_file.load(None, [*tiny_overrides, stairs]))
    steady, _ = calculator._kinds(config_file.load(None, tiny_overrides))
    seconds = [4.0] * 22 + [2.0] * 17 + [100.0]  # and a burst of something else
    assert gradual.middle(seconds) == pytest.approx((20 * 4.0 + 15 * 2.0 + 4.0) / 36, rel=0.02)
    assert steady.middle(seconds) == 4.0
    calculator.time_steps([gradual.config])
    assert {name: speed.turns for name, speed in calculator.measured.items()}[gradual.name] == MOST_TURNS


def test_sweep_that_times_its_steps_is_waited_for_and_that_is_said(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    said: list[str] = []
    measured = threading.Event()
    calculator = Calculator(
        Locator(Path.cwd(), tmp_path, lambda what, *_: said.append(what)), tmp_path / "speeds.json"
    )

    def measure() -> None:
        calculator.time_steps([config_file.load(None, tiny_overrides)])
        measured.set()

    with locked(tmp_path / "speeds.json.lock"):
        threading.Thread(target=measure).start()
        wait_for(lambda: "waiting for another sweep that times its steps" in said)
        assert not measured.is_set()
    assert measured.wait(300)


def test_times_that_no_longer_hold_beside_new_ones_are_said_to_be_off(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    """As on a machine that had something else to do: rows of the one time and of the other would not compare."""
    few = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.9"])
    calculator.time_steps([few])
    assert "are off by" not in calculator.timing()
    path = tmp_path / "speeds.json"
    stored = json.loads(path.read_text())
    slower = list(stored)[-1]
    stored[slower]["seconds"] *= 3
    path.write_text(json.dumps(stored))
    again = Calculator(calculator.locator, path)
    again.time_steps([few])
    assert "are off by" not in again.timing()  # nothing new, nothing to hold them against
    anew = Calculator(calculator.locator, path)
    anew.time_steps([few, config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.5"])])
    off = re.search(r"are off by up to (\d+)%", anew.timing())
    assert off
    assert 40 < int(off[1]) < 90  # two thirds
    assert f"delete {path} to time all anew" in anew.timing()
    assert json.loads(path.read_text())[slower] == stored[slower]


def test_stage_whose_masking_jumps_takes_the_mean_of_its_pieces(
    tiny_overrides: list[str], calculator: Calculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not their median, which would know the longer piece alone."""

    def by_what_is_hidden(steps: Steps, turn: int, piece: tuple[float, float] | None = None) -> float:
        start, _ = piece or steps.kind.pieces[0]
        section = steps.kind.config.stage_masking(steps.kind.leg.stage).video
        return 1.0 if value_at(section.ratio, start) > 0.5 else 4.0

    monkeypatch.setattr(Steps, "take", by_what_is_hidden)
    long = [*tiny_overrides, "stages.0.epochs=20", "stages.1.epochs=0.5"]
    jump = "masking.video.ratio={shape: step, start: 0.0, end: 0.9, at: 0.7}"
    dear, cheap, both = (
        config_file.load(None, [*long, ratio])
        for ratio in ("masking.video.ratio=0.0", "masking.video.ratio=0.9", jump)
    )
    calculator.time_steps([dear, cheap, both])
    most, least = calculator.seconds(dear), calculator.seconds(cheap)
    assert most > 1.3 * least  # or there would be nothing to tell apart
    assert calculator.seconds(both) == pytest.approx(0.7 * most + 0.3 * least)


def test_few_steps_tell_costly_runs_from_cheap_ones_and_keep_nothing(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    few = config_file.load(None, [*tiny_overrides, "masking.video.ratio=0.9"])
    many = config_file.load(None, [*tiny_overrides, "model.video.depth=6", "stages.0.epochs=200"])
    assert calculator.seconds_by_few_steps(many) > 4 * calculator.seconds_by_few_steps(few)
    assert not calculator.measured
    assert not (tmp_path / "speeds.json").exists()


def test_steps_know_the_words_of_their_tokeniser_and_hide_some_of_them(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    """A tokeniser from elsewhere has more entries than a tower would be built with, and a [MASK] of its own."""
    fillers = [f"filler{number}" for number in range(2000)]
    source = save_text_tower(tmp_path / "distilbert", [*fillers, "a", "red", "circle", "square"])
    given = [*tiny_overrides, f"model.text.tokenizer={source}", "objectives.masked_language={}"]
    config = config_file.load(None, [*given, "masking.text.ratio=0.6"])
    steps = Steps(calculator._kinds(config)[0], lambda *_: None)
    steps.take(1)
    inputs = steps.hide(steps.batches[0], steps.batches.rows, 0)
    assert int(inputs.caption.max()) > 2000
    assert steps.arm.objectives.positions.positions(inputs)["masked_language"] > 0


def test_unmasked_stage_is_one_kind_whatever_its_ratio_would_be(
    tiny_overrides: list[str], calculator: Calculator
) -> None:
    none = [*tiny_overrides, "masking.video.strategy=none", "masking.text.strategy=none"]
    calculator.time_steps(
        [config_file.load(None, [*none, f"masking.video.ratio={ratio}"]) for ratio in (0.1, 0.9)]
    )
    assert len(calculator.measured) == 1


def test_equal_seconds_give_each_row_the_time_of_the_baseline_by_the_times_that_are_kept(
    tiny_overrides: list[str], calculator: Calculator
) -> None:
    longer = [*tiny_overrides, "stages.0.epochs=40", "stages.1.epochs=20"]
    configs = {
        "deep": config_file.load(None, [*longer, "model.video.depth=6"]),
        "most": config_file.load(None, [*longer, "masking.video.ratio=0.9"]),
    }
    points = [Point(Row(label, {}), 0, config) for label, config in configs.items()]
    scaled = equalised(points, points[0].row, Budget(equal="seconds"), calculator)
    assert calculator.seconds(scaled[1].config) == pytest.approx(
        calculator.seconds(configs["deep"]), rel=0.02
    )
    assert scaled[1].config.stages[0].epochs > configs["most"].stages[0].epochs
    assert "relative to it are known to +-" in calculator.timing()


def test_timing_says_what_it_leaves_out_of_several_workers(
    tiny_overrides: list[str], calculator: Calculator
) -> None:
    calculator.time_steps([config_file.load(None, [*tiny_overrides, "cluster.workers=1"])])
    assert "workers" not in calculator.timing()
    calculator.time_steps([config_file.load(None, [*tiny_overrides, "cluster.workers=2"])])
    assert "of up to 2 workers of a run, one was timed" in calculator.timing()


@pytest.mark.parametrize("content", ["[1]", '{"a": 0.1}', '{"a": {"seconds": 1}}', "{"])
def test_file_of_speeds_that_is_none_is_one_sentence(
    content: str, tmp_path: Path, tiny: Config, calculator: Calculator
) -> None:
    (tmp_path / "speeds.json").write_text(content)
    with pytest.raises(ConfigError, match=r"speeds.json does not hold the times of steps .* restore it"):
        calculator.seconds(tiny)


def test_steps_of_gpus_are_not_timed_where_there_is_none(
    tiny_overrides: list[str], calculator: Calculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"no GPU, while cluster.gpus_per_worker is 1; .* where runs train"):
        calculator.seconds(config_file.load(None, [*tiny_overrides, "cluster.gpus_per_worker=1"]))


def test_steps_that_do_not_fit_in_a_gpu_beside_others_are_a_sentence(
    tiny: Config, tmp_path: Path, calculator: Calculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(speeds, "Steps", burst)  # as no GPU is here
    with pytest.raises(NoRoomToTimeError, match="a GPU's memory is not enough"):
        calculator.time_steps([tiny])
    assert not (tmp_path / "speeds.json").exists()
