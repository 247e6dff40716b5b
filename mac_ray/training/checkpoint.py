"""Checkpoints of a run: complete or absent, whatever was killed while they were written.

A checkpoint is a folder `step_00000200` with `model.safetensors`, `state.pt` and nothing else. It is written
under a temporary name, flushed to disk, and then renamed, which a file system does at once or not at all.
Rank 0 writes it into the run's folder, the same way under Ray Train, in a Tune actor and in a plain call.
"""

import os
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mac_ray.errors import RunError, in_one_line

PREFIX = "step_"
NAME = re.compile(rf"{PREFIX}\d+")  # others are what people called step_00000200.bad
# what PyTorch and safetensors make of files that are empty, cut short, or something else
UNREADABLE = (EOFError, LookupError, struct.error, FileNotFoundError, SafetensorError, UnpicklingError)
TEMPORARY = "writing_"


def save(folder: Path, step: int, model: dict[str, Tensor], state: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of `step`, then delete all but the `keep` newest.

    Raises OSError with the folder and the remedy when it cannot be written; older checkpoints stay.
    """
    target = path_of(folder, step)
    if target.exists():
        return target
    temporary = folder / f"{TEMPORARY}{step:08d}_{os.getpid()}"
    try:
        _discard_unfinished(folder)
        temporary.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in model.items()}, weights_of(temporary))
        torch.save(state, temporary / "state.pt")
        for file in (*temporary.iterdir(), temporary):
            _flush(file)
        temporary.rename(target)
        _flush(folder)
    except (torch.AcceleratorError, torch.OutOfMemoryError):  # of a step before, met here
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # what a full disk is to torch.save and to safetensors
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {folder} ({error}); free space there or set "
            "storage.runs to another disk, and start the same command again: it continues from the checkpoint before"
        ) from error
    for old in _finished(folder)[:-keep]:
        doomed = folder / f"{TEMPORARY}{old.name}"  # half deleted, it must not pass for a checkpoint
        old.rename(doomed)
        # what is left of it is no reason to end a run whose newest is safe
        shutil.rmtree(doomed, ignore_errors=True)
    return target


def path_of(folder: Path, step: int) -> Path:
    return folder / f"{PREFIX}{step:08d}"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    return finished[-1] if (finished := _finished(folder)) else None


def load(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The model's weights and the rest of the state, on the CPU: a GPU has no room for them twice."""
    state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
    return load_file(weights_of(checkpoint)), state


@contextmanager
def restoring(checkpoint: Path) -> Iterator[None]:
    """Around what reads a checkpoint, and takes over what it read.

    Raises RunError for one that is damaged, or has other state than this version of the code keeps.
    """
    try:
        yield
    except (torch.AcceleratorError, torch.OutOfMemoryError):  # nothing that the checkpoint did
        raise
    except (*UNREADABLE, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and not checkpoint.is_dir():
            raise  # a shared file system may show it late, to a node that is not rank 0's
        raise RunError(
            f"the run cannot go on from {checkpoint}: it is damaged, or another version of mac_ray left it "
            f"({in_one_line(error)}); delete it, and the same command goes on from the one before it, or begins anew"
        ) from error


def weights_of(checkpoint: Path) -> Path:
    """The file with the model's weights in a checkpoint's folder."""
    return checkpoint / "model.safetensors"


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{PREFIX}*") if NAME.fullmatch(path.name))


def _discard_unfinished(folder: Path) -> None:
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
