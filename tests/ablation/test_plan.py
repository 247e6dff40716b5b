"""Sweeps laid out: which runs there are, in which order, and what is refused before anything starts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mac_ray.ablation.plan import baseline_of, expand, rows_of, short_names, written
from mac_ray.ablation.reference import published_rows, unmatched
from mac_ray.ablation.search import require_sound
from mac_ray.ablation.sweep import Sweep
from mac_ray.ablation.table import require_metric
from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.training.folder import IN_NAME

RATIO, STRATEGY = "masking.video.ratio", "masking.video.strategy"


def sweep(**given: Any) -> Sweep:
    return Sweep.model_validate(
        {"name": "s", "question": "?", "base": "configs/ablation.yaml", "seeds": (3, 5), **given}
    )


def test_factors_are_crossed_and_each_row_is_run_with_each_seed() -> None:
    points = expand(sweep(factors={RATIO: (0.3, 0.9), STRATEGY: ("random", "tube")}))
    found = [
        (point.config.masking.video.ratio, point.config.masking.video.strategy, point.config.seed)
        for point in points
    ]
    assert found == [
        (ratio, strategy, seed) for ratio in (0.3, 0.9) for strategy in ("random", "tube") for seed in (3, 5)
    ]
    assert points[0].row.label == "video.ratio=0.3, video.strategy=random"


def test_labels_say_as_much_of_a_path_as_tells_it_from_the_others() -> None:
    both = {"model.video.depth": (1, 2), "model.text.depth": (1, 2)}
    assert rows_of(sweep(factors=both))[1].label == "video.depth=1, text.depth=2"
    stage = {RATIO: (0.3, 0.6), f"stages.0.{RATIO}": (0.6, 0.9)}
    assert rows_of(sweep(factors=stage))[0].label == "masking.video.ratio=0.3, 0.masking.video.ratio=0.6"
    assert short_names(["a.b.c", "b.c", "x"]) == {"a.b.c": "a.b.c", "b.c": "b.c", "x": "x"}


def test_labels_show_no_password() -> None:
    roots = ("s3://key:sesame@a/clips", "s3://b/clips")
    labels = [row.label for row in rows_of(sweep(factors={"data.sets.more.root": roots}))]
    assert labels == ["root=s3://***@a/clips", "root=s3://b/clips"]


def test_rows_of_one_label_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"two rows are called 'learning_rate=0\.001', of optimizer\.learning_rate"
    ):
        expand(sweep(factors={"optimizer.learning_rate": (0.001, 0.00100000049)}))
    with pytest.raises(
        ConfigError, match=r"two rows are called 'video\.ratio=0', of masking\.video\.ratio 0 and 0\.0"
    ):
        expand(sweep(factors={RATIO: (0, 0.0)}))


def test_variants_stand_under_their_names_and_cross_with_factors() -> None:
    rows = rows_of(sweep(variants={"a": {}, "b": {"masking.text.ratio": 0.5}}, factors={RATIO: (0.3, 0.9)}))
    assert [row.label for row in rows] == [f"{name}, video.ratio={r}" for name in "ab" for r in (0.3, 0.9)]
    assert rows[2].values == {"masking.text.ratio": 0.5, RATIO: 0.3}


def test_variants_as_pairs_are_those_of_a_dict() -> None:
    pairs = [("a", {}), ("b", {"masking.text.ratio": 0.5})]
    assert sweep(variants=pairs) == sweep(variants=dict(pairs))
    assert [row.label for row in rows_of(sweep(variants=pairs))] == ["a", "b"]


def test_overrides_reach_every_run_and_a_row_has_the_last_word() -> None:
    points = expand(sweep(overrides={RATIO: 0.1, "data.image_size": 32}, factors={RATIO: (0.3, 0.9)}))
    assert [point.config.masking.video.ratio for point in points] == [0.3, 0.3, 0.9, 0.9]
    assert {point.config.data.image_size for point in points} == {32}


@pytest.mark.parametrize(
    "given",
    [
        {"factors": {"objectives.language": (None, {}), "objectives.language.weight": (0.1, 1.0)}},
        {
            "variants": {"low": {"objectives.language.weight": 0.1}, "high": {}},
            "factors": {"objectives.language": ({}, {"weight": 0.5})},
        },
        {"variants": {"a": {}, "b": {"objectives.language.weight": 0.1, "objectives.language": {}}}},
    ],
)
def test_row_that_sets_a_section_and_what_is_in_it_is_refused(given: dict[str, Any]) -> None:
    """One would replace the other, and the row train something else than it is called."""
    with pytest.raises(
        ConfigError, match=r"sets both objectives\.language and objectives\.language\.weight.*; give"
    ):
        expand(sweep(**given))


def test_rows_may_differ_in_what_they_train_on() -> None:
    points = expand(sweep(factors={"data.sets.shapes.train": (100, 200)}))
    assert [point.config.data.sets["shapes"].train for point in points] == [100, 100, 200, 200]


def test_structured_values_arrive_as_they_are() -> None:
    (point, _) = expand(sweep(variants={"x": {"objectives.reconstruction": {"weight": 0.1}}}))
    assert point.config.objectives.reconstruction is not None
    assert point.config.objectives.reconstruction.weight == 0.1


def test_schedule_as_a_value_arrives_as_a_schedule() -> None:
    ramp = {"shape": "linear", "start": 0.9, "end": 0.3}
    (point, _) = expand(sweep(variants={"ramp": {RATIO: ramp}}))
    ratio = point.config.masking.video.ratio
    assert not isinstance(ratio, float)
    assert (ratio.value(0.0), ratio.value(1.0)) == pytest.approx((0.9, 0.3))


def test_runs_are_named_by_their_rows_and_known_by_what_they_train() -> None:
    point = expand(sweep(variants={"no tail, 60%": {}}))[0]
    assert point.config.name == "s.no_tail,_60.seed=3"
    renamed = point.config.model_copy(update={"name": "another"})
    assert renamed.identity({"shapes": "f"}, {}) == point.config.identity({"shapes": "f"}, {})


@pytest.mark.parametrize("letters", ["aaa", "あ", "aあ", "aaあ"])  # of one byte and of three
def test_long_label_is_cut_in_the_name_of_a_run_to_what_a_file_system_takes(
    letters: str, tmp_path: Path
) -> None:
    label = 100 * letters
    point = expand(sweep(variants={label: {}}))[0]
    (tmp_path / f"{point.config.name}-{'0' * IN_NAME}").mkdir()
    assert Config.model_validate({"name": point.config.name}).name == point.config.name
    cut = point.config.name.removeprefix("s.").removesuffix(".seed=3")
    assert label.startswith(cut)
    assert len(cut) > 50


def test_baseline_is_the_first_row_unless_one_is_named() -> None:
    named = sweep(factors={RATIO: (0.3, 0.9)}, baseline="video.ratio=0.9")
    assert baseline_of(named, rows_of(named)).values == {RATIO: 0.9}
    unnamed = sweep(factors={RATIO: (0.3, 0.9)})
    assert baseline_of(unnamed, rows_of(unnamed)).values == {RATIO: 0.3}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"factors": {"masking.video.ratoi": (0.3,)}}, ["ratoi", "ratio"]),
        ({"factors": {RATIO: (0.3, 1.5)}}, ["video.ratio=1.5", "below 1"]),
        (
            {"factors": {"evaluation.protocol": ("every_caption", "every_caption_max")}},
            [
                "protocol=every_caption' on 'shapes' by every_caption is scored differently",
                "by every_caption_max",
            ],
        ),
        (
            {"variants": {"a": {}, "b": {"evaluation.protocol": "moving_shapes"}}},
            [
                "row 'a' on 'shapes' by one_caption",
                "row 'b' on 'shapes' by moving_shapes",
                "cannot be compared",
            ],
        ),
        (
            {"variants": {"two": {}, "three": {"data.sets.shapes.objects": 3}}},
            ["'two'", "'three'", "are scored on other samples", "vary in its train samples alone"],
        ),
        ({"factors": {RATIO: (0.3, 0.6)}, "base": "nowhere.yaml"}, ["nowhere.yaml", "base"]),
        ({"factors": {RATIO: (0.3,)}, "baseline": "other"}, ["'other'", "video.ratio=0.3"]),
        ({"factors": {RATIO: (0.3,)}, "variants": {"v": {RATIO: 0.1}}}, ["'v'", RATIO, "factor"]),
    ],
)
def test_sweep_that_cannot_be_run_is_refused_with_the_row_and_the_reason(
    given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        expand(sweep(**given))
    for word in words:
        assert word in str(error.value)


def test_base_that_is_not_there_is_told_once_and_not_of_each_row() -> None:
    with pytest.raises(ConfigError) as error:
        expand(sweep(factors={RATIO: (0.3, 0.6)}, base="nowhere.yaml"))
    assert str(error.value).count("nowhere.yaml") == 1


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"factors": {RATIO: ()}}, "is empty"),
        ({"factors": {RATIO: (0.3, 0.3)}}, "twice"),
        ({}, "all empty"),
        ({"factors": {RATIO: (0.3,)}, "seeds": (1, 1)}, "seeds names a seed twice"),
        ({"variants": [("a", {}), ("b", {}), ("a", {RATIO: 0.3})]}, "variants names 'a' twice; give each"),
        ({"variants": [("a", {}), "b"]}, "variants.1 is 'b'; give a pair"),
        ({"factors": {RATIO: (0.3,)}, "search": {"space": {}}}, "search"),
        ({"factors": {RATIO: (0.3,)}, "name": "a/b"}, "name"),
    ],
)
def test_sweep_that_says_nothing_sensible_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        sweep(**given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"factors": {RATIO: (0.6)}}, f"Sweep: factors.{RATIO} is 0.6; give a list"),  # no comma, so no tuple
        ({"factors": {3: (1,)}}, "Sweep: factors has the key 3; give text, in quotes"),
        (
            {"factors": {RATIO: {0.3}}},  # its first would be the baseline
            f"Sweep: factors.{RATIO} is the set {{0.3}}, which has no order; give a list",
        ),
        (
            {"variants": [("a", {"stages.0.data": ["shapes", {"more"}]})]},
            "Sweep: variants.a.stages.0.data.1 is the set {'more'}, which has no order; give a list",
        ),
        (
            {"factors": {"stages.0.batch_size": np.array([8, 16])}},
            "Sweep: factors.stages.0.batch_size.0 is np.int64(8) of NumPy, which no config holds; give 8",
        ),
        (
            {"factors": {RATIO: (0.3,)}, "seeds": {1}},
            "Sweep: seeds is the set {1}, which has no order; give a list",
        ),
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        Sweep(**{"name": "ratio", "question": "q", "base": "b.yaml", **given})
    assert str(error.value) == sentence


def test_every_wrong_row_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        expand(sweep(factors={RATIO: (1.5, 0.3, 2.0)}))
    assert str(error.value).count("row") == 2


def test_shipped_sweeps_expand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    monkeypatch.chdir(tmp_path)  # a sweep finds its base from anywhere
    files = sorted((Path(__file__).parents[2] / "sweeps").glob("*.py"))
    assert len(files) >= 7
    for file in files:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "SWEEP"):  # the others only count
            shipped: Sweep = module.SWEEP
            require_metric(shipped)
            if shipped.search is not None:
                require_sound(shipped, shipped.search)
            else:
                points = expand(shipped)
                assert len({point.label for point in points}) == len(points) > 1, file.stem
                published_rows(shipped, rows_of(shipped))
                assert unmatched(shipped, rows_of(shipped)) == ""
        assert "Question:" in module.__doc__
        assert "Result:" in module.__doc__


def test_sweep_is_expanded_without_ray_torch_mlflow_or_optuna() -> None:
    program = f"""
import runpy, sys
from mac_ray.ablation.plan import expand
assert len(expand(runpy.run_path({str(Path(__file__).parents[2] / "sweeps" / "masking_ratio.py")!r})["SWEEP"])) == 36
found = {{"ray", "torch", "mlflow", "optuna"}} & set(sys.modules)
assert not found, found
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "value",
    [
        "*x",
        "%a",
        "@x",
        "a: b: c",
        "1e-4",
        "yes",
        "null",
        "tube",
        "a b",
        "[1",
        "",
        "ünï",
        0.1,
        None,
        {"weight": 1},
    ],
)
def test_value_as_it_is_written_is_read_as_itself(value: Any) -> None:
    assert config_file.parsed_override(f"a.b={written(value)}") == ("a.b", value)
