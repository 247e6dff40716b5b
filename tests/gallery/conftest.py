"""A gallery of small videos and pictures, and an encoder of random weights to embed it with."""

from pathlib import Path

import pytest

from mac_ray.config import Config
from mac_ray.encoder import Encoder, load_encoder
from tests.data.conftest import write_media
from tests.test_encoder import saved_run


@pytest.fixture
def encoder(tiny: Config, tmp_path: Path) -> Encoder:
    run, _ = saved_run(tiny, tmp_path / "run")
    return load_encoder(run.path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """7 videos of 0.1 to 3 s at 10 frames a second, and 2 pictures."""
    made = tmp_path / "media"
    made.mkdir()
    write_media(made)
    return made
