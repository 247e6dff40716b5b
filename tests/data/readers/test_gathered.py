"""Rows of a key come together, whatever lies between them, and only those that repeat are held."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers import gathered as module
from mac_ray.data.readers.gathered import gathered

PLACE = Path("captions.csv")


def test_gathered_rows_are_those_of_a_dictionary_with_repeats_last() -> None:
    keys = [str(key) for key in np.random.default_rng(0).integers(0, 3000, 4000)]
    rows = list(enumerate(keys))
    expected: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        expected.setdefault(row[1], []).append(row)
    found = list(gathered(lambda: iter(rows), lambda row: row[1], PLACE))
    assert sorted(found) == sorted(expected.values())
    lengths = [len(same) for same in found]
    num_alone = Counter(lengths)[1]
    assert num_alone > 500
    assert lengths[:num_alone] == [1] * num_alone
    for part in (found[:num_alone], found[num_alone:]):
        assert part == sorted(part)
    assert list(gathered(lambda: iter(()), str, PLACE)) == []


def test_gathered_keys_that_agree_in_their_mark_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARK_BYTES", 1)  # 256 marks for 1,000 keys
    keys = [f"{number % 1000}" for number in range(1500)]
    found = sorted(gathered(lambda: iter(keys), str, PLACE))
    assert found == sorted([f"{number}"] * (2 if number < 500 else 1) for number in range(1000))


def test_gathered_refuses_more_repeats_than_it_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 9)
    assert list(gathered(lambda: iter("a" * 10), str, PLACE)) == [["a"] * 10]
    with pytest.raises(ManifestError, match=r"captions\.csv: 10 rows repeat .* and 9 may"):
        list(gathered(lambda: iter("a" * 11), str, PLACE))
