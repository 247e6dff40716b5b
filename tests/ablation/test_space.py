"""Spaces of a search: conditions, sections as choices, and what is refused before anything starts."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from mac_ray.ablation.plan import config_of
from mac_ray.ablation.space import propose, require_sound, values_of
from mac_ray.ablation.sweep import Choice, Conditional, Knob, Part, Range, Search
from mac_ray.config import ConfigError
from tests.ablation.trials import RATE, RATIO, SPACE, STRATEGY, sweep_of

MLM, TEXT = "objectives.masked_language", "masking.text.strategy"
WEIGHTED = {
    f"{MLM}.weight": Knob(domain=Range(low=0.1, high=1), only=Conditional(on=MLM, among=({},))),
    MLM: Knob(domain=Choice(values=(None, {})), only=Conditional(on=TEXT, among=("token",))),
    TEXT: Knob(domain=Choice(values=("none", "token"))),
}


def draws(
    space: Mapping[str, Any], number: int, sampler: Any = "tpe"
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Values, and the parameters that the study stores of them."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    trials = [study.ask() for _ in range(number)]
    return [(propose(trial, Search(space=space, sampler=sampler)), trial.params) for trial in trials]


def test_knob_with_a_condition_is_there_exactly_when_it_holds() -> None:
    found = [values for values, _ in draws(SPACE, 30)]
    assert {values[STRATEGY] for values in found} == {"none", "random", "tube"}
    for values in found:
        assert (RATIO in values) == (values[STRATEGY] != "none")
        assert RATE in values


def test_section_comes_before_what_is_in_it_also_where_a_condition_draws_that_forward() -> None:
    sections = ({"strategy": "random", "ratio": 0.9}, {"strategy": "tube", "ratio": 0.9})
    space = {
        "masking.video": Knob(domain=Choice(values=sections)),
        RATIO: Knob(domain=Choice(values=(0.3, 0.6))),
        # of fewer dots than the section
        "precision": Knob(
            domain=Choice(values=("fp32", "bf16")), only=Conditional(on=RATIO, among=(0.3, 0.6))
        ),
    }
    sweep = sweep_of(Search(space=space))
    for values, _ in draws(space, 4):
        assert config_of(sweep, values, 0).masking.video.ratio == values[RATIO]


def test_train_samples_of_a_search_may_vary() -> None:
    space = {"data.sets.shapes.train": Knob(domain=Range(low=64, high=256, whole=True))}
    sweep = sweep_of(Search(space=space))
    assert sweep.search is not None
    require_sound(sweep, sweep.search)


def test_objective_that_is_off_has_no_weight_and_one_that_is_on_reaches_the_config() -> None:
    sweep = sweep_of(Search(space=WEIGHTED))
    weighted = 0
    for values, _ in draws(WEIGHTED, 30):
        objective = config_of(sweep, values, 0).objectives.masked_language
        assert (objective is None) == (values.get(MLM) is None)
        if objective is not None:
            assert objective.weight == values[f"{MLM}.weight"]
            weighted += 1
    assert weighted


def test_values_are_the_same_read_back_from_what_the_study_stores() -> None:
    for space in (SPACE, WEIGHTED):
        for sampler in ("tpe", "nsga2"):
            for values, stored in draws(space, 20, sampler):
                assert values_of(stored, space) == values


@pytest.mark.parametrize("sampler", ["gp", "nsga2"])
def test_sampler_of_whole_points_knows_every_knob_of_every_trial(sampler: str) -> None:
    found = draws(SPACE, 30, sampler)
    assert all(stored.keys() == SPACE.keys() for _, stored in found)
    assert {RATIO in values for values, _ in found} == {True, False}


def test_range_of_whole_numbers_gives_whole_numbers_with_both_ends() -> None:
    space = {"stages.0.batch_size": Knob(domain=Range(low=8, high=12, whole=True, step=2))}
    found = [values["stages.0.batch_size"] for values, _ in draws(space, 40)]
    assert set(found) == {8, 10, 12}
    assert all(isinstance(value, int) for value in found)


def test_step_gives_the_numbers_that_people_write() -> None:
    """0.3 + 0.15 is 0.44999999999999996, which would be another run than that of 0.45."""
    space = {RATIO: Knob(domain=Range(low=0.3, high=0.75, step=0.15))}
    found = draws(space, 40)
    assert {values[RATIO] for values, _ in found} == {0.3, 0.45, 0.6, 0.75}
    assert all(values_of(stored, space) == values for values, stored in found)


def test_value_that_only_some_combinations_allow_is_no_mistake() -> None:
    # resize and none hide nothing, which reconstruction cannot be trained with; random does
    space = {
        "objectives.reconstruction": Knob(domain=Choice(values=(None, {}))),
        STRATEGY: Knob(domain=Choice(values=("none", "resize", "random"))),
    }
    sweep = sweep_of(Search(space=space), overrides={"masking.text.strategy": "token"})
    assert sweep.search is not None
    require_sound(sweep, sweep.search)


@pytest.mark.parametrize("among", [("resize", "random"), ("random", "resize")])
def test_condition_need_not_hold_for_each_of_its_values(among: tuple[str, ...]) -> None:
    space = {
        "objectives.reconstruction": Knob(
            domain=Choice(values=(None, {})), only=Conditional(on=STRATEGY, among=among)
        ),
        STRATEGY: Knob(domain=Choice(values=("none", "resize", "random"))),
    }
    sweep = sweep_of(Search(space=space))
    assert sweep.search is not None
    require_sound(sweep, sweep.search)


CHOICE = Choice(values=("none", "random"))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            {"masking.video.ration": Knob(domain=Range(low=0.1, high=0.9))},
            ["masking.video.ration", "'ratio'"],
        ),
        ({RATIO: Knob(domain=Range(low=0.1, high=1.2))}, [RATIO, "1.2", "below 1"]),
        ({STRATEGY: Knob(domain=Choice(values=("random", "tubes")))}, [STRATEGY, "'tubes'", "'tube'"]),
        (
            {RATIO: Knob(domain=Range(low=0.1, high=0.9), only=Conditional(on=STRATEGY, among=("random",)))},
            [f"{RATIO}.only", STRATEGY, "not in the space"],
        ),
        (
            {
                STRATEGY: Knob(domain=CHOICE),
                RATIO: Knob(domain=Range(low=0.1, high=0.9), only=Conditional(on=STRATEGY, among=("tube",))),
            },
            [f"{RATIO}.only.among", "'tube'", "'random'"],
        ),
        (
            {
                STRATEGY: Knob(domain=CHOICE, only=Conditional(on=TEXT, among=("none",))),
                TEXT: Knob(domain=CHOICE, only=Conditional(on=STRATEGY, among=("none",))),
            },
            [f"{STRATEGY}.only", "hangs on"],
        ),
        (
            {
                "masking.video": Knob(
                    domain=Choice(values=({"strategy": "tube"}, {"strategy": "grid"})),
                    only=Conditional(on=STRATEGY, among=("random",)),
                ),
                STRATEGY: Knob(domain=CHOICE),
            },
            ["masking.video.only", f"looks at {STRATEGY}", "hangs on masking.video"],
        ),
        # both ends are whole numbers, as which a config takes them, and nothing between them is
        ({"model.video.depth": Knob(domain=Range(low=1, high=6))}, ["model.video.depth", "whole=True"]),
        ({RATIO: Knob(domain=Range(low=-0.1, high=0.9))}, ["-0.1", "at least 0"]),
        ({"model.video.depth": Knob(domain=Range(low=1, high=6, step=0.5))}, ["is 1.5", "whole=True"]),
        ({"stages.0.batch_size": Knob(domain=Range(low=16, high=64))}, ["batch_size", "whole=True"]),
        ({"seed": Knob(domain=Range(low=0, high=9, whole=True))}, ["seeds"]),
        ({"cluster.workers": Knob(domain=Choice(values=(1, 2)))}, ["cluster.workers", "no other run"]),
        ({"data.image_size": Knob(domain=Choice(values=(32, 64)))}, ["data.image_size", "override"]),
        (
            {"evaluation.protocol": Knob(domain=Choice(values=("one_caption", "every_caption")))},
            ["evaluation.protocol", "cannot be compared"],
        ),
        (
            {"data.sets.shapes.objects": Knob(domain=Choice(values=(2, 3)))},
            ["data.sets.shapes.objects", "on other samples", "train samples alone"],
        ),
        # a search goes by val
        (
            {"data.sets.shapes.val": Knob(domain=Range(low=8, high=200, whole=True))},
            ["data.sets.shapes.val", "on other samples"],
        ),
    ],
)
def test_space_with_a_mistake_is_refused_in_a_sentence(space: dict[str, Knob], words: list[str]) -> None:
    sweep = sweep_of(Search(space=space), overrides={"data.image_size": 32})
    assert sweep.search is not None
    with pytest.raises(ConfigError) as caught:
        require_sound(sweep, sweep.search)
    assert all(word in str(caught.value) for word in words), caught.value
    assert len(str(caught.value).splitlines()) == 1


def test_override_below_a_knob_that_would_replace_it_is_refused() -> None:
    space = {"objectives.language": Knob(domain=Choice(values=(None, {})))}
    sweep = sweep_of(Search(space=space), overrides={"objectives.language.weight": 0.5})
    assert sweep.search is not None
    with pytest.raises(
        ConfigError, match=r"space.objectives.language replaces what .* objectives.language.weight"
    ):
        require_sound(sweep, sweep.search)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"values": ({}, {})}, "once"),
        ({"values": (object(), 2)}, "give what a config holds"),
        ({"values": ({1}, {2})}, "no order"),
        ({"values": (float("nan"), 0.3)}, "give what a config holds"),
        ({"low": 0.1, "high": 0.9, "step": 0.3}, "0.7"),
        ({"low": 1.5, "high": 4, "whole": True}, "whole numbers"),
    ],
)
def test_domain_that_cannot_be_drawn_from_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        (Choice if "values" in given else Range).model_validate(given)


@pytest.mark.parametrize(
    ("part", "given", "field"),
    [
        (Choice, {"values": "ab"}, "values is 'ab'; give a list of 2 or more entries"),
        (Conditional, {"on": STRATEGY, "among": ("random")}, "among is 'random'; give a list of 1 or more"),
        (Conditional, {"on": STRATEGY, "among": {"random"}}, "among is the set {'random'}"),
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence(
    part: type[Part], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as error:
        part(**given)
    assert str(error.value).startswith(f"{part.__name__}: {field}")


def test_pruning_the_cheap_end_of_a_front_is_refused() -> None:
    with pytest.raises(ConfigError, match="cheap end"):
        Search(space=SPACE, sampler="nsga2", prune="same_strategy")


def test_pruning_trials_of_a_sampler_that_would_not_learn_from_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'gp', which learns nothing .* take sampler 'tpe'"):
        Search(space=SPACE, sampler="gp", prune="same_strategy")
