from __future__ import annotations

import pytest

from mac_ray.ablation.plan import Row
from mac_ray.ablation.reference import TABLES, published_rows, unmatched
from mac_ray.ablation.sweep import Sweep
from mac_ray.config import ConfigError

ROWS = [Row(label, {}) for label in ("no mask", "tube", "mine")]


def sweep(**given: object) -> Sweep:
    return Sweep(name="s", question="q", base="b", variants={row.label: {} for row in ROWS}, **given)


def test_sums_of_recalls_are_those_that_mascot_printed() -> None:
    printed = {
        "none": 404.2,
        "random 50%": 405.7,
        "random 70%": 407.0,
        "random + tube 50%": 408.0,
        "random + tube 70%": 409.2,
        "low-informed 50%": 411.8,
        "low-informed 70%": 408.2,
        "high-informed 50%": 411.4,
        "high-informed 70%": 413.1,
    }
    rows = TABLES["mascot/table1"].rows
    assert {label: row["Rsum"] for label, row in rows.items()} == pytest.approx(printed, abs=0.051)


def test_every_published_recall_rises_with_its_cutoff() -> None:
    checked = 0
    for table in TABLES.values():
        for row in table.rows.values():
            for direction in ("t2v", "v2t"):
                if f"{direction}/R5" in row:
                    checked += 1
                    assert 0 < row[f"{direction}/R1"] < row[f"{direction}/R5"] < row[f"{direction}/R10"] < 100
    assert checked > 50


def test_rows_are_found_by_label_or_by_the_name_that_published_gives() -> None:
    found = published_rows(sweep(reference="mac/table6", published={"mine": "random"}), ROWS)
    assert {label: row["t2v/R1"] for label, row in found.items()} == {
        "no mask": 34.0,
        "tube": 35.7,
        "mine": 36.4,
    }
    assert published_rows(sweep(), ROWS) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"reference": "mac/table66"},
            r"reference is 'mac/table66', which is no published table; .*'mac/table6'",
        ),
        (
            {"reference": "mac/table6", "published": {"rows": "tube"}},
            "published has the row 'rows', which the sweep",
        ),
        ({"reference": "mac/table6", "published": {"mine": "tubes"}}, r"published.mine is 'tubes', .*'tube'"),
        ({"reference": "mascot/table1"}, "no row of the sweep is one of mascot/table1, which has 'none'"),
        ({"published": {"mine": "tube"}}, "reference is None; name the table"),
    ],
)
def test_references_without_a_point_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        published_rows(sweep(**given), ROWS)


def test_published_row_that_no_row_stands_for_is_told() -> None:
    """As where its row was given another name."""
    asked = sweep(reference="mac/table6", published={"mine": "random"})
    assert unmatched(asked, ROWS) == ""
    renamed = [Row("tubes" if row.label == "tube" else row.label, {}) for row in ROWS]
    assert unmatched(asked, renamed).startswith(
        "mac/table6 also has 'tube', beside which this study has no row"
    )
    assert unmatched(sweep(), renamed) == ""
