"""A small finished study with a failed and a missing run, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mac_ray.ablation.record import SweepRecord
from mac_ray.ablation.sweep import Sweep
from tests.ablation.made import ended_run, make_runs, recorded, run_folder

SWEEP = Sweep(
    name="made-ratios",
    question="Does masking cost <recall>?",
    base="configs/ablation.yaml",
    factors={"masking.video.ratio": (0.0, 0.6, 0.9)},
    seeds=(0, 1),
    reference="mac/table6",
    published={"video.ratio=0": "no mask", "video.ratio=0.6": "random", "video.ratio=0.9": "tube"},
)
QUALITIES = {"video.ratio=0": 0.55, "video.ratio=0.6": 0.6}
FLOPS = {"video.ratio=0": 2e15, "video.ratio=0.6": 1e15}
REASON = "step 7 has a loss that is not finite; lower <optimizer.learning_rate>"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> SweepRecord:
    """Two finished rows; of the third, one seed failed and the other was never started."""
    runs = tmp_path_factory.mktemp("runs")
    make_runs(SWEEP, runs, QUALITIES, FLOPS)
    ended_run(run_folder(runs, "video.ratio=0.9", 0), "FAILED", REASON)
    return recorded(SWEEP, runs)


@pytest.fixture
def base(tmp_path: Path) -> str:
    """The file of a config that is the defaults."""
    path = tmp_path / "base.yaml"
    path.write_text("name: tiny\n")
    return str(path)


@pytest.fixture(scope="session")
def runs(study: SweepRecord) -> Path:
    return study.runs[0].folder.parent
