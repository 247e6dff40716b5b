"""What runs cost before they are run, against what they cost when they are, and budgets made equal."""

from pathlib import Path

import numpy as np
import pytest

from mac_ray.ablation.budget import Calculator, TooLittleError, equalised, with_epochs
from mac_ray.ablation.locate import Locator
from mac_ray.ablation.plan import Point, Row
from mac_ray.ablation.sweep import Budget
from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.training.plan import legs
from tests.checkpoints import save_text_tower
from tests.pictures import write_pictures
from tests.test_encoder import saved_run
from tests.training.whole_runs import metrics_of, trained


@pytest.fixture
def calculator(tmp_path: Path) -> Calculator:
    return Calculator(Locator(Path.cwd(), tmp_path, lambda *_: None), tmp_path / "speeds.json")


def points_of(configs: dict[str, Config]) -> list[Point]:
    return [Point(Row(label, {}), seed, config) for label, config in configs.items() for seed in (0, 1)]


def assert_planned_is_counted(calculator: Calculator, config: Config, runs: Path) -> None:
    points = metrics_of(trained(config, runs).folder.path)
    counted = max(value for (name, _), value in points.items() if name == "cost/flops")
    # captions are padded to the longest of a batch, which is a guess beforehand
    assert calculator.flops(config) == pytest.approx(counted, rel=0.02)


def test_flops_counted_before_are_those_counted_in_training(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    ways = (
        [],
        ["objectives.reconstruction={}", "masking.video.ratio=0.75"],
        ["objectives.language={}", "masking.text.strategy=drop", "masking.text.ratio=0.5"],
        ["objectives.masked_language={}", "masking.text.ratio={shape: linear, start: 0.0, end: 0.6}"],
        ["masking.video.ratio={shape: step, start: 0.9, end: 0.0, at: 0.5}"],
    )
    for number, overrides in enumerate(ways):
        config = config_file.load(None, [*tiny_overrides, *overrides])
        assert_planned_is_counted(calculator, config, tmp_path / str(number))


def test_words_that_a_checkpoint_has_beyond_its_tokeniser_cost_what_they_take(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    """Language objectives score all that the tower embeds."""
    source = str(save_text_tower(tmp_path / "distilbert", ["a", "red"], vocab_size=700))
    given = [*tiny_overrides, f"model.text.pretrained={source}", "objectives.language={}"]
    config = config_file.load(None, given)
    assert_planned_is_counted(calculator, config, tmp_path / "run")


def test_runs_from_another_run_cost_what_they_take_with_its_tokeniser(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    source = save_text_tower(tmp_path / "distilbert", ["a", "red"], vocab_size=700)
    given = [*tiny_overrides, f"model.text.pretrained={source}"]
    first, _ = saved_run(config_file.load(None, given), tmp_path / "first")
    config = config_file.load(
        None, [*tiny_overrides, f"model.pretrained={first.path}", "objectives.language={}"]
    )
    assert_planned_is_counted(calculator, config, tmp_path / "run")


def test_texts_cost_what_those_of_their_stage_have_without_what_pads_them(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    """Alt texts before paragraphs, and lengths that differ within a batch: predicted is what is written alone."""
    generator = np.random.default_rng(0)

    def texts(median: int, count: int) -> list[tuple[str, ...]]:
        lengths = np.minimum(40, generator.lognormal(np.log(median), 0.5, count).astype(int) + 1)
        return [(" ".join(f"w{n}" for n in generator.integers(0, 300, length)),) for length in lengths]

    few = {split: texts(30, 8) for split in ("val", "test")}
    alt = write_pictures(tmp_path / "alt", {"train": texts(4, 300)})
    long = write_pictures(tmp_path / "long", {"train": texts(30, 60), **few})
    given = [one for one in tiny_overrides if not one.startswith(("stages.", "data.sets."))]
    given += [
        f"data.sets={{alt: {{kind: manifest, path: {alt}}}, long: {{kind: manifest, path: {long}}}}}",
        "evaluation.data=long",
        "evaluation.every_epochs=100",
        "data.max_caption_tokens=64",
        "stages=[{name: alt, data: [alt], epochs: 4, batch_size: 32, frames: 1},"
        "{name: mixed, data: [alt, long], mix: {alt: 1, long: 3}, epochs: 2, batch_size: 32, frames: 1},"
        "{name: long, data: [long], epochs: 8, batch_size: 16, frames: 2}]",
    ]
    for number, overrides in enumerate(([], ["objectives.language={}"], ["objectives.masked_language={}"])):
        assert_planned_is_counted(
            calculator, config_file.load(None, [*given, *overrides]), tmp_path / str(number)
        )


def test_cost_does_not_hang_on_what_was_asked_before(
    tiny_overrides: list[str], tmp_path: Path, calculator: Calculator
) -> None:
    def fresh() -> Calculator:
        return Calculator(calculator.locator, tmp_path / "speeds.json")

    config = config_file.load(None, tiny_overrides)
    sets = (
        "data.sets.wordy={kind: moving_shapes, train: 26, val: 8, test: 8, frames: 4, size: 32, objects: 4}"
    )
    wordy = config_file.load(None, [*tiny_overrides, sets, "stages.0.data=[wordy]", "stages.1.data=[wordy]"])
    here = config_file.load(None, [*tiny_overrides, sets])
    assert {calculator.flops(config) for _ in range(5)} == {fresh().flops(config)}
    assert calculator.flops(here) < calculator.flops(wordy) == fresh().flops(wordy)


def test_equal_flops_give_cheap_rows_more_epochs_and_all_rows_one_cost(
    tiny_overrides: list[str], calculator: Calculator
) -> None:
    longer = [*tiny_overrides, "stages.0.epochs=40", "stages.1.epochs=20"]
    configs = {
        "none": config_file.load(None, [*longer, "masking.video.strategy=none"]),
        "most": config_file.load(None, [*longer, "masking.video.ratio=0.9"]),
    }
    points = points_of(configs)
    scaled = equalised(points, points[0].row, Budget(equal="flops"), calculator)
    costs = [calculator.flops(point.config) for point in scaled]
    assert costs == pytest.approx([calculator.flops(configs["none"])] * 4, rel=0.02)
    assert scaled[0].config.stages == configs["none"].stages
    factors = {
        now.epochs / was.epochs
        for now, was in zip(scaled[2].config.stages, configs["most"].stages, strict=True)
    }
    assert max(factors) == pytest.approx(min(factors), rel=1e-3)  # a recipe keeps its proportions
    assert min(factors) > 1
    assert scaled[2].config.stages == scaled[3].config.stages  # whatever the seed


def test_equal_samples_leave_epochs_alone_unless_an_amount_is_given(
    tiny: Config, calculator: Calculator
) -> None:
    points = points_of({"a": tiny})
    assert equalised(points, points[0].row, Budget(), calculator) == points
    (scaled, _) = equalised(points, points[0].row, Budget(amount=2 * 11 * 8), calculator)
    assert scaled.config.stages[0].epochs == pytest.approx(2 * tiny.stages[0].epochs)


def test_budget_that_is_next_to_nothing_is_refused_and_not_trained(
    tiny: Config, calculator: Calculator
) -> None:
    points = points_of({"a": tiny})
    with pytest.raises(
        ConfigError, match=r"a budget of 24 flops a run is \S+ of what row 'a' takes .*too little"
    ):
        equalised(points, points[0].row, Budget(equal="flops", amount=24), calculator)
    steps = [leg.num_steps for leg in legs(tiny, calculator.locator.data(tiny).train_sizes)]
    one_of_each = sum(steps) / min(steps) * tiny.stages[0].batch_size
    assert len(equalised(points, points[0].row, Budget(amount=1.01 * one_of_each), calculator)) == len(points)
    with pytest.raises(TooLittleError, match="too little for a step of each stage"):
        equalised(points, points[0].row, Budget(amount=0.5 * one_of_each), calculator)


def test_baseline_is_itself_at_its_own_budget_however_its_epochs_are_written(
    tiny: Config, calculator: Calculator
) -> None:
    """It may be trained already; and a stage of less than a step makes one."""
    first, last = tiny.stages
    stages = (
        first.model_copy(update={"epochs": 10 / 3}),
        last.model_copy(update={"epochs": 0.01}),
    )
    base = tiny.model_copy(update={"stages": stages})
    points = points_of({"none": base})
    assert equalised(points, points[0].row, Budget(equal="flops"), calculator) == points


def test_epochs_of_huge_sets_are_scaled_as_exactly_as_those_of_small_ones(tiny: Config) -> None:
    stages = tuple(stage.model_copy(update={"epochs": 0.001}) for stage in tiny.stages)
    scaled = with_epochs(tiny.model_copy(update={"stages": stages}), 0.34567)
    assert [stage.epochs for stage in scaled.stages] == [pytest.approx(0.00034567, rel=1e-4)] * len(stages)


def test_seconds_are_measured_once_and_read_again(
    tiny: Config, calculator: Calculator, tmp_path: Path
) -> None:
    first = calculator.seconds(tiny)
    assert first > 0
    stored = (tmp_path / "speeds.json").read_text()
    again = Calculator(calculator.locator, tmp_path / "speeds.json")
    assert again.seconds(tiny) == first
    assert (tmp_path / "speeds.json").read_text() == stored
    assert again.seconds(with_epochs(tiny, 3.0)) == pytest.approx(3 * first, rel=0.2)
