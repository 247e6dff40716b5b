"""Findings in their file: found again by key, the last of each, after whatever a kill left."""

from pathlib import Path

import numpy as np
import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.prepare.finding import Finding
from mac_ray.prepare.results import Results


def keys(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(values, np.int64)


def test_last_finding_of_each_key_is_given_in_the_order_asked(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "results.jsonl"
    with Results(path) as results:
        assert results.of(keys(1, 2))["path"].to_pylist() == [None, None]
        results.append([Finding(-5, "a", digest="old"), Finding(9, "b", duration=1.5)])
        results.append([Finding(-5, "a", digest="new\nline")])
    with Results(path) as results:
        found = results.of(keys(9, 7, -5, 10, -6, 9))
        assert found["path"].to_pylist() == ["b", None, "a", None, None, "b"]
        assert found["digest"].to_pylist() == [None, None, "new\nline", None, None, None]
        assert found["duration"].to_pylist() == [1.5, None, None, None, None, 1.5]


@pytest.mark.parametrize("torn", ['{"key": 3, "pa', "x" * 200_000])
def test_line_that_a_kill_has_torn_is_dropped_and_the_file_goes_on(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "results.jsonl"
    with Results(path) as results:
        results.append([Finding(1, "a")])
    with path.open("a") as file:
        file.write(torn)
    with Results(path) as results:
        results.append([Finding(3, "b")])
        assert results.of(keys(1, 3))["path"].to_pylist() == ["a", "b"]


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine, without an end of line")
    with pytest.raises(ManifestError, match=r"notes\.txt holds something else"):
        Results(path)
    assert path.read_text() == "mine, without an end of line"
