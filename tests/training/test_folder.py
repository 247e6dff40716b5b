"""Which folder is taken for a run where there are several of its identity."""

from pathlib import Path

import pytest

from mac_ray.training.folder import KnownRuns, RunFolder
from tests.ablation.made import ended_run

IDENTITY = "0123456789abcdef"


@pytest.mark.parametrize("finished", ["a_study", "of_a_colleague"])
def test_folder_that_has_finished_is_the_runs_whatever_others_are_called(
    finished: str, tmp_path: Path
) -> None:
    """Folders of two machines were put together, or somebody has kept a copy."""
    for name in ("a_study", "of_a_colleague", "backup-of-a_study"):
        ended_run(tmp_path / f"{name}-{IDENTITY[:10]}", "FINISHED" if name == finished else "FAILED", "")
    found = RunFolder.of(KnownRuns.below_folder(tmp_path), "another", IDENTITY)
    assert found.path.name == f"{finished}-{IDENTITY[:10]}"
    assert (
        RunFolder.of(KnownRuns.below_folder(tmp_path), "another", "fedcba9876").path.name
        == "another-fedcba9876"
    )
