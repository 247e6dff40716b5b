"""Training from shards: the frames of the files, and a run that may be killed."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mac_ray.config import Config, Data
from mac_ray.data.clips import ClipReader
from mac_ray.data.manifest import Manifest
from mac_ray.data.pool import random_in_intervals
from mac_ray.data.sets import open_set
from mac_ray.prepare.transcode import Options
from tests.jobs import kill, run_here, start_job, wait_for_checkpoint
from tests.prepare.sharded import converted
from tests.runs import UNTRACKED, USE_OWN, the_run, weights_and_metrics

OPTIONS = Options(form="jpeg", frames=3, rate=None, short_side=None, quality=95, decoder="pyav")


@pytest.fixture
def source(tiny: Config, shared_cache: Path) -> Path:
    return open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None).path


def test_frames_drawn_from_shards_are_those_of_a_pool_of_the_files(source: Path, tmp_path: Path) -> None:
    """But for what JPEG loses: pictures of other moments are further apart."""
    shards = converted(source, tmp_path / "shards", OPTIONS)
    files = Manifest.open(source)
    section = Data(pool_frames=OPTIONS.frames)
    readers = [ClipReader(manifest.split("train"), section, "pyav", None) for manifest in (files, shards)]
    draws = np.random.default_rng(0).random(2)
    apart = []
    for index in range(len(readers[0].manifest)):
        pictures = [
            reader.read(reader.manifest[index], partial(random_in_intervals, draws=draws)).astype(int)
            for reader in readers
        ]
        assert abs(pictures[0] - pictures[1]).mean() < 4
        apart.append(abs(pictures[0][0] - pictures[1][1]).mean())
    assert np.mean(apart) > 6


def test_run_on_shards_killed_ends_as_if_untouched_with_cached_frames(
    tiny_overrides: list[str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = converted(source, tmp_path / "shards", OPTIONS)
    own = ["data.sets.own.kind=manifest", f"data.sets.own.path={shards.path}", *USE_OWN]
    overrides = [*tiny_overrides, *own, "storage.checkpoint_every=1", UNTRACKED]
    job = start_job(overrides, tmp_path, "--without-ray")
    wait_for_checkpoint(tmp_path / "runs", job, after=1)
    kill(job)
    assert run_here(overrides, tmp_path, monkeypatch) == 0

    untouched = [*overrides, f"storage.runs={tmp_path / 'untouched'}", "cluster.cache_budget_gb=1"]
    assert run_here(untouched, tmp_path, monkeypatch) == 0
    assert weights_and_metrics(the_run(tmp_path / "runs")) == weights_and_metrics(
        the_run(tmp_path / "untouched")
    )
