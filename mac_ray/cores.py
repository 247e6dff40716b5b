"""How many cores there are to use: fewer than the machine has where a scheduler or a container says so."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


# taken before OpenMP, which may bind this thread to one of them
ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """By this process, all its threads together."""
    return max(1, min([ALLOWED, *map(int, quotas(CGROUPS, Path("/proc/self/cgroup")))]))


def quotas(root: Path, own: Path) -> Iterator[float]:
    """Cores that this process's control group, and those above it, may use: cgroups, version 2."""
    try:
        (group,) = (line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, ValueError):
        return
    place = Path(group.lstrip("/"))
    for folder in (place, *place.parents):
        try:
            quota, period = (root / folder / "cpu.max").read_text().split()
        except (OSError, ValueError):  # the root has none
            continue
        if quota != "max":
            yield int(quota) / int(period)
