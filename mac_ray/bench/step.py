"""Time of a training step of some configs on made-up batches, on the device at hand.

What is timed is the arithmetic of training's loop: forward, loss, backward, clipping, AdamW. Batches lie on the
device already, so neither data nor transfers count. The arms take turns within one process, because a machine's
clock drifts by more than arms differ. All of them stay in memory at once, but memory is measured of each alone.

b samples of a batch, F frames, V visible patches, L tokens.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from mac_ray.bench.memory import fits_on_gpu, largest_batch, resident_peak
from mac_ray.config import Config, ConfigError, Stage, value_at
from mac_ray.cores import usable_cores
from mac_ray.data.order import shares
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.flops import TRAINING_FACTOR, forward_flops
from mac_ray.model.masking import Captions, ClipView, guidance_flops, masked_text, view_of_clips
from mac_ray.model.masking.guidance import GUIDES
from mac_ray.model.untrained import untrained_model
from mac_ray.model.views import Inputs
from mac_ray.objectives.costs import pretext_flops
from mac_ray.objectives.position import StepShape
from mac_ray.objectives.weighted import build_objectives
from mac_ray.training.distributed import Worker, autocast_dtype, device_name, set_up_process
from mac_ray.training.forward import Learner, Pass, global_positions, loss_and_gradients
from mac_ray.training.optim import build_optimizer, clip_gradients

WARM_UP_STEPS = 3  # compilation of kernels, the allocator's growth, the optimiser's moments
MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
MATMUL_REPEATS = 5


@dataclass(frozen=True)
class StepReport:
    name: str
    stage: str
    batch: int  # samples per step
    frames: int  # seen
    visible: int  # patches of each
    text_tokens: int
    dtype: str
    milliseconds: float  # median per step
    samples_per_second: float
    relative_time: float  # per sample, to the first arm's
    flops_per_second: float  # backward counted as twice the forward, products of attention included
    matmul_flops_per_second: float  # of one large product in the same type, on this machine
    matmul_share: float  # of the last two
    peak_bytes: (
        int | None
    )  # model, moments and step of this arm alone, of the GPU's memory or else of main memory
    largest_batch: int | None  # to a factor of two, where asked for


@dataclass(frozen=True)
class Report:
    device: str
    steps: int
    compiled: bool
    arms: list[StepReport]


class Arm:
    """One config's model, optimiser and batch, ready to step."""

    def __init__(
        self,
        name: str,
        config: Config,
        stage: Stage,
        text_tokens: int,
        device: torch.device,
        compiled: bool,
        batch: int,
        tokenizer: CaptionTokenizer | None = None,
    ) -> None:
        """`tokenizer` is that of inputs to be learnt from; made-up captions have words enough of their own."""
        self.name, self.config, self.stage, self.batch = name, config, stage, batch
        self.worker = Worker(device=device)
        self.dtype = autocast_dtype(config, device)
        self.use_settings()
        before = _allocated(device)
        words_known = tokenizer.vocabulary_size if tokenizer else config.model.text.vocabulary_size
        self.encoder = untrained_model(config.model, config.data, words_known, config.seed).to(device)
        if compiled:
            for tower in (self.encoder.video_model, self.encoder.text_model):
                tower.compile(dynamic=False)
        vocabulary = self.encoder.text_model.config.vocab_size
        section = config.stage_objectives(stage)
        mask_token = tokenizer.mask_token if tokenizer else vocabulary - 1
        self.objectives = build_objectives(section, self.encoder, mask_token, config.seed).to(device)
        self.learner = Learner(self.encoder, self.objectives.positions)
        self.rates = config.stage_optimizer(stage)
        self.optimizer = build_optimizer(self.rates, self.encoder, self.objectives)
        generator = torch.Generator().manual_seed(config.seed)
        size = config.data.image_size
        shape = (batch, stage.frames, 3, size, size)
        clips = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.clips = clips.to(device)  # (b, F, 3, S, S)
        self.masking, self.generator = config.stage_masking(stage), generator
        view = self.view()
        caption = torch.randint(1, vocabulary - 1, (batch, text_tokens), generator=generator)
        caption += caption >= mask_token  # any but that one
        words = torch.arange(text_tokens).expand(batch, -1)  # each token a word
        attended = torch.ones_like(caption, dtype=torch.bool)
        # without words to know anything of, each is as likely to be hidden
        ratio = value_at(self.masking.text.ratio, 0.0)
        captions = Captions(caption, words, attended, torch.full(caption.shape, ratio))
        noise = torch.rand(batch, text_tokens, generator=generator)
        text = masked_text(self.masking.text, ratio, captions, noise, mask_token, pad_token=0)
        inputs = Inputs(
            clips=view.clips,
            visible=view.visible,
            tokens=text.tokens,
            attended=text.attended,
            caption=caption,
            caption_attended=attended,
            rows=torch.arange(batch),
            samples=torch.arange(batch),
            draws=torch.rand(batch, 2, generator=generator),
        )
        self.now = Pass(0, 0.0, stage.accumulate, config.seed, self.worker, self.dtype)
        self.positions = global_positions(self.objectives.positions, inputs, self.now)
        self.shape = StepShape.of(inputs, self.encoder.grid[0] * self.encoder.grid[1], mask_token, vocabulary)
        self.inputs = inputs.to(device)
        for _ in range(WARM_UP_STEPS):
            self.step()
        self.resident = _allocated(device) - before
        self.peak = 0
        self.seconds: list[float] = []

    def use_settings(self) -> None:
        """Threads and precision are the process's, so each arm sets its own before it runs."""
        set_up_process(self.config, self.worker, usable_cores())

    def view(self) -> ClipView:
        """What is seen of the clips at the start of the stage, where its ratio has a schedule."""
        section, dtype = self.masking.video, self.dtype
        with torch.autocast(self.worker.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            return view_of_clips(
                section,
                value_at(section.ratio, 0.0),
                self.clips,
                self.encoder,
                self.generator,
                pieces=self.stage.accumulate,
            )

    def step(self) -> None:
        # others choose on the CPU, while a GPU is still at the step before
        if self.masking.video.strategy in GUIDES or self.inputs.clips.shape != self.clips.shape:
            clips, visible = self.view()
            self.inputs = replace(self.inputs, clips=clips, visible=visible.to(self.worker.device))
        self.learn(self.inputs)

    def learn(self, inputs: Inputs) -> None:
        """The step's arithmetic on any inputs of the stage, on the device."""
        loss_and_gradients(self.learner, self.objectives.pairs, inputs, self.positions, self.batch, self.now)
        clip_gradients(self.optimizer, self.rates)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.objectives.positions.after_step(self.encoder, 0.0)

    def timed_step(self) -> None:
        device = self.worker.device
        self.use_settings()
        others = _allocated(device) - self.resident
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        wait_for(device)
        begun = time.perf_counter()
        self.step()
        wait_for(device)
        self.seconds.append(time.perf_counter() - begun)
        if device.type == "cuda":
            self.peak = max(self.peak, torch.cuda.max_memory_allocated(device) - others)

    @property
    def seconds_per_sample(self) -> float:
        return statistics.median(self.seconds) / self.batch

    def report(self, first: "Arm", peak: int | None, largest: int | None) -> StepReport:
        self.use_settings()
        median = statistics.median(self.seconds)
        (_, frames, visible), text_tokens = self.inputs.visible.shape, self.inputs.tokens.shape[1]
        forward = forward_flops(self.config.model, frames, visible, text_tokens).total
        passes = TRAINING_FACTOR + (self.stage.accumulate > 1)
        pretext = sum(pretext_flops(self.objectives.section, self.config.model, self.shape).values())
        patches = self.encoder.grid[0] * self.encoder.grid[1]
        video = self.config.model.video
        guidance = guidance_flops(self.masking.video, video, self.stage.frames, patches).total
        rate = self.batch * (passes * forward + pretext + guidance) / median
        peak_rate = matmul_rate(self.worker.device, self.dtype or torch.float32)
        return StepReport(
            name=self.name,
            stage=self.stage.name,
            batch=self.batch,
            frames=frames,
            visible=visible,
            text_tokens=text_tokens,
            dtype="fp32" if self.dtype is None else "bf16",
            milliseconds=1e3 * median,
            samples_per_second=self.batch / median,
            relative_time=self.seconds_per_sample / first.seconds_per_sample,
            flops_per_second=rate,
            matmul_flops_per_second=peak_rate,
            matmul_share=rate / peak_rate,
            peak_bytes=peak if peak is not None else self.peak or None,
            largest_batch=largest,
        )


def measure(
    configs: Mapping[str, Config],
    stage_names: Sequence[str],
    batch: int | None,
    text_tokens: int | None,
    steps: int,
    compiled: bool = False,
    search_largest: bool = False,
) -> Report:
    """Each config's step, by name, in `steps` alternating rounds. The first is what others are relative to.

    stage_names: one per config, one for all, or none for each one's first; batch None: the largest share of one
    worker; text_tokens None: data.max_caption_tokens; compiled: the towers by torch.compile. Raises ConfigError for
    a stage that is not there, captions longer than the tower has positions for, arms that do not fit in memory, or
    a search for the largest batch without a GPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if search_largest and device.type == "cpu":
        raise ConfigError(
            "--largest-batch fills the memory of a GPU, and this machine has none; leave it out"
        )
    if len(stage_names) not in (0, 1, len(configs)):
        raise ConfigError(
            f"--stage is given {len(stage_names)} times for {len(configs)} configs; "
            "give it once for all, or once for each in their order"
        )
    builds: list[Callable[[int], Arm]] = []
    batches: list[int] = []
    for number, (name, config) in enumerate(configs.items()):
        stage = stage_named(name, config, stage_names[number % len(stage_names)] if stage_names else None)
        length = text_tokens or config.data.max_caption_tokens
        if length > config.data.max_caption_tokens:
            raise ConfigError(
                f"{name}: --text-tokens is {length}, but data.max_caption_tokens is "
                f"{config.data.max_caption_tokens}; lower the one or raise the other"
            )
        builds.append(partial(Arm, name, config, stage, length, device, compiled))
        batches.append(batch or _share(config, stage))
    tasks = list(zip(builds, batches, strict=True))
    largest = [
        largest_batch(partial(fits_on_gpu, build), start) if search_largest else None
        for build, start in tasks
    ]
    if 0 in largest:
        raise ConfigError(
            f"{list(configs)[largest.index(0)]}: not even a step of one sample fits in the GPU's memory; raise its "
            "masking, or take fewer frames or a smaller model"
        )
    tasks = [(build, min(start, most or start)) for (build, start), most in zip(tasks, largest, strict=True)]
    # compiling takes more main memory than what it compiles
    asked = device.type == "cpu" and not compiled
    peaks = [resident_peak(partial(build, start), __name__) if asked else None for build, start in tasks]
    try:
        arms = [build(start) for build, start in tasks]
        for _ in range(steps):
            for arm in arms:
                arm.timed_step()
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            "the batches of all arms do not fit in the GPU's memory together; lower them with --batch, raise the "
            "stage's accumulate, or measure one arm at a time"
        ) from error
    return Report(
        device=device_name(device),
        steps=steps,
        compiled=compiled,
        arms=[arm.report(arms[0], *memory) for arm, *memory in zip(arms, peaks, largest, strict=True)],
    )


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large square product: the most that a step could reach here."""
    size = MATMUL_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(1 + MATMUL_REPEATS):  # the first warms up, and is never the fastest
        wait_for(device)
        begun = time.perf_counter()
        left @ right
        wait_for(device)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * size**3 / fastest


def stage_named(config_name: str, config: Config, name: str | None) -> Stage:
    stages = {stage.name: stage for stage in config.stages}
    if name is not None and name not in stages:
        raise ConfigError(
            f"{config_name}: --stage is {name!r}; the config has {', '.join(map(repr, stages))}"
        )
    return stages[name] if name is not None else config.stages[0]


def _share(config: Config, stage: Stage) -> int:
    return shares(stage.batch_size, config.cluster.most_workers)[0]


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def wait_for(device: torch.device) -> None:
    """Until it has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
