"""What the tests of whole runs share: a config that trains in seconds, on a set made once per session."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.data.sets import open_set
from tests.runs import TINY, USE_OWN


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made data, decoded frames and tokenisers; every run of the session finds them here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_overrides(tmp_path: Path, shared_cache: Path) -> list[str]:
    """For the command line; runs go to tmp_path / "runs"."""
    return [*TINY, f"storage.runs={tmp_path / 'runs'}", f"storage.cache={shared_cache}"]


@pytest.fixture
def tiny(tiny_overrides: Sequence[str]) -> Config:
    return config_file.load(None, tiny_overrides)


@pytest.fixture
def copied_set(tiny: Config, tiny_overrides: Sequence[str], shared_cache: Path) -> Callable[[Path], Config]:
    """A function that copies the tiny set to a folder, as anyone's own data, and returns a config that reads it."""

    def copy(folder: Path) -> Config:
        made = open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None)
        shutil.copytree(made.root, folder)
        options = {"kind": "manifest", "path": str(folder / made.path.name), "root": str(folder)}
        return config_file.load(
            None,
            [*tiny_overrides, *(f"data.sets.own.{key}={value}" for key, value in options.items()), *USE_OWN],
        )

    return copy
