"""Stages in steps: how many, where each begins, and what cannot be planned."""

import pytest

from mac_ray.config import Config, ConfigError, Stage
from mac_ray.training.plan import Leg, legs

SIZES = {"shapes": 100}


def config_of(*stages: Stage, **cluster: object) -> Config:
    return Config.model_validate({"stages": [stage.model_dump() for stage in stages], "cluster": cluster})


def stage(name: str = "one", **values: object) -> Stage:
    return Stage.model_validate({"name": name, "data": ("shapes",), "epochs": 1, "batch_size": 10} | values)


@pytest.mark.parametrize(
    ("epochs", "batch_size", "steps"),
    [
        (1, 10, 10),
        (3, 10, 30),
        (1, 30, 3),
        (2.5, 30, 8),
        (0.5, 10, 5),
        (0.001, 10, 1),
        (0.57, 2, 28),
        (5.8, 10, 58),
    ],
)
def test_legs_have_the_whole_steps_that_fit_the_epochs(epochs: float, batch_size: int, steps: int) -> None:
    (leg,) = legs(config_of(stage(epochs=epochs, batch_size=batch_size)), SIZES)
    assert (leg.first, leg.num_steps, leg.last, leg.num_samples) == (0, steps, steps, 100)


def test_legs_of_fractions_that_floats_cannot_hold_lose_no_step() -> None:
    for hundredths in range(1, 300):
        (leg,) = legs(config_of(stage(epochs=hundredths / 100, batch_size=2)), SIZES)
        assert leg.num_steps == max(1, hundredths // 2)


def test_legs_follow_one_another() -> None:
    planned = legs(config_of(stage("one", epochs=2), stage("two"), stage("three", batch_size=50)), SIZES)
    assert [(leg.stage.name, leg.number, leg.first, leg.last) for leg in planned] == [
        ("one", 0, 0, 20),
        ("two", 1, 20, 30),
        ("three", 2, 30, 32),
    ]


def test_leg_draws_from_all_of_its_sets() -> None:
    config = Config.model_validate(
        {
            "data": {
                "sets": {"shapes": {"kind": "moving_shapes"}, "more": {"kind": "moving_shapes", "seed": 1}}
            },
            "stages": [stage(data=("shapes", "more")).model_dump()],
        }
    )
    (leg,) = legs(config, SIZES | {"more": 50})
    assert (leg.num_samples, leg.num_steps) == (150, 15)


def mixed(**mix: float) -> Config:
    return Config.model_validate(
        {
            "data": {
                "sets": {"shapes": {"kind": "moving_shapes"}, "more": {"kind": "moving_shapes", "seed": 1}}
            },
            "stages": [stage(data=("shapes", "more"), mix=mix or None).model_dump()],
        }
    )


@pytest.mark.parametrize(
    ("mix", "drawn"),
    [
        ({}, {"shapes": 100, "more": 50}),
        ({"more": 3, "shapes": 1}, {"shapes": 38, "more": 112}),  # 37.5 and 112.5: the first has it
        ({"more": 0.2, "shapes": 0.8}, {"shapes": 120, "more": 30}),
    ],
)
def test_leg_of_a_mix_is_as_long_and_has_the_shares_of_its_sets(
    mix: dict[str, float], drawn: dict[str, int]
) -> None:
    (leg,) = legs(mixed(**mix), SIZES | {"more": 50})
    assert (leg.num_samples, leg.num_steps) == (150, 15)
    assert leg.drawn_per_epoch == drawn


def test_mix_that_leaves_a_set_without_a_sample_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"stages\.0\.mix gives 'more' not one of the 150 .*raise its weight"
    ):
        legs(mixed(shapes=1, more=0.001), SIZES | {"more": 50})


def test_epochs_count_from_the_start_of_the_leg() -> None:
    leg = Leg(stage(), number=1, first=20, num_steps=25, num_samples=100, drawn_per_epoch={})
    assert [leg.epochs(step) for step in (20, 25, 45)] == [0, 0.5, 2.5]


@pytest.mark.parametrize(
    ("every_epochs", "expected"),
    [(1, [30, 40, 45]), (0.5, [25, 30, 35, 40, 45]), (10, [45]), (0.001, list(range(21, 46)))],
)
def test_evaluation_comes_every_so_many_epochs_and_at_the_end(
    every_epochs: float, expected: list[int]
) -> None:
    leg = Leg(stage(), number=1, first=20, num_steps=25, num_samples=100, drawn_per_epoch={})
    assert [step for step in range(21, 46) if leg.is_evaluated(step, every_epochs)] == expected


def test_batch_larger_than_its_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stages\.1\.batch_size is 101.*shapes has only 100.*lower"):
        legs(config_of(stage(), stage("two", batch_size=101)), SIZES)
    assert legs(config_of(stage(batch_size=100)), SIZES)[0].num_steps == 1


@pytest.mark.parametrize(("workers", "accumulate"), [(11, 1), ((1, 11), 1), (4, 3)])
def test_batch_too_small_for_its_workers_is_refused(workers: object, accumulate: int) -> None:
    with pytest.raises(ConfigError, match=r"stages\.0\.batch_size is 10.*cluster\.workers"):
        legs(config_of(stage(accumulate=accumulate), workers=workers), SIZES)
    assert legs(config_of(stage(accumulate=accumulate), workers=10 // accumulate), SIZES)


@pytest.mark.parametrize(
    ("values", "workers"), [({"batch_size": 5}, 3), ({"batch_size": 11, "accumulate": 3}, 2)]
)
def test_batch_that_leaves_samples_without_another_to_match_is_refused(
    values: dict[str, int], workers: int
) -> None:
    alone = values | {"objectives": {"matching": {}}}
    needed = 2 * workers * values.get("accumulate", 1)
    with pytest.raises(
        ConfigError, match=rf"stages\.0\.objectives\.matching .*raise the first to {needed} or"
    ):
        legs(config_of(stage(**alone), workers=workers), SIZES)
    assert legs(config_of(stage(**values), workers=workers), SIZES)
    assert legs(config_of(stage(**(alone | {"batch_size": needed})), workers=workers), SIZES)
