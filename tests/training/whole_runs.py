"""Small runs from their first step to their last, in this process or in several, and whether two are the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from torch.multiprocessing import start_processes

from mac_ray.config import Config
from mac_ray.data.text import CaptionTokenizer
from mac_ray.tracking.journal import Journal
from mac_ray.training import checkpoint
from mac_ray.training.distributed import Worker
from mac_ray.training.first_weights import first_model
from mac_ray.training.loop import train
from mac_ray.training.start import PreparedRun, prepare
from tests.runs import TINY_STEPS, metrics_of

# Adam divides a gradient by its own size, so rounding alone turns steps on near-zero gradients around; with a
# large eps a step is proportional to the gradient, and equal weights mean equal gradients
SMOOTH = ["optimizer.eps=1", "optimizer.learning_rate=0.05", "tracking.log_every=1"]
Weights = dict[str, torch.Tensor]


def prepared(config: Config, runs: Path) -> PreparedRun:
    storage = config.storage.model_copy(update={"runs": str(runs)})
    return prepare(config.model_copy(update={"storage": storage}), Path.cwd(), Path.cwd(), lambda *_: None)


def open_journal(run: PreparedRun) -> Journal:
    return Journal.open_or_create(run.folder.path, name=run.name, experiment="test", identity=run.identity)


def trained(config: Config, runs: Path) -> PreparedRun:
    run = prepared(config, runs)
    with open_journal(run) as journal:
        assert train(run.config, run.folder, Worker(), journal) == "finished"
    return run


def first_weights(run: PreparedRun) -> Weights:
    tokenizer = CaptionTokenizer(run.folder.tokenizer, run.config.data.max_caption_tokens)
    return first_model(run.config, run.folder, tokenizer).state_dict()


def final_weights(run: PreparedRun) -> Weights:
    newest = checkpoint.latest(run.folder.checkpoints)
    assert newest is not None
    assert newest.name == f"step_{run.plan[-1].last:08d}"
    return load_file(newest / "model.safetensors")


def assert_same(one: PreparedRun, other: PreparedRun) -> None:
    first, second = final_weights(one), final_weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert metrics_of(one.folder.path) == metrics_of(other.folder.path)


def assert_close(one: PreparedRun, other: PreparedRun) -> None:
    """Losses, norms of gradients and weights, step by step, to the rounding of fp32; what was counted; mean ranks."""
    first, second = metrics_of(one.folder.path), metrics_of(other.folder.path)
    assert first.keys() == second.keys()
    losses = [point for point in first if point[0].startswith("train/loss")]
    assert {step for _, step in losses} == set(range(1, TINY_STEPS + 1))
    for point in losses:
        assert first[point] == pytest.approx(second[point], rel=1e-4, abs=1e-6), point
    for point, value in first.items():
        name, _ = point
        if name in ("cost/samples", "cost/visible_tokens", "cost/failures"):
            assert second[point] == value, point
        elif name.endswith("/MnR"):  # of 8 queries, one may be a place further by rounding
            assert second[point] == pytest.approx(value, abs=1.01 / 8), point
        elif name.endswith("/mean_cosine"):
            assert second[point] == pytest.approx(value, abs=1e-3), point
    weights = final_weights(other)
    for name, tensor in final_weights(one).items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def trained_on(num_ranks: int, config: Config, runs: Path) -> PreparedRun:
    """By as many processes."""
    runs.mkdir(exist_ok=True)
    start_processes(_rank, (config, runs, num_ranks), num_ranks, start_method="forkserver")
    return prepared(config, runs)


def _rank(rank: int, config: Config, runs: Path, num_ranks: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{runs}/rendezvous", rank=rank, world_size=num_ranks
    )
    run = prepared(config, runs)
    if rank == 0:
        with open_journal(run) as journal:
            train(run.config, run.folder, Worker(0, num_ranks), journal)
    else:
        train(run.config, run.folder, Worker(rank, num_ranks), None)
    distributed.destroy_process_group()
