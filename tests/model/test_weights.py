"""Weights in files of every kind that people have, and in files that are none."""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mac_ray.config import ConfigError
from mac_ray.model.weights import fill, fingerprint, read_weights


class Settings:
    """A class of a research repository, as pickled beside the weights in its checkpoints."""


class Bomb:
    """Leaves a file behind when it is unpickled by someone who trusts it."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(2, 3, generator=generator),
        "a.bias": torch.randn(2, generator=generator),
    }


def read(path: Path) -> dict[str, Tensor]:
    return read_weights(path, "model.pretrained")


def saved(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_read_from_bare_nested_and_parallel_checkpoints_of_either_format(
    tmp_path: Path, zipped: bool, nested: str | None, prefix: str
) -> None:
    given = OrderedDict((prefix + name, tensor) for name, tensor in weights().items())
    content = {nested: given, "epoch": 3, "optimizer": {"lr": 0.1}} if nested else given
    path = saved(content, tmp_path / "c.pth.tar", _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert found.keys() == weights().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights().items())


def test_weights_of_a_safetensors_file_are_read_and_half_precision_becomes_single(tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in weights().items()}, tmp_path / "c.safetensors")
    found = read(tmp_path / "c.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    torch.testing.assert_close(found["a.weight"], weights()["a.weight"], rtol=1e-3, atol=1e-3)


def test_weights_are_read_beside_objects_of_code_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen's trainer saves its ConfigParser, of a module of its repository, with paths and an OrderedDict in it."""
    module = types.ModuleType("parse_config")
    parser = type("ConfigParser", (), {"__module__": "parse_config"})
    module.ConfigParser = parser
    monkeypatch.setitem(sys.modules, "parse_config", module)
    config = parser()
    config.path, config.options = tmp_path, OrderedDict(arch=argparse.Namespace(frames=4))
    content = {"arch": "FrozenInTime", "epoch": 3, "state_dict": weights(), "config": config}
    path = saved(content, tmp_path / "c.pth.tar")
    monkeypatch.delitem(sys.modules, "parse_config")
    assert {name: tensor.tolist() for name, tensor in read(path).items()} == {
        name: tensor.tolist() for name, tensor in weights().items()
    }
    assert "parse_config" not in sys.modules


# ---------------------------------------------------------------- content


def test_fingerprint_is_of_the_content_whatever_format_and_order(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "c.safetensors")
    nested = {"state_dict": dict(reversed(weights().items()))}
    path = saved(nested, tmp_path / "c.pth")
    assert fingerprint(read(path)) == fingerprint(read(tmp_path / "c.safetensors")) == fingerprint(weights())


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found | {"a.bias": found["a.bias"] + 1e-6},
        lambda found: found | {"a.weight": found["a.weight"].T},
        lambda found: {"b.weight": found["a.weight"], "a.bias": found["a.bias"]},
    ],
)
def test_fingerprint_of_other_values_shapes_or_names_is_another(change: Any) -> None:
    assert fingerprint(change(weights())) != fingerprint(weights())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_with_pickled_code_is_refused_with_the_remedy_and_not_run(
    tmp_path: Path, zipped: bool
) -> None:
    bomb = tmp_path / "exploded"
    for content in ({"state_dict": weights(), "config": Bomb(bomb)}, Bomb(bomb)):
        path = saved(content, tmp_path / "c.pth.tar", _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            ConfigError, match=r"model\.pretrained = .*c\.pth\.tar' holds pickled code .*mkdir"
        ):
            read(path)
        assert not bomb.exists()


def test_checkpoint_with_a_pickled_config_of_the_format_before_is_refused_by_the_name_of_its_class(
    tmp_path: Path,
) -> None:
    path = saved(
        {"state_dict": weights(), "config": Settings()},
        tmp_path / "c.pth.tar",
        _use_new_zipfile_serialization=False,
    )
    with pytest.raises(ConfigError, match=r"Settings.*convert it once.*safetensors\.torch\.save_file"):
        read(path)


def test_pickled_model_is_no_weights(tmp_path: Path) -> None:
    path = saved({"state_dict": Settings()}, tmp_path / "c.pth.tar")
    with pytest.raises(ConfigError, match=r"holds 'state_dict', which is no tensor"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pth", b"hello world"),
        ("empty.pth", b""),
        ("noise.pth", bytes(range(256)) * 40),
        ("number.pth", pickle.dumps(3)),
        ("picture.safetensors", b"\x89PNG\r\n\x1a\n" * 20),
        ("empty.safetensors", b""),
    ],
)
def test_file_that_is_no_checkpoint_is_refused_by_its_path(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"model\.pretrained = .*{name}' (is|holds)"):
        read(tmp_path / name)


def test_checkpoint_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = saved({"a": torch.ones(1000)}, tmp_path / "c.pth")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConfigError, match=r"cut short.*fetch it again"):
        read(path)


def test_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pth': there is no such file"):
        read(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "a": torch.ones(1)}, "'epoch', which is no tensor"),
        ({"state_dict": {}}, "no weights"),
        ([torch.ones(1)], "holds a list"),
    ],
)
def test_checkpoint_without_weights_by_name_is_refused(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(saved(content, tmp_path / "c.pth"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight": torch.zeros(2, 3)}, "lacks 1 of the weights of this model, such as bias"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "scale": torch.zeros(1)},
            "no place for, such as scale",
        ),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight is \(2, 4\) there and \(2, 3\)"),
    ],
)
def test_weights_that_do_not_fill_a_module_are_refused_by_name(given: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ConfigError, match=f"my file.*{said}"):
        fill(nn.Linear(3, 2), given, "my file")
