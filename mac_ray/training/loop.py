"""The training loop: one run from its first stage to its last evaluation. A run of no stages is that evaluation.

`train` is a function of the config, the run's folder and the worker it runs as. Whatever is random in step k
is a function of (seed, k), so a run that was killed and started again is the run that was not.

b samples on this rank, B in the global batch.
"""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch

from mac_ray.config import Config
from mac_ray.cores import usable_cores
from mac_ray.data.clips import ClipReader
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.loader import TrainingBatches, in_steps
from mac_ray.data.quarantine import Quarantine
from mac_ray.data.text import CaptionTokenizer
from mac_ray.errors import RunError, TooManyFailuresError, UndecodableSamplesError
from mac_ray.model.dual import DualEncoder
from mac_ray.model.flops import text_flops
from mac_ray.model.text import word_embeddings
from mac_ray.model.video import grow_towers
from mac_ray.objectives.costs import pretext_flops
from mac_ray.objectives.position import StepShape
from mac_ray.tracking.journal import DEVICE_TAG, PRECISION_TAG, WORKERS_TAG, Journal
from mac_ray.training import checkpoint, results
from mac_ray.training.costs import Costs
from mac_ray.training.distributed import (
    Worker,
    autocast_dtype,
    device_name,
    meet,
    out_of_memory_explained,
    parallel,
    set_up_process,
    summed,
    with_agreed_precision,
    workers_in_words,
)
from mac_ray.training.evaluation import Embeddings, embed_split, require_finite, sampled_anew, score_val
from mac_ray.training.first_weights import first_model
from mac_ray.training.folder import RunFolder
from mac_ray.training.forward import Learner, Pass, global_positions, loss_and_gradients
from mac_ray.training.handover import Trained, next_stage
from mac_ray.training.hiding import Hiding, open_lexicon
from mac_ray.training.inputs import RunData, open_data, reader
from mac_ray.training.masked_views import masked_view_metrics
from mac_ray.training.meter import Meter
from mac_ray.training.optim import clip_gradients, learning_rate, set_learning_rate
from mac_ray.training.plan import Leg, legs

Outcome = Literal["finished", "interrupted"]
VALIDATED = "val/t2v/R1"  # a metric that every scoring of the val split has


@out_of_memory_explained()
def train(
    config: Config,
    folder: RunFolder,
    worker: Worker,
    journal: Journal | None,
    fingerprints: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Train and evaluate, from the newest checkpoint if there is one. Rank 0 has the journal, the others None.

    `fingerprints`: of the sets by name, by which the run is known. Returns "interrupted" after a stop request, with
    everything saved. Raises RunError when starting again would not help, ConfigError or ManifestError for what this
    machine lacks, and OSError when storage fails.
    """
    set_up_process(config, worker, usable_cores())
    data = open_data(config, _quietly)
    require_same(data, fingerprints)
    meet(worker)
    config = with_agreed_precision(config, worker)
    tokenizer = CaptionTokenizer(folder.tokenizer, config.data.max_caption_tokens)
    lexicon = open_lexicon(config, folder, tokenizer)
    opened = partial(reader, config=config, progress=_quietly)
    quarantine = Quarantine(folder.quarantine)
    readers = {
        name: opened(manifest, "train", quarantine=quarantine) for name, manifest in data.train.items()
    }
    # where nothing may be missing, what is given up ends the run, and has to be tried again when it goes on
    spared = quarantine if config.evaluation.allow_missing else None
    scored = {split: opened(manifest, split, quarantine=spared) for split, manifest in data.scored}
    plan = legs(config, data.train_sizes)
    dtype = autocast_dtype(config, worker.device)

    model = first_model(config, folder, tokenizer)
    model.to(worker.device)
    if journal:
        place = {
            DEVICE_TAG: device_name(worker.device),
            WORKERS_TAG: workers_in_words(worker),
            PRECISION_TAG: config.precision,
        }
        note_place(journal, place)
    num_patches = model.grid[0] * model.grid[1]
    vocabulary_size = len(word_embeddings(model.text_model))  # a checkpoint may have more than its tokeniser
    before: Trained | None = None
    meter, costs = Meter(), Costs()
    step = 0  # of the run; the number of steps made
    failures_before = 0  # the stage under way
    saved: dict[str, Any] = {}
    if newest := agreed_checkpoint(folder, worker):
        with checkpoint.restoring(newest):
            weights, saved = checkpoint.load(newest)
            model.load_state_dict(weights)
            step, costs, failures_before = saved["step"], Costs(**saved["costs"]), saved["failures_before"]
            meter.resume(saved["pending"], saved["seconds"])
            del weights

    validate = partial(
        validated,
        model=model,
        tokenizer=tokenizer,
        lexicon=lexicon,
        config=config,
        folder=folder,
        worker=worker,
    )
    saved_at = time.monotonic()
    for leg in plan:
        stage, rates = leg.stage, config.stage_optimizer(leg.stage)
        objectives, optimizer = before = next_stage(config, stage, before, model, tokenizer.mask_token)
        if newest and leg.first < step <= leg.last:
            with checkpoint.restoring(newest):
                objectives.load_state_dict(saved["objectives"])
                optimizer.load_state_dict(saved["optimizer"])
            saved.clear()
            if leg.is_evaluated(step, config.evaluation.every_epochs) and not is_scored(
                journal, step, worker
            ):
                values = validate(val=scored["val"], leg=leg, step=step, is_last=step == plan[-1].last)
                meter.pause()
                if journal:
                    journal.metrics(step, values | costs.logged(meter.seconds()))
        if step >= leg.last:  # made before the run was resumed
            continue
        if step == leg.first:
            failures_before = costs.failures
        grow_towers(stage.frames, model, objectives)
        hide = Hiding(config, leg, model, tokenizer, lexicon, worker)
        if step == 0:  # where the curves begin
            with noting_failures(folder, worker):
                values = masked_view_metrics(
                    model, scored["val"], tokenizer, lexicon, config, leg, step, worker
                )
            meter.pause()
            if journal and values:
                journal.metrics(step, values | costs.logged(meter.seconds()))
        learner = parallel(Learner(model, objectives.positions), worker)
        pairs = parallel(objectives.pairs, worker)
        batches = TrainingBatches(
            [readers[name] for name in stage.data],
            tokenizer,
            config,
            leg.number,
            leg.num_steps,
            worker.rank,
            worker.num_ranks,
        )
        ahead = in_steps(
            batches,
            max(step - leg.first, 0),
            leg.num_steps,
            config.cluster.loader_workers,
            worker.device.type == "cuda",
        )
        for batch in meter.timed(ahead):
            # what is hidden, views, losses, gradients
            now = Pass(step, leg.progress(step), stage.accumulate, config.seed, worker, dtype)
            inputs = hide(batch, batches.rows, step)
            positions = global_positions(objectives.positions, inputs, now)
            shape = StepShape.of(inputs, num_patches, tokenizer.mask_token, vocabulary_size)
            inputs = inputs.to(worker.device)
            loss, parts = loss_and_gradients(learner, pairs, inputs, positions, stage.batch_size, now)

            # the step
            parts["gradient_norm"] = clip_gradients(optimizer, rates)
            rate = learning_rate(rates, step - leg.first, leg.num_steps)
            set_learning_rate(optimizer, rates, rate)
            optimizer.step()
            optimizer.zero_grad()
            objectives.positions.after_step(model, now.progress)
            step += 1
            meter.add(step, stage.batch_size, loss, parts)

            # what only some ranks know: captions' lengths, what could not be decoded, a request to stop, the time
            text_cost = len(inputs.tokens) * text_flops(config.model.text, shape.text_tokens).total
            pretext = pretext_flops(objectives.section, config.model, shape)
            extra_cost = len(inputs.tokens) * (sum(pretext.values()) + hide.guidance_flops)
            undecoded = [len(batch.failures), len(batch.shortened)]
            is_due = worker.rank == 0 and time.monotonic() - saved_at > 60 * config.storage.checkpoint_minutes
            local = [text_cost, extra_cost, *undecoded, folder.stop_request.exists(), is_due]
            text_cost, extra_cost, failures, shortened, stop, due = map(
                int, summed(torch.tensor(local, dtype=torch.float64), worker).tolist()
            )
            seen = (shape.frames, shape.visible)
            costs.charge_step(config.model, stage, seen, text_cost, extra_cost, failures, shortened)
            if batch.failures:
                folder.note_failures(worker.rank, batch.failures)
            if batch.shortened:
                folder.note_shortened(worker.rank, batch.shortened)
            failed, drawn = costs.failures - failures_before, (step - leg.first) * stage.batch_size
            if failed > config.data.max_bad_share * max(
                drawn, min(leg.num_samples, leg.num_steps * stage.batch_size)
            ):
                raise TooManyFailuresError(
                    f"{failed} of the {drawn} samples drawn in stage {stage.name!r} up to step {step} could not be "
                    f"decoded, more than data.max_bad_share {config.data.max_bad_share} allows; they are named in "
                    f"{folder.path}/undecodable_*.txt"
                )

            # once in a while
            if step % config.tracking.log_every == 0 or step == leg.last:
                values = meter.read(worker)
                if journal:
                    position = {"learning_rate": rate, "epoch": leg.epochs(step), "stage": float(leg.number)}
                    train_values = {f"train/{name}": value for name, value in (values | position).items()}
                    journal.metrics(step, train_values | costs.logged(meter.seconds()))
            if step % config.storage.checkpoint_every == 0 or step == leg.last or stop or due:
                state = {
                    "step": step,
                    "costs": asdict(costs),
                    "failures_before": failures_before,
                    "pending": meter.pending(worker),
                    "seconds": meter.seconds(),
                    "objectives": objectives.state_dict(),
                    "optimizer": optimizer.state_dict(),
                }
                if worker.rank == 0:
                    checkpoint.save(
                        folder.checkpoints, step, model.state_dict(), state, config.storage.keep_checkpoints
                    )
                saved_at = time.monotonic()
                meter.pause()
            if stop:
                return "interrupted"
            if leg.is_evaluated(step, config.evaluation.every_epochs):
                # or what is not finite would be met by the scoring, which cannot say why
                meter.pending(worker)
                values = validate(val=scored["val"], leg=leg, step=step, is_last=step == plan[-1].last)
                meter.pause()
                if journal:
                    journal.metrics(step, values | costs.logged(meter.seconds()))

    test = scored["test"]
    with noting_failures(folder, worker):
        embeddings = embed_split(model, test, tokenizer, config, worker)
        require_finite(embeddings, step)
        _note_faults(embeddings, folder, worker)
        also = [
            sampled_anew(embeddings, sampling, model, test, config, worker)
            for sampling in config.evaluation.also
        ]
    for each in also:
        require_finite(each, step)
        _note_faults(each, folder, worker)
    if journal:
        results.write(folder, journal, step, config, embeddings, also, test)
        if plan:
            first = readers[plan[0].stage.data[0]]
            results.write_masked_clips(folder, journal, first, model, config, tokenizer, lexicon)
        if config.evaluation.masked_views is not None:
            results.write_masked_views(folder, journal, plan)
    return "finished"


def require_same(data: RunData, fingerprints: Mapping[str, str]) -> None:
    """Raises RunError for a set that holds something else than what the run is known by, as where its manifest was
    written anew while the run was under way, or is another one on this node."""
    for name, fingerprint in fingerprints.items():
        if data.fingerprints[name] != fingerprint:
            raise RunError(
                f"data.sets.{name} has other samples on {socket.gethostname()} than when the run was begun "
                f"({data.manifests[name].path}); put back what was there, or start the same command, which then trains "
                "another run"
            )


def agreed_checkpoint(folder: RunFolder, worker: Worker) -> Path | None:
    """The checkpoint to go on from, as rank 0 knows it: a shared file system may be slow to tell the others of it."""
    own = checkpoint.latest(folder.checkpoints) if worker.rank == 0 else None
    number = 0.0 if own is None else 1.0 + checkpoint.step_of(own)
    agreed = int(summed(torch.tensor(number, dtype=torch.float64), worker))
    return checkpoint.path_of(folder.checkpoints, agreed - 1) if agreed else None


def validated(
    model: DualEncoder,
    val: ClipReader,
    tokenizer: CaptionTokenizer,
    lexicon: Lexicon,
    config: Config,
    folder: RunFolder,
    worker: Worker,
    leg: Leg,
    step: int,
    is_last: bool,
) -> dict[str, float]:
    """Metrics of the val split after `step` steps, on rank 0. What cannot be decoded is named the last time.

    Raises UndecodableSamplesError and NonFiniteLossError, on all ranks or none.
    """
    with noting_failures(folder, worker):
        embeddings = embed_split(model, val, tokenizer, config, worker)
        require_finite(embeddings, step)
        if is_last:  # the same ones every time
            _note_faults(embeddings, folder, worker)
        values = masked_view_metrics(model, val, tokenizer, lexicon, config, leg, step, worker)
    if worker.rank == 0:
        values |= results.named("val", score_val(embeddings, config), embeddings.truncated)
    meet(worker)
    return values


def is_scored(journal: Journal | None, step: int, worker: Worker) -> bool:
    """Whether the val split was, after so many steps, by the journal that rank 0 has."""
    found = journal is not None and journal.has_metric(VALIDATED, step)
    return bool(summed(torch.tensor(float(found), dtype=torch.float64), worker))


@contextmanager
def noting_failures(folder: RunFolder, worker: Worker) -> Iterator[None]:
    """Where what cannot be decoded ends the run, a rank names all that it met, and the error only the first."""
    try:
        yield
    except UndecodableSamplesError as error:
        folder.note_failures(worker.rank, error.failures)
        raise


def _note_faults(embeddings: Embeddings, folder: RunFolder, worker: Worker) -> None:
    folder.note_failures(worker.rank, embeddings.faults.failures)
    folder.note_shortened(worker.rank, embeddings.faults.shortened)


BETWEEN = ", then "  # places of one run


def note_place(journal: Journal, found: Mapping[str, str]) -> None:
    """Tags of where and how this attempt computes, beside those of earlier ones, if they are others."""
    for tag, now in found.items():
        earlier = journal.tag(tag)
        if earlier is None or earlier.rpartition(BETWEEN)[2] != now:
            journal.tags({tag: f"{earlier}{BETWEEN}{now}" if earlier else now})


def _quietly(what: str, done: int, total: int) -> None:
    """The driver has made the data and shown its progress; a worker elsewhere makes its own in silence."""
