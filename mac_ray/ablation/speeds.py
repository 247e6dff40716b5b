"""How long training steps take on this machine, for budgets of equal seconds.

A budget needs ratios between kinds of steps, and a machine drifts by more than kinds differ. So every kind takes
turns with one and the same other, step by step, and the median ratio of neighbours counts, of each piece of a stage
where its masking jumps; where it changes all along, their mean. A step is all that `cost/seconds` counts: samples are
read and cropped, masks drawn, loss, gradients, optimiser. Evaluation, checkpoints and what starts a run are in neither.
What was measured is kept: measured anew, it would make other runs of the same sweep, and a kind that comes later is
measured against one that is known. Of several workers, one is timed: what they send each other is not.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import trim_mean

from mac_ray import files
from mac_ray.bench.step import Arm, wait_for
from mac_ray.config import Config, ConfigError, TextMasking, VideoMasking, is_gradual, pieces
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.loader import TrainingBatches
from mac_ray.data.sets import Progress
from mac_ray.data.text import CaptionTokenizer
from mac_ray.errors import NoRoomToTimeError, in_one_line
from mac_ray.tracking.process import try_lock, wait_for_lock
from mac_ray.training.distributed import device_name, device_of, release_memory
from mac_ray.training.hiding import Hiding
from mac_ray.training.inputs import RunData, reader
from mac_ray.training.plan import Leg

OF_SPEED = ("workers", "gpus_per_worker", "threads", "loader_workers", "decoder", "cache_budget_gb")
FEWEST_TURNS, MOST_TURNS = 12, 40
ENOUGH = 0.01  # relative standard error of a ratio, at which no more turns are taken
BURSTS = 0.05  # of the steps of a schedule, the slowest and the fastest, which say nothing
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, spread evenly however many there are


@dataclass(frozen=True)
class Kind:
    """Steps that take equally long, by an example: a stage of a config with absolute folders, and what it reads."""

    config: Config
    leg: Leg
    data: RunData
    tokenizer: CaptionTokenizer
    lexicon: Lexicon

    @property
    def name(self) -> str:
        """All that decides the time of a step."""
        config, stage = self.config, self.leg.stage
        masking = config.stage_masking(stage)
        parts: Mapping[str, object] = {
            "model": config.model.model_dump(mode="json"),
            "data": config.data.model_dump(mode="json", exclude={"sets"}),
            "words": self.tokenizer.vocabulary_size,
            "sets": [self.data.train[name].fingerprint for name in stage.data],
            "masking": [_what_counts(section) for section in (masking.video, masking.text)],
            "objectives": config.stage_objectives(stage).model_dump(mode="json"),
            "batch": [stage.batch_size, stage.frames, stage.accumulate],
            "cluster": config.cluster.model_dump(mode="json", include=set(OF_SPEED)),
            "precision": config.precision,
            "device": _device(config),
        }
        if stage.mix is not None:  # sets may differ in what a sample costs
            parts = {**parts, "mix": stage.mix}
        rates = config.stage_optimizer(stage).tower_rates.model_dump()
        if still := [tower for tower, factor in rates.items() if not factor]:
            parts = {**parts, "still": still}
        return json.dumps(parts, sort_keys=True)

    @property
    def pieces(self) -> list[tuple[float, float]]:
        """Of its stage, from and to a share of the steps: between them, the time of a step may jump."""
        masking = self.config.stage_masking(self.leg.stage)
        return pieces(masking.video.ratio, masking.text.ratio)

    @property
    def is_gradual(self) -> bool:
        """Whether steps of a piece differ, because how much is hidden changes along it."""
        masking = self.config.stage_masking(self.leg.stage)
        return is_gradual(masking.video.ratio, masking.text.ratio)

    def middle(self, seconds: Sequence[float]) -> float:
        """Of its steps, or of their ratios to others."""
        # whole frames go one by one: of such stairs the median knows one alone
        return float(trim_mean(seconds, BURSTS)) if self.is_gradual else statistics.median(seconds)


def _device(config: Config) -> str:
    """Of this machine, where steps are timed."""
    device = device_of(config.cluster)
    return device_name(device) if device.type == "cpu" or torch.cuda.is_available() else device.type


def _what_counts(section: VideoMasking | TextMasking) -> dict[str, object]:
    """Of a masking that hides nothing, no other field: rows share their unmasked tail."""
    return section.model_dump(mode="json", include={"strategy"} if section.strategy == "none" else None)


@dataclass(frozen=True)
class Speed:
    seconds: float  # of a step, a mean over its stage
    error: float  # standard, as a share; of the ratio to the steps that it took turns with
    turns: int  # of the piece that has least
    first: float | None = None  # seconds of a step of the first piece, where there are more


class Speeds:
    """What is known of kinds of steps, in a file that sweeps share."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path, self.progress = path, progress
        # by what share, at most, what was known differs from what is measured beside the first new kinds
        self.drift: float | None = None

    def of(self, kinds: Sequence[Kind]) -> dict[str, Speed]:
        """By name; those that are not known yet are measured, each kept as soon as it is.

        Raises ConfigError for a file that is none of ours, and for steps of GPUs that this machine does not have, and
        NoRoomToTimeError.
        """
        wanted = {kind.name: kind for kind in kinds}
        if wanted.keys() <= (known := self._read()).keys():
            return {name: known[name] for name in wanted}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # another sweep may be measuring: at the same time, both would measure each other
        place = self.path.with_name(f"{self.path.name}.lock")
        if (lock := try_lock(place)) is None:
            self.progress("waiting for another sweep that times its steps", 0, 1)
            lock = wait_for_lock(place)
        problem = ""
        try:
            known = self._read()
            for name, speed in self._measured(wanted, dict(known)):
                known[name] = speed
                self._write(known)
        except torch.OutOfMemoryError as error:
            problem = in_one_line(error)  # and not the error, whose frames have the models
        finally:
            os.close(lock)
            release_memory()  # for the runs now, of which one may share the GPU with this process
        if problem:
            raise NoRoomToTimeError(
                f"a GPU's memory is not enough to time steps of two recipes in turns ({problem}); let nothing else use "
                "it, or raise accumulate of the stages, which computes the same losses in pieces"
            )
        return {name: known[name] for name in wanted}

    def _write(self, known: Mapping[str, Speed]) -> None:
        files.write(self.path, json.dumps({name: asdict(speed) for name, speed in known.items()}, indent=1))

    def _read(self) -> dict[str, Speed]:
        if not self.path.exists():
            return {}
        try:
            return {name: Speed(**fields) for name, fields in json.loads(self.path.read_text()).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self.path} does not hold the times of steps ({error}); restore it from a copy, or delete it to "
                "measure anew (sweeps of equal seconds are then planned anew as well)"
            ) from error

    def _measured(
        self, wanted: Mapping[str, Kind], known: Mapping[str, Speed]
    ) -> Iterator[tuple[str, Speed]]:
        """Those of `wanted` that are not known, against one that is, or else against the first."""
        unknown = [name for name in wanted if name not in known]
        if not unknown:
            return
        before = [name for name in wanted if name in known]
        # of steps that differ among each other, the ratio to others has another mean than the two have
        by = min(before or unknown, key=lambda name: wanted[name].is_gradual)
        base = Steps(wanted[by], self.progress)
        if by in known:
            unit = _of_first_piece(known[by])
        else:
            unit = wanted[by].middle([base.take(turn) for turn in range(fewest_turns(wanted[by]))])
        for number, name in enumerate(unknown):
            self.progress("timing steps", number, len(unknown))
            steps = base if name == by else Steps(wanted[name], self.progress)
            yield name, _speed(unit, wanted[name], _against(base, steps))
            del steps
        self.progress("timing steps", len(unknown), len(unknown))
        if self.drift is None:
            self._look_for_drift(base, unit, {name: known[name] for name in before if name != by}, wanted)

    def _look_for_drift(
        self, base: Steps, unit: float, known: Mapping[str, Speed], kinds: Mapping[str, Kind]
    ) -> None:
        """Ratios too change with what a machine has to do beside, such as of steps that wait for memory."""
        try:
            for name, speed in known.items():
                steps = Steps(kinds[name], self.progress)
                now = kinds[name].middle(_against(base, steps, first_alone=True)[0])
                self.drift = max(self.drift or 0.0, abs(now * unit / _of_first_piece(speed) - 1))
                del steps
        except torch.OutOfMemoryError:  # what was asked for has been measured
            return


def _of_first_piece(speed: Speed) -> float:
    return speed.first or speed.seconds


def _against(base: Steps, steps: Steps, first_alone: bool = False) -> list[list[float]]:
    """Ratios of steps of each piece to those of the first piece of `base`; of that to itself, none."""
    fewest = fewest_turns(steps.kind)
    return [
        [] if steps is base and number == 0 else in_turns(base.take, partial(steps.take, piece=piece), fewest)
        for number, piece in enumerate(steps.kind.pieces[:1] if first_alone else steps.kind.pieces)
    ]


def fewest_turns(kind: Kind) -> int:
    """Where steps differ, they all count."""
    return MOST_TURNS if kind.is_gradual else FEWEST_TURNS


def _speed(unit: float, kind: Kind, ratios: Sequence[Sequence[float]]) -> Speed:
    """The mean over pieces of a stage, from the ratios of each to what takes `unit` seconds."""
    middles = [kind.middle(own) if own else 1.0 for own in ratios]
    weights = [end - start for start, end in kind.pieces]
    mean = sum(weight * middle for weight, middle in zip(weights, middles, strict=True))
    errors = [
        weight * middle * error_of_median(own) if own else 0.0
        for weight, middle, own in zip(weights, middles, ratios, strict=True)
    ]
    return Speed(
        seconds=unit * mean,
        error=math.hypot(*errors) / mean,
        turns=min((len(own) for own in ratios if own), default=fewest_turns(kind)),
        first=unit * middles[0] if len(middles) > 1 else None,
    )


class Steps:
    """Training steps of one kind, made and timed one at a time."""

    def __init__(self, kind: Kind, progress: Progress) -> None:
        self.kind = kind
        config, self.leg, stage = kind.config, kind.leg, kind.leg.stage
        device = device_of(config.cluster)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "steps are timed on the machine of the command, which has no GPU, while "
                f"cluster.gpus_per_worker is {config.cluster.gpus_per_worker:g}; start the sweep where runs train; "
                "`ray job submit --entrypoint-num-gpus 1` puts it on a node with GPUs, and holds one "
                "beside those of the runs"
            )
        self.loaders = config.cluster.loader_workers
        readers = [reader(kind.data.train[name], "train", config, progress) for name in stage.data]
        self.batches = TrainingBatches(
            readers,
            kind.tokenizer,
            config,
            self.leg.number,
            self.leg.num_steps,
            0,
            config.cluster.most_workers,
        )
        share = self.batches.rows.stop - self.batches.rows.start
        longest = config.data.max_caption_tokens
        self.arm = Arm(
            config.name,
            config,
            stage,
            longest,
            device,
            compiled=False,
            batch=share,
            tokenizer=kind.tokenizer,
        )
        self.hide = Hiding(config, self.leg, self.arm.encoder, kind.tokenizer, kind.lexicon, self.arm.worker)
        self.take(0)  # pages of the frame cache, kernels for the lengths of real captions

    def take(self, turn: int, piece: tuple[float, float] | None = None) -> float:
        """Seconds of a step of a piece, the first if none is given; of many turns, evenly from the whole of it, along
        which the masking may change."""
        start, end = piece or self.kind.pieces[0]
        first, last = (math.ceil(self.leg.num_steps * share - 1e-9) for share in (start, end))
        step = min(first + int((last - first) * (turn * GOLDEN % 1)), self.leg.num_steps - 1)
        self.arm.use_settings()
        begun = time.perf_counter()
        batch = self.batches[step]
        read = time.perf_counter()
        self.arm.learn(self.hide(batch, self.batches.rows, self.leg.first + step).to(self.arm.worker.device))
        wait_for(self.arm.worker.device)
        reading, learning = read - begun, time.perf_counter() - read
        # loaders of their own read while the step before is made, and cost what they are late
        late = max(0.0, reading / self.loaders - learning) if self.loaders else reading
        return learning + late


def in_turns(
    first: Callable[[int], float], second: Callable[[int], float], fewest: int = FEWEST_TURNS
) -> list[float]:
    """Ratios of neighbouring steps, second to first, both functions of the turn that return seconds: until their
    median is certain enough, or there are too many."""
    ratios: list[float] = []
    while len(ratios) < fewest or (error_of_median(ratios) > ENOUGH and len(ratios) < MOST_TURNS):
        turn = len(ratios)
        # who goes first changes, or what drifts would always favour the same
        if turn % 2:
            before = first(turn)
            after = second(turn)
        else:
            after = second(turn)
            before = first(turn)
        ratios.append(after / before)
    return ratios


def error_of_median(values: Sequence[float]) -> float:
    """Standard error as a share of the median, from the quartiles: a few steps beside a burst of load say nothing."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    # a normal distribution has quartiles 1.349 deviations apart, and its median an error of 1.2533 s / sqrt(n)
    return float(1.2533 * (high - low) / 1.349 / math.sqrt(len(values)) / middle)
