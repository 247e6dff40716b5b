"""Repeated keys, told from hashes that may be equal by chance."""

import random

import pytest

from mac_ray.data import unique
from mac_ray.data.unique import Repeats


def first_of(keys: list[tuple[str, str]], digest=hash) -> tuple[str, str] | None:
    repeats = Repeats(digest)
    for key in keys:
        repeats.add(key)
    return repeats.first(lambda: keys)


@pytest.mark.parametrize("digest", [hash, lambda key: 0, lambda key: len(key[1])])
def test_key_added_twice_is_found_however_many_hashes_are_equal(digest) -> None:
    keys = [("train", str(number)) for number in range(2000)] + [("val", "7")]
    random.Random(0).shuffle(keys)
    assert first_of(keys, digest) is None
    assert first_of([*keys, ("train", "1234")], digest) == ("train", "1234")


def test_hashes_are_looked_for_a_part_at_a_time_until_a_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "SUSPECTS_AT_ONCE", 2)
    keys = [("train", str(number)) for number in range(100)]

    def digest(key: tuple[str, str]) -> int:
        return int(key[1]) // 2  # each by chance equal to one other

    assert first_of(keys, digest) is None
    assert first_of([*keys, ("train", "99")], digest) == ("train", "99")
