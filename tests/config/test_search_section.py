"""The section of a search: what holds between window and hop."""

import pytest
from pydantic import ValidationError

from mac_ray.config import Search, Storage


def test_windows_that_would_leave_gaps_are_refused() -> None:
    assert Search(window=3, hop=3).hop == 3
    with pytest.raises(ValidationError, match="hop 5 s is longer than window 3 s"):
        Search(window=3)


def test_cache_is_where_runs_keep_theirs() -> None:
    assert Search().cache == Storage().cache
