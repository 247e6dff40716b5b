"""A config's sets as manifests."""

from pathlib import Path

import pytest

from mac_ray.config import ManifestSet, MovingShapes
from mac_ray.data.manifest import Manifest, ManifestError
from mac_ray.data.sets import open_sets

SHAPES = MovingShapes(train=3, val=2, test=2, frames=2, size=32)


def test_sets_are_made_or_opened_by_their_kind(mixed: Manifest, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    sections = {"shapes": SHAPES, "own": ManifestSet(path=str(mixed.path))}
    opened = open_sets(sections, tmp_path, lambda *counts: told.append(counts))
    assert opened["shapes"].split_sizes() == {"train": 3, "val": 2, "test": 2}
    assert opened["own"].fingerprint == mixed.fingerprint
    assert told[-1] == ("making shapes", 7, 7)


def test_set_made_elsewhere_has_the_same_fingerprint(tmp_path: Path) -> None:
    made = [open_sets({"s": SHAPES}, tmp_path / name, lambda *_: None)["s"] for name in ("one", "two")]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].root != made[1].root


def test_set_with_a_root_finds_its_media_there(mixed: Manifest, tmp_path: Path) -> None:
    section = ManifestSet(path=str(mixed.path), root=str(tmp_path))
    sample = open_sets({"own": section}, tmp_path, lambda *_: None)["own"][0]
    assert sample.source.file == tmp_path / "video0.mp4"


def test_set_behind_an_address_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    sections = {"far": ManifestSet(path=f"file://{tmp_path}/gone.parquet")}
    with pytest.raises(
        ManifestError, match=r"manifest of data\.sets\.far\.path cannot be fetched .*gone\.parquet"
    ):
        open_sets(sections, tmp_path, lambda *_: None)


def test_set_without_its_manifest_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.parquet"):
        open_sets({"own": ManifestSet(path=str(tmp_path / "gone.parquet"))}, tmp_path, lambda *_: None)
