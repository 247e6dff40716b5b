"""The space of a search: drawing a point of it, and telling before anything starts what is wrong with it.

Some combinations of sound values cannot be trained, and that is for the search to find out; a value that no
combination makes trainable is a mistake, and so is a path or a condition that leads nowhere.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import optuna
from optuna.trial import BaseTrial

from mac_ray.ablation.plan import NOT_TRAINED, config_of, require_no_name, require_varied, scored_samples
from mac_ray.ablation.sweep import Choice, Knob, Range, Search, Sweep, name_of
from mac_ray.config import Config, ConfigError
from mac_ray.config.sentences import shown

SCORED_BY = ("evaluation", "evaluation.data", "evaluation.protocol")
COMPLETIONS = 256  # random ones of each way, in which a value may still turn out trainable
AS_A_WHOLE = ("gp", "nsga2")  # samplers that know how the knobs of a point go together

Space = Mapping[str, Knob]


def propose(trial: BaseTrial, search: Search) -> dict[str, Any]:
    """The values of a trial by dotted path, drawn by its study's sampler; what its conditions leave out is absent.

    Samplers that draw a point as a whole know only knobs that every trial has, and draw others at random for ever. For
    them every knob is drawn, and what conditions leave out is inherited with the rest, like a gene that is silent.
    """
    values: dict[str, Any] = {}
    for path in in_order(search.space):
        knob = search.space[path]
        is_there = _is_there(knob, values)
        if is_there or search.sampler in AS_A_WHOLE:
            value = _draw(trial, path, knob.domain)
            if is_there:
                values[path] = value
    return values


def values_of(parameters: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The same of a trial that has been drawn, from what the study stores of it."""
    values: dict[str, Any] = {}
    for path in in_order(space):
        knob = space[path]
        if path in parameters and _is_there(knob, values):
            stored = parameters[path]
            values[path] = (
                knob.domain.named[stored]
                if isinstance(knob.domain, Choice)
                else _rounded(stored, knob.domain)
            )
    return values


def _rounded(value: float, domain: Range) -> float:
    """As people write it: 0.3 and a step of 0.15 make 0.45, not 0.44999999999999996, which would be another run."""
    return value if domain.whole or domain.step is None else float(f"{value:.12g}")


def _is_there(knob: Knob, values: Mapping[str, Any]) -> bool:
    """By the values of the knobs before it."""
    return knob.only is None or (knob.only.on in values and values[knob.only.on] in knob.only.among)


def in_order(space: Space) -> list[str]:
    """Paths such that a knob follows what its condition looks at, and a section comes before what is in it."""
    ordered: list[str] = []

    def add(path: str) -> None:
        if path not in ordered:
            for other in _before(space, path):
                add(other)
            ordered.append(path)

    for path in sorted(space, key=lambda path: path.count(".")):
        add(path)
    return ordered


def _before(space: Space, path: str) -> list[str]:
    """The sections that a knob is in, of which each would replace it, and what its condition looks at."""
    sections = sorted((other for other in space if path.startswith(f"{other}.")), key=len)
    only = space[path].only
    return [*sections, only.on] if only else sections


def _draw(trial: BaseTrial, path: str, domain: Choice | Range) -> Any:
    match domain:
        case Choice():
            return domain.named[trial.suggest_categorical(path, list(domain.named))]
        case Range(whole=True):
            step = int(domain.step or 1)
            return trial.suggest_int(path, int(domain.low), int(domain.high), step=step, log=domain.log)
        case Range():
            drawn = trial.suggest_float(path, domain.low, domain.high, step=domain.step, log=domain.log)
            return _rounded(drawn, domain)


# ---------------------------------------------------------------- what is wrong with it


def require_sound(sweep: Sweep, search: Search) -> None:
    """Raises ConfigError."""
    require_no_name(sweep)
    for path in search.space:
        _require_own(sweep, path)
        _require_condition(sweep, search.space, path)
    judged_on = _judged_on(config_of(sweep, {}, sweep.seeds[0]))
    for path in search.space:
        for ways in _probes(search.space, path):
            if _judged_on(_trainable(sweep, search, path, ways)) != judged_on:
                raise ConfigError(
                    f"sweep {sweep.name}: search.space.{path} would score trials on other samples, and their numbers "
                    "cannot be compared; let a set vary in its train samples alone, or make a second one to train on"
                )


def _judged_on(config: Config) -> str:
    """Of the split that a search goes by, and of that on which what it chose is scored."""
    return scored_samples(config, "val", "test")


def _require_own(sweep: Sweep, path: str) -> None:
    place = f"sweep {sweep.name}: search.space.{path}"
    require_varied(sweep, "search.space", path, NOT_TRAINED)
    if path in SCORED_BY:
        raise ConfigError(
            f"{place} would score trials differently, and their numbers cannot be compared; set it by an override"
        )
    if path in sweep.overrides:
        raise ConfigError(f"{place} is also set by an override; take it out of one of them")
    for override in sweep.overrides:
        if override.startswith(f"{path}."):  # of which a trial that sets the section would know nothing
            raise ConfigError(
                f"{place} replaces what an override says of {override}; take it out, or write it into the values of "
                "the knob"
            )


def _require_condition(sweep: Sweep, space: Space, path: str) -> None:
    only = space[path].only
    if only is None:
        return
    place = f"sweep {sweep.name}: search.space.{path}.only"
    if only.on not in space:
        known = ", ".join(other for other in space if other != path)
        remedy = f"there are {known}" if known else "add it, or take the condition out"
        raise ConfigError(f"{place} looks at {only.on}, which is not in the space; {remedy}")
    if path in _hangs_on(space, only.on):
        raise ConfigError(f"{place} looks at {only.on}, which itself hangs on {path}; take one condition out")
    domain = space[only.on].domain
    if not isinstance(domain, Choice):
        raise ConfigError(f"{place} looks at {only.on}, which is a range; a condition needs a choice")
    if strange := [value for value in only.among if value not in domain.values]:
        raise ConfigError(
            f"{place}.among has {shown(strange[0])}, but {only.on} is one of "
            f"{', '.join(map(shown, domain.values))}; name some of these"
        )


def _hangs_on(space: Space, path: str) -> set[str]:
    """All that is drawn before it, and itself."""
    found, to_look_at = {path}, [path]
    while to_look_at:
        if (other := to_look_at.pop()) in space:
            new = set(_before(space, other)) - found
            found |= new
            to_look_at += new
    return found


def _probes(space: Space, path: str) -> Iterator[list[dict[str, Any]]]:
    """Every choice, or both ends of the range and what lies between, each in all ways that its conditions allow."""
    domain = space[path].domain
    for value in domain.values if isinstance(domain, Choice) else _numbers(domain):
        ways: list[dict[str, Any]] = [{path: value}]
        only = space[path].only
        while only:
            ways = [{only.on: given} | way for given in only.among for way in ways]
            only = space[only.on].only
        yield ways


def _numbers(domain: Range) -> list[float]:
    """Both ends; and of a range that is not of whole numbers one that is none, as a config may take the ends alone."""
    if domain.whole:
        return [int(domain.low), int(domain.high)]
    if domain.step is not None:
        return [domain.low, domain.high, _rounded(domain.low + domain.step, domain)]
    return [domain.low, domain.high, domain.low + (domain.high - domain.low) / math.pi]


def _trainable(sweep: Sweep, search: Search, path: str, ways: Sequence[Mapping[str, Any]]) -> Config:
    """The first of the ways that is, in the base config or else in some point of the space. Raises ConfigError."""
    problems: list[str] = []
    for fixed in ways:
        found = _config_or_problem(sweep, fixed)
        if not isinstance(found, str):
            return found
        problems.append(found)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _, fixed in zip(range(COMPLETIONS * len(ways)), cycle(ways), strict=False):
        study.enqueue_trial(
            {place: _stored(search.space[place].domain, value) for place, value in fixed.items()}
        )
        found = _config_or_problem(sweep, propose(study.ask(), search))
        if not isinstance(found, str):
            return found
    domain, value = search.space[path].domain, ways[0][path]
    between_whole_ones = isinstance(domain, Range) and domain.low % 1 == domain.high % 1 == 0 != value % 1
    is_of_whole_ones = between_whole_ones and any(
        not isinstance(_config_or_problem(sweep, {**way, path: round(value)}), str) for way in ways
    )
    hint = "; a range of whole numbers has whole=True" if is_of_whole_ones else ""
    raise ConfigError(f"sweep {sweep.name}: search.space.{path}: {problems[0]}{hint}")


def _config_or_problem(sweep: Sweep, values: Mapping[str, Any]) -> Config | str:
    """Of values; or why they cannot be trained."""
    try:
        return config_of(sweep, values, sweep.seeds[0])
    except ConfigError as error:
        return str(error)


def _stored(domain: Choice | Range, value: Any) -> Any:
    """As a study has it."""
    return name_of(value) if isinstance(domain, Choice) else value
