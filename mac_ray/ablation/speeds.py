"""How long training steps take on this machine, for budgets of equal seconds.

A budget needs ratios between kinds of steps, and a machine drifts by more than kinds differ. So every kind takes
turns with one and the same other, step by step, and the median ratio of neighbours counts. A step is all that
`cost/seconds` counts: samples are read and cropped, masks drawn, loss, gradients, optimiser. Evaluation, checkpoints
and what starts a run are in neither. What was measured is kept: measured anew, it would make other runs of the same
sweep, and a kind that comes later is measured against one that is known.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from mac_ray.bench.step import Arm, wait_for
from mac_ray.config import Config, ConfigError, TextMasking, VideoMasking
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.loader import TrainingBatches
from mac_ray.data.sets import Progress
from mac_ray.data.text import CaptionTokenizer
from mac_ray.tracking.process import wait_for_lock
from mac_ray.training.distributed import device_name, device_of
from mac_ray.training.hiding import Hiding
from mac_ray.training.inputs import RunData, reader
from mac_ray.training.plan import Leg

OF_SPEED = ("workers", "gpus_per_worker", "threads", "loader_workers", "decoder", "cache_budget_gb")
FEWEST_TURNS, MOST_TURNS = 12, 40
ENOUGH = 0.01  # relative standard error of a ratio, at which no more turns are taken
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
            "sets": [self.data.train[name].fingerprint for name in stage.data],
            "masking": [_what_counts(section) for section in (masking.video, masking.text)],
            "objectives": config.stage_objectives(stage).model_dump(mode="json"),
            "batch": [stage.batch_size, stage.frames, stage.accumulate],
            "cluster": config.cluster.model_dump(mode="json", include=set(OF_SPEED)),
            "precision": config.precision,
            "device": _device(config),
        }
        return json.dumps(parts, sort_keys=True)


def _device(config: Config) -> str:
    """Of this machine, where steps are timed."""
    device = device_of(config.cluster)
    return device_name(device) if device.type == "cpu" or torch.cuda.is_available() else device.type


def _what_counts(section: VideoMasking | TextMasking) -> dict[str, object]:
    """Of a masking that hides nothing, no other field: rows share their unmasked tail."""
    return section.model_dump(mode="json", include={"strategy"} if section.strategy == "none" else None)


@dataclass(frozen=True)
class Speed:
    seconds: float  # of a step
    error: float  # standard, as a share; of the ratio to the steps that it took turns with
    turns: int


class Speeds:
    """What is known of kinds of steps, in a file that sweeps share."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path, self.progress = path, progress

    def of(self, kinds: Sequence[Kind]) -> dict[str, Speed]:
        """By name; those that are not known yet are measured, all in one go.

        Raises ConfigError for a file that is none of ours, and for steps of GPUs that this machine does not have.
        """
        wanted = {kind.name: kind for kind in kinds}
        if wanted.keys() <= (known := self._read()).keys():
            return {name: known[name] for name in wanted}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # another sweep may be measuring: at the same time, both would measure each other
        lock = wait_for_lock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            known = self._read()
            known |= self._measured(wanted, known)
            temporary = self.path.with_name(f"{self.path.name}.new")
            temporary.write_text(json.dumps({name: asdict(speed) for name, speed in known.items()}, indent=1))
            temporary.replace(self.path)
        finally:
            os.close(lock)
        return {name: known[name] for name in wanted}

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

    def _measured(self, wanted: Mapping[str, Kind], known: Mapping[str, Speed]) -> dict[str, Speed]:
        """Those of `wanted` that are not known, against one that is, or else against the first."""
        unknown = [name for name in wanted if name not in known]
        if not unknown:
            return {}
        reference = next((name for name in wanted if name in known), unknown[0])
        first = Steps(wanted[reference], self.progress)
        ratios: dict[str, list[float]] = {}
        for number, name in enumerate(unknown):
            self.progress("timing steps", number, len(unknown))
            if name != reference:
                ratios[name] = in_turns(first, Steps(wanted[name], self.progress))
        self.progress("timing steps", len(unknown), len(unknown))
        found: dict[str, Speed] = {}
        if reference in known:
            unit = known[reference].seconds
        else:
            while len(first.taken) < FEWEST_TURNS:
                first.take(len(first.taken))
            unit = statistics.median(first.taken)
            found[reference] = Speed(unit, 0.0, len(first.taken))  # what others are relative to
        for name, own in ratios.items():
            found[name] = Speed(unit * statistics.median(own), error_of_median(own), len(own))
        return found


class Steps:
    """Training steps of one kind, made and timed one at a time."""

    def __init__(self, kind: Kind, progress: Progress) -> None:
        config, self.leg, stage = kind.config, kind.leg, kind.leg.stage
        device = device_of(config.cluster)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "steps are timed on the machine of the command, which has no GPU, while "
                f"cluster.gpus_per_worker is {config.cluster.gpus_per_worker:g}; start the sweep where runs train, "
                "e.g. with `ray job submit --entrypoint-num-gpus 1`"
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
        self.arm = Arm(config.name, config, stage, longest, device, compiled=False, batch=share)
        self.hide = Hiding(config, self.leg, self.arm.encoder, kind.tokenizer, kind.lexicon, self.arm.worker)
        self.taken: list[float] = []  # seconds
        self.take(0)  # pages of the frame cache, kernels for the lengths of real captions
        self.taken.clear()

    def take(self, turn: int) -> float:
        """Seconds of a step; of many turns, evenly from the whole stage, along which its masking may change."""
        step = int(self.leg.num_steps * (turn * GOLDEN % 1))
        self.arm.use_settings()
        begun = time.perf_counter()
        batch = self.batches[step]
        read = time.perf_counter()
        self.arm.learn(self.hide(batch, self.batches.rows, self.leg.first + step).to(self.arm.worker.device))
        wait_for(self.arm.worker.device)
        reading, learning = read - begun, time.perf_counter() - read
        # loaders of their own read while the step before is made, and cost what they are late
        late = max(0.0, reading / self.loaders - learning) if self.loaders else reading
        self.taken.append(learning + late)
        return learning + late


def in_turns(first: Steps, second: Steps) -> list[float]:
    """Ratios of neighbouring steps, second to first: until their median is certain enough, or there are too many."""
    ratios: list[float] = []
    while len(ratios) < FEWEST_TURNS or (error_of_median(ratios) > ENOUGH and len(ratios) < MOST_TURNS):
        turn = len(ratios)
        # who goes first changes, or what drifts would always favour the same
        order = (first, second) if turn % 2 else (second, first)
        seconds = {steps: steps.take(turn) for steps in order}
        ratios.append(seconds[second] / seconds[first])
    return ratios


def error_of_median(values: Sequence[float]) -> float:
    """Standard error as a share of the median, from the quartiles: a few steps beside a burst of load say nothing."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    # a normal distribution has quartiles 1.349 deviations apart, and its median an error of 1.2533 s / sqrt(n)
    return float(1.2533 * (high - low) / 1.349 / math.sqrt(len(values)) / middle)
