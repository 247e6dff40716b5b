"""Bins of round width that hold every value once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mac_ray.prepare.finding import SCHEMA
from mac_ray.prepare.histogram import MOST_BINS, Histogram, histograms_of
from tests.prepare.made import make_manifest


def durations(tmp_path: Path, values: list[float]) -> Histogram:
    rows = [(f"{number}.mp4", ("train", "test")[number % 2], ["c"]) for number in range(len(values))]
    findings = pa.Table.from_pylist([{"duration": value} for value in values], schema=SCHEMA)
    found = histograms_of(make_manifest(tmp_path / "media", *rows).table, findings)
    return next(histogram for histogram in found if histogram.of == "duration")


@pytest.mark.parametrize("scale", [0.001, 1, 3600])
def test_every_value_is_in_its_bin_and_the_bins_are_few_and_round(tmp_path: Path, scale: float) -> None:
    values = (np.random.default_rng(0).uniform(1, 30, 500) * scale).tolist()
    histogram = durations(tmp_path, values)
    assert not histogram.is_open
    assert MOST_BINS / 3 < len(histogram.edges) <= MOST_BINS + 3
    width = histogram.edges[1] - histogram.edges[0]
    assert f"{width:.3e}"[0] in "125"
    for split, own in {"train": values[::2], "test": values[1::2]}.items():
        expected = [
            sum(low <= value < high for value in own)
            for low, high in zip(histogram.edges, histogram.edges[1:], strict=False)
        ]
        assert histogram.counts[split] == expected
        assert sum(expected) == len(own)


def test_a_few_values_far_out_are_in_the_last_bin(tmp_path: Path) -> None:
    values = [*np.linspace(1, 30, 998).tolist(), 5000.0, 7200.0]
    histogram = durations(tmp_path, values)
    assert histogram.is_open
    assert histogram.edges[-1] < 40
    assert sum(map(sum, histogram.counts.values())) == len(values)
    assert histogram.counts["train"][-1] >= 1  # 5000.0, the 999th


@pytest.mark.parametrize("others", [[25.0], [10.000000000000002] * 9])
def test_values_of_which_nearly_all_are_the_same_make_a_few_bins_or_none(
    tmp_path: Path, others: list[float]
) -> None:
    findings = pa.Table.from_pylist([{"duration": v} for v in [10.0] * 999 + others], schema=SCHEMA)
    rows = [(f"{number}.mp4", "train", ["c"]) for number in range(len(findings))]
    found = histograms_of(make_manifest(tmp_path / "media", *rows).table, findings)
    counted = [histogram.counts["train"] for histogram in found if histogram.of == "duration"]
    assert all(sum(counts) == len(findings) and counts[0] == 999 for counts in counted)
    assert len(counted) == (others == [25.0])


def test_what_is_the_same_for_all_has_no_histogram(tmp_path: Path) -> None:
    manifest = make_manifest(
        tmp_path / "media", ("a.mp4", "train", ["one two"]), ("b.mp4", "val", ["two words"])
    )
    assert histograms_of(manifest.table, None) == []
