"""Joining a Ray cluster, without what training needs."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError

from mac_ray.errors import RunError, in_one_line


def start_ray(**given: Any) -> None:
    """The cluster of this job, or one of this machine. Raises RunError where it is not to be had, OSError too."""
    try:
        ray.init(**given)
    except (
        RayError,
        RuntimeError,
    ) as error:  # another version of Ray or Python there, a token that is missing
        raise RunError(f"Ray cannot be started or joined: {in_one_line(error)}") from error
