"""Cores that a container or a scheduler leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mac_ray.cores import quotas, usable_cores


def test_cores_are_those_a_process_was_started_on() -> None:
    one = min(os.sched_getaffinity(0))
    bind = f"import os; os.sched_setaffinity(0, {{{one}}}); "
    code = "from mac_ray.cores import usable_cores; print(usable_cores())"
    found = subprocess.run([sys.executable, "-c", bind + code], capture_output=True, check=True)
    assert found.stdout == b"1\n"
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("group", "expected"), [("/", []), ("/job", [2.5]), ("/job/step", [1.5, 2.5]), ("/elsewhere", [])]
)
def test_quotas_are_those_of_the_group_and_of_all_above_it(
    tmp_path: Path, group: str, expected: list[float]
) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    (root / "job/step").mkdir(parents=True)
    (root / "job/cpu.max").write_text("250000 100000\n")
    (root / "job/step/cpu.max").write_text("75000 50000\n")
    (root / "elsewhere").mkdir()
    (root / "elsewhere/cpu.max").write_text("max 100000\n")
    own.write_text(f"0::{group}\n")
    assert list(quotas(root, own)) == expected


def test_group_of_an_older_kernel_has_no_quota_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("3:cpu,cpuacct:/job\n1:name=systemd:/job\n")
    assert list(quotas(tmp_path, tmp_path / "own")) == []
    assert list(quotas(tmp_path, tmp_path / "missing")) == []
