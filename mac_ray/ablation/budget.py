"""What the runs of a sweep cost, and how their epochs are scaled so that all cost the same.

All stages of a run are scaled by one factor, so a recipe keeps its proportions. Costs in FLOPs are counted; costs
in seconds are measured, some steps of every kind (see speeds).
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mac_ray.ablation.locate import Locator
from mac_ray.ablation.plan import Point, Row
from mac_ray.ablation.speeds import Kind, Speed, Speeds, Steps
from mac_ray.ablation.sweep import Budget
from mac_ray.config import Config, ConfigError
from mac_ray.data.lexicon import Lexicon, count_words
from mac_ray.data.loader import TRAINING_TEXTS
from mac_ray.data.text import CaptionTokenizer, save_tokenizer
from mac_ray.model.imported import imports_weights, initial_model
from mac_ray.training.distributed import out_of_memory_explained, release_memory
from mac_ray.training.first_weights import with_found_weights
from mac_ray.training.hiding import counts_words
from mac_ray.training.inputs import RunData
from mac_ray.training.plan import Leg, legs
from mac_ray.training.planned import training_flops
from mac_ray.training.start import captions_of_training

COUNTED_TEXTS = 2000  # of a set
COUNTED_BATCHES = 200
FEW_STEPS = 5
DRIFTED = 0.1  # of times of steps that are known, from where on a reader is told
EPOCH_DIGITS = (
    4  # of scaled epochs, after the point or the zeros: the last bits of a factor make no other run
)


class TooLittleError(ConfigError):
    """A budget that some points cannot be trained for, in one sentence."""


class Calculator:
    """Costs of configs before they are run; what is the same for several is worked out once."""

    def __init__(self, locator: Locator, speeds: Path) -> None:
        """`speeds` is the file of measured seconds, made when it is first needed."""
        self.locator = locator
        self.measured: dict[str, Speed] = {}  # of the kinds of steps that were asked for
        self._most_workers = 1  # of a run whose steps were asked for
        self._speeds = Speeds(speeds, locator.progress)
        self._tokenizers: dict[str, CaptionTokenizer] = {}
        self._fitting: set[str] = set()  # models whose weights were tried
        self._lengths: dict[tuple[str, str], NDArray[np.int64]] = {}  # by tokens and set

    def flops(self, config: Config) -> float:
        """Of training, forward and backward, as `cost/flops` counts them."""
        return sum(steps * batch * per_sample for steps, batch, per_sample in self._stage_flops(config))

    def seconds(self, config: Config) -> float:
        """Of training on this machine, as `cost/seconds` counts them."""
        self.time_steps([config])
        return sum(kind.leg.num_steps * self.measured[kind.name].seconds for kind in self._kinds(config))

    def seconds_by_few_steps(self, config: Config) -> float:
        """Of training, by a few steps of its costliest stage, timed now and not kept.

        Raises ConfigError for steps of GPUs that this machine does not have, and GpuMemoryError.
        """
        costs = [steps * batch * per_sample for steps, batch, per_sample in self._stage_flops(config)]
        kind, cost = max(zip(self._kinds(config), costs, strict=True), key=itemgetter(1))
        with out_of_memory_explained():
            steps = Steps(kind, self.locator.progress)
            step = sum(
                (end - start) * kind.middle([steps.take(turn, (start, end)) for turn in range(FEW_STEPS)])
                for start, end in kind.pieces
            )
        del steps
        release_memory()
        return step * kind.leg.num_steps * sum(costs) / cost

    def require_weights(self, config: Config) -> None:
        """That what a run starts from fits its towers, before an actor is taken for it. Raises ConfigError."""
        model = self._started(config).model
        if imports_weights(model) and (key := model.model_dump_json()) not in self._fitting:
            tokenizer = self._tokenizer(config)
            initial_model(model, config.data, tokenizer.vocabulary_size, tokenizer.pad_token, config.seed)
            self._fitting.add(key)

    def time_steps(self, configs: Iterable[Config]) -> None:
        """Have all kinds of steps of several configs measured in turns with one and the same, which makes them
        comparable: with one that is known, where there is one."""
        kinds = [kind for config in configs for kind in self._kinds(config)]
        self._most_workers = max([self._most_workers, *(kind.config.cluster.most_workers for kind in kinds)])
        if not all(kind.name in self.measured for kind in kinds):
            self.measured |= self._speeds.of(kinds)

    def timing(self) -> str:
        """How well the times of the steps are known that were asked for; empty where none were."""
        return "; ".join(filter(None, (self._certainty(), self._untimed(), self._drifted())))

    def _certainty(self) -> str:
        errors = [speed.error for speed in self.measured.values() if speed.error]
        if not errors:
            return ""
        return (
            f"{len(self.measured)} kinds of steps, timed in turns with one of them; their times relative to it are "
            f"known to +-{100 * statistics.median(errors):.1f}%, the least certain to +-{100 * max(errors):.1f}% "
            "(standard error of the median ratio)"
        )

    def _untimed(self) -> str:
        if self._most_workers == 1:
            return ""
        return (
            f"of up to {self._most_workers} workers of a run, one was timed: what they send each other is left out, "
            "which masking does not lessen, so rows with shorter steps may take longer than this says; look at equal "
            "flops too"
        )

    def _drifted(self) -> str:
        drift = self._speeds.drift or 0.0
        if drift < DRIFTED:
            return ""
        return (
            f"times that were known are off by up to {100 * drift:.0f}% from those measured beside new ones, so rows "
            f"get unequal time: delete {self._speeds.path} to time all anew, on a quiet machine"
        )

    def _kinds(self, config: Config) -> list[Kind]:
        data, tokenizer = self.locator.data(config), self._tokenizer(config)
        counts = count_words(captions_of_training(data), tokenizer) if counts_words(config) else {}
        lexicon, started = Lexicon(tokenizer, counts), self._started(config)
        return [Kind(started, leg, data, tokenizer, lexicon) for leg in legs(config, data.train_sizes)]

    def _started(self, config: Config) -> Config:
        """With absolute folders and, of weights that it starts from, the tokeniser."""
        return with_found_weights(self.locator.absolute(config))

    def _stage_flops(self, config: Config) -> list[tuple[int, int, float]]:
        """Steps, samples per step and FLOPs per sample of each stage."""
        data, vocabulary = self.locator.data(config), self._tokenizer(config).vocabulary_size
        started = self._started(config)
        found = []
        for leg in legs(config, data.train_sizes):
            padded, attended = self._text_tokens(config, data, leg)
            per_sample = training_flops(started, leg.stage, padded, vocabulary, padding=padded - attended)
            found.append((leg.num_steps, leg.stage.batch_size, per_sample))
        return found

    def _text_tokens(self, config: Config, data: RunData, leg: Leg) -> tuple[int, float]:
        """Tokens of a text in the batches of a stage, padded to the longest of its batch, and without padding: means.

        A batch that workers share is padded a little less, each share to its own longest. That is left out, or the
        same sweep would plan other runs on another cluster and find none of those that it has.
        """
        lengths = np.concatenate([self._text_lengths(config, data, name) for name in leg.drawn_per_epoch])
        drawn = np.repeat(list(leg.drawn_per_epoch.values()), COUNTED_TEXTS)
        shape = (COUNTED_BATCHES, leg.stage.batch_size)
        batches = np.random.default_rng(1).choice(lengths, shape, p=drawn / drawn.sum())
        return round(float(batches.max(axis=1).mean())), float(np.average(lengths, weights=drawn))

    def _text_lengths(self, config: Config, data: RunData, name: str) -> NDArray[np.int64]:
        """(COUNTED_TEXTS,) tokens of texts that are drawn of a set as training draws them: a sample, and one of its.

        They are the same for every call, or the cost of a run would hang on what was asked before.
        """
        key = _captions_key(self._started(config), data), name
        if key not in self._lengths:
            generator = np.random.default_rng(0)
            texts_of = TRAINING_TEXTS[config.data.captions]
            texts = []
            for number in generator.integers(len(data.train[name]), size=COUNTED_TEXTS).tolist():
                told = texts_of(data.train[name][number].captions)
                texts.append(told[int(generator.integers(len(told)))])
            self._lengths[key] = self._tokenizer(config)(texts).attended.sum(axis=1)
        return self._lengths[key]

    def _tokenizer(self, config: Config) -> CaptionTokenizer:
        """That of its runs."""
        data, started = self.locator.data(config), self._started(config)
        key = _captions_key(started, data)
        if key not in self._tokenizers:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "tokenizer.json"
                save_tokenizer(started.model.text, captions_of_training(data), path)
                self._tokenizers[key] = CaptionTokenizer(path, config.data.max_caption_tokens)
        return self._tokenizers[key]


def _captions_key(config: Config, data: RunData) -> str:
    """What decides which captions a run trains on, and the tokens they become."""
    return config.model.text.model_dump_json() + config.data.model_dump_json() + str(sorted(data.train))


def equalised(points: Sequence[Point], baseline: Row, budget: Budget, calculator: Calculator) -> list[Point]:
    """The same points, with epochs scaled to the budget. Raises TooLittleError where not every stage has a step."""
    if budget.is_as_configured:
        return list(points)
    cost: Callable[[Config], float] = {
        "samples": lambda config: _samples(config, calculator.locator.data(config)),
        "flops": calculator.flops,
        "seconds": calculator.seconds,
    }[budget.equal]
    base = next(point.config for point in points if point.row.label == baseline.label)
    if budget.equal == "seconds":
        calculator.time_steps([base, *(point.config for point in points)])
    amount = budget.amount or cost(base)
    factors: dict[str, float] = {}  # a row's cost does not depend on its seed
    scaled = []
    for point in points:
        if point.row.label not in factors:
            factors[point.row.label] = factor = amount / (own := cost(point.config))
            # as it is configured, a stage of less than a step makes one
            if factor != 1 and _has_empty_stage(
                with_epochs(point.config, factor), calculator.locator.data(point.config)
            ):
                raise TooLittleError(
                    f"a budget of {amount:g} {budget.equal} a run is {factor:.1e} of what row {point.row.label!r} "
                    f"takes ({own:g}), too little for a step of each stage; give more as the amount of the budget"
                )
        scaled.append(replace(point, config=with_epochs(point.config, factors[point.row.label])))
    return scaled


def with_epochs(config: Config, factor: float) -> Config:
    """All stages longer or shorter by one factor; how often val is scored changes with them."""
    if factor == 1:  # whose rounding would make another run
        return config
    stages = tuple(
        stage.model_copy(update={"epochs": _rounded(stage.epochs * factor)}) for stage in config.stages
    )
    every = _rounded(config.evaluation.every_epochs * factor)
    evaluation = config.evaluation.model_copy(update={"every_epochs": every})
    return config.model_copy(update={"stages": stages, "evaluation": evaluation})


def _rounded(epochs: float) -> float:
    return round(epochs, EPOCH_DIGITS) if epochs >= 1 else float(f"{epochs:.{EPOCH_DIGITS}g}")


def _has_empty_stage(config: Config, data: RunData) -> bool:
    """A stage always makes a step, however little it is to train."""
    return any(
        leg.stage.epochs * leg.num_samples < leg.stage.batch_size * (1 - 1e-9)
        for leg in legs(config, data.train_sizes)
    )


def _samples(config: Config, data: RunData) -> float:
    return float(sum(leg.num_steps * leg.stage.batch_size for leg in legs(config, data.train_sizes)))
