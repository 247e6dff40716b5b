"""Weights in files: read without running anything that is in them, known by their content, checked before use.

torch's older files are pickles, and a pickle can run code. They are read with `weights_only`. What research code puts
beside its weights, such as the parsed config of Frozen's checkpoints, becomes empty stand-ins, so that none of it runs
or has to be installed; a file that even so needs more is refused rather than trusted.
"""

import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mac_ray.config import ConfigError

Weights = dict[str, Tensor]  # by parameter name, on the CPU

NESTED = ("state_dict", "model")  # where trainers keep the weights beside their own state
PARALLEL_PREFIX = "module."  # of DataParallel
# all that torch.load is known to raise on files that are none of its own
NOT_TORCH = (pickle.UnpicklingError, OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError)


def read_weights(path: Path, place: str) -> Weights:
    """The tensors of a safetensors file or of what torch.save left, in single precision, without `module.`.

    `place` is the dotted path of the config value that names the file. Raises ConfigError for a file that is
    missing, damaged, no checkpoint, or holds pickled code that stand-ins cannot take the place of.
    """
    source = f"{place} = {str(path)!r}"
    if not path.is_file():
        raise ConfigError(f"{source}: there is no such file; give the path of a checkpoint")
    if path.suffix == ".safetensors":
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f"{source} is damaged or no safetensors file ({error}); fetch it again"
            ) from error
    else:
        found = _state_dict(_unpickled(path, source), source)
    if not found:
        raise ConfigError(f"{source} holds no weights; give another checkpoint")
    if all(name.startswith(PARALLEL_PREFIX) for name in found):
        found = {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in found.items()}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def _unpickled(path: Path, source: str) -> object:
    try:
        with torch.serialization.safe_globals(_stand_ins(path)):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except NOT_TORCH as error:
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ConfigError(
                f"{source} holds pickled code ({code[1]}) beside its weights, and reading it would run that code; if "
                "you trust where it comes from, convert it once, where the code it names is installed: "
                "safetensors.torch.save_file(torch.load(FILE, weights_only=False)['state_dict'], 'FILE.safetensors')"
            ) from error
        raise ConfigError(
            f"{source} is no checkpoint that torch or safetensors wrote, or is cut short ({type(error).__name__}); "
            "fetch it again"
        ) from error
    return content


class _StandIn:
    """Of an object whose class is not torch's: takes whatever it is made of, and has none of it."""

    def __new__(cls, *given: object, **named: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *given: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _stand_ins(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For each class or function that the file names, by its name; torch has a list of those that it takes for none."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except NOT_TORCH:  # in the format before torch 1.6, too, where only whole files of weights are read
        return []
    return [(type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in names]


def _state_dict(content: object, source: str) -> Weights:
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{source} holds a {type(content).__name__}, no weights by name; give another checkpoint"
        )
    strange = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise ConfigError(
            f"{source} holds {strange[0]!r}, which is no tensor, and no weights under "
            f"{' or '.join(map(repr, NESTED))}; give a checkpoint of weights by name"
        )
    return dict(content)


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and values: the same in whatever format and place they are stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_sizes(place: str, source: str, given: Mapping[str, int], found: Mapping[str, int]) -> None:
    """Raises ConfigError unless the section at `place` says the sizes that the checkpoint has.

    The config has to be true, because costs are counted from it.
    """
    if dict(given) != dict(found):
        raise ConfigError(
            f"{place} says {dict(given)}, but {source} has {dict(found)}; write these into the config"
        )


def fill(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load all weights of a module. Raises ConfigError naming the first that is missing, of no use, or misfit."""
    wanted = module.state_dict()
    if missing := sorted(wanted.keys() - weights.keys()):
        raise ConfigError(
            f"{source} lacks {len(missing)} of the weights of this model, such as {missing[0]}; give another "
            "checkpoint, or the model its depth and kind"
        )
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise ConfigError(
            f"{source} has {len(unknown)} weights that this model has no place for, such as {unknown[0]}; give "
            "another checkpoint, or the model its depth and kind"
        )
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise ConfigError(
                f"{source}: {name} is {tuple(weights[name].shape)} there and {tuple(tensor.shape)} in this model; "
                "give the model the sizes of the checkpoint"
            )
    module.load_state_dict(weights)
