"""What is said of tables made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mac_ray.ablation.statistics import Agreement
from mac_ray.ablation.table import Comparison, Interval, Table, TableRow
from mac_ray.ablation.verdict import is_shown, metric_name, shown_p, verdict


def row(
    label: str, mean: float, difference: float | None = None, p: float = 1.0, flops: float = 1.0
) -> TableRow:
    pair = None
    if difference is not None:
        pair = Comparison(Interval(difference, difference - 2, difference + 2), p / 2, p, 3)
    return TableRow(
        label,
        {},
        3,
        {0: mean, 1: mean, 2: mean},
        {"t2v/R1": Interval(mean, mean - 3, mean + 3)},
        pair,
        cost_ratios={"flops": flops},
    )


def table(*rows: TableRow, maximize: bool = True, agreement: Agreement | None = None) -> Table:
    compared = sum(row.comparison is not None for row in rows)
    chance = {"t2v/R1": 1.0}
    return Table(
        "t2v/R1", maximize, "none", rows, "set", 100, chance, "Paper, Table 1", agreement, (), compared
    )


def of_one_seed(found: TableRow) -> TableRow:
    assert found.comparison is not None
    return replace(found, comparison=replace(found.comparison, seeds=1))


def test_significant_best_row_is_the_answer() -> None:
    said = verdict(table(row("none", 40), row("tube", 44, 4, 0.01, flops=0.4), row("random", 38, -2, 0.3)))
    assert said[0] == (
        "'tube' has the best mean text-to-video R@1, 44.0 [41.0, 47.0], a difference of +4.0 [+2.0, +6.0] from the "
        "baseline 'none' that is significant (p = 0.010, after Holm's correction for 2 comparisons)."
    )
    assert "significantly better: 'tube'; not told apart" in said[1]
    assert "'tube', takes 40% of the baseline's FLOPs" in said[2]


def test_what_rests_on_one_seed_is_said_to_and_has_no_star() -> None:
    several = row("tube", 44, 4, 0.01)
    alone = of_one_seed(several)
    first, second, *_ = verdict(table(row("none", 40), alone))
    assert "that is significant over test samples, of one seed alone (p = 0.010, one comparison)" in first
    assert second == (
        "Against the baseline, significantly better over test samples, of one seed alone: 'tube'."
    )
    assert several.comparison
    assert alone.comparison
    assert is_shown(several.comparison)
    assert not is_shown(alone.comparison)


def test_rows_of_one_seed_stand_apart_from_those_that_are_told_apart_over_seeds() -> None:
    found = table(
        row("none", 40),
        row("frame", 43, 3, 0.01),
        of_one_seed(row("tube", 42, 2, 0.01)),
        row("random", 30, -10, 0.01),
        of_one_seed(row("block", 31, -9, 0.01)),
        of_one_seed(row("causal", 39, -1, 0.3)),
    )
    assert verdict(found)[1] == (
        "Against the baseline, significantly better: 'frame'; significantly better over test samples, of one seed "
        "alone: 'tube'; significantly worse: 'random'; significantly worse over test samples, of one seed alone: "
        "'block'; not told apart from it (which does not show them to be equal): 'causal'."
    )


@pytest.mark.parametrize(
    ("rows", "beginning", "end"),
    [
        (
            [of_one_seed(row("tube", 44, 4, 0.01))],
            "No row is significantly better than the baseline over several seeds: the best, 'tube',",
            "that is significant over test samples, of one seed alone (p = 0.010, one comparison).",
        ),
        (
            [row("frame", 45, 5, 0.3), of_one_seed(row("tube", 44, 4, 0.01))],
            "No row is significantly better than the baseline over several seeds: the best, 'frame',",
            "that is not significant (p = 0.30, after Holm's correction for 2 comparisons).",
        ),
        (
            [row("frame", 45, 5, 0.3), of_one_seed(row("block", 31, -9, 0.01))],
            "No row is significantly better than the baseline: the best, 'frame',",
            "that is not significant (p = 0.30, after Holm's correction for 2 comparisons).",
        ),
        (
            [of_one_seed(row("block", 31, -9, 0.01))],
            "The baseline 'none' has the best",
            "but no row is significantly worse over several seeds.",
        ),
        (
            [of_one_seed(row("tube", 46, 6, 0.01)), row("frame", 45, 5, 0.01)],
            "'tube' has the best mean",
            "of one seed alone (p = 0.010, after Holm's correction for 2 comparisons).",
        ),
    ],
)
def test_row_of_one_seed_is_not_enough_to_call_a_row_better_or_worse(
    rows: list[TableRow], beginning: str, end: str
) -> None:
    (first, *_) = verdict(table(row("none", 40), *rows))
    assert first.startswith(beginning)
    assert first.endswith(end)


def test_best_row_that_is_not_significant_is_not_called_better() -> None:
    (first, *_) = verdict(table(row("none", 40), row("tube", 41, 1, 0.4)))
    assert first.startswith("No row is significantly better than the baseline: the best, 'tube',")


def test_baseline_that_is_best_is_not_called_better_than_what_it_can_not_be_told_from() -> None:
    unclear = verdict(table(row("none", 40), row("tube", 39, -1, 0.4)))
    assert unclear[0].endswith("but no row is significantly worse.")
    clear = verdict(table(row("none", 40), row("tube", 30, -10, 0.001)))
    assert clear[0] == "The baseline 'none' has the best mean text-to-video R@1, 40.0 [37.0, 43.0]."
    assert "significantly worse: 'tube'" in clear[1]


def test_row_is_best_by_the_seeds_it_shares_and_not_by_those_it_has_yet_to_train() -> None:
    """After the first seed of all rows, the baseline's second finishes first, and is worse."""
    baseline = replace(row("none", 61.2), by_seed={0: 64.5, 1: 58.0})
    other = replace(row("tube", 62.8, -1.7, 0.3), by_seed={0: 62.8})
    for found in (
        table(baseline, other),
        table(baseline, replace(other, comparison=row("", 0, -5, 0.01).comparison)),
    ):
        assert found.best == baseline
        assert verdict(found)[0].startswith("The baseline 'none' has the best mean")
    (first, *_) = verdict(table(baseline, replace(row("random", 61.0, 2.0, 0.01), by_seed={1: 61.0})))
    assert first.startswith("'random' has the best mean")


@pytest.mark.parametrize("twin_first", [False, True])
def test_row_of_the_baselines_own_runs_is_not_better_than_it(twin_first: bool) -> None:
    base, twin = row("none", 40), row("twin", 40, 0.0)
    assert twin.comparison is not None
    twin = replace(twin, comparison=replace(twin.comparison, same_runs=True))
    found = table(*((twin, base) if twin_first else (base, twin)), row("tube", 38, -2, 0.3))
    assert found.best == base


def test_row_that_can_not_be_compared_is_not_best_and_the_reason_is_said() -> None:
    unpaired = replace(row("other seeds", 90), by_seed={7: 90.0})
    apart = row("fewer samples", 95)
    found = table(row("none", 40), unpaired, row("tube", 44, 4, 0.01), apart)
    assert found.best == found.row("tube")
    said = verdict(found)
    assert said[0].startswith(
        "'tube' has the best mean text-to-video R@1 of the rows that can be compared, 44.0"
    )
    reasons = (
        "Not compared with the baseline: 'other seeds', of which no seed has finished for the baseline too; 'fewer "
        "samples', scored among other test samples."
    )
    assert said[2] == reasons
    nothing = table(row("none", 40), unpaired, apart)
    assert nothing.best == nothing.row("none")
    assert verdict(nothing)[:2] == [
        "The baseline 'none' has text-to-video R@1 40.0 [37.0, 43.0], and no other row that has finished can be "
        "compared with it.",
        reasons,
    ]


def test_without_the_baseline_the_best_mean_is_best_and_nothing_is_compared() -> None:
    found = table(row("tube", 44), row("random", 38))
    assert found.best == found.row("tube")
    assert verdict(found)[0].endswith("no seed of the baseline is there to compare it with.")
    apart = verdict(replace(found, is_ranked=False))
    assert apart[0].startswith("No row is called the best: no seed of the baseline 'none' has finished")


def test_comparisons_of_a_table_that_is_not_whole_are_those_so_far() -> None:
    unfinished = replace(row("random", 0), metrics={}, by_seed={})
    (first, *_) = verdict(table(row("none", 40), row("tube", 44, 4, 0.01), unfinished))
    assert "(p = 0.010, one comparison so far)" in first


def test_lower_is_better_when_the_direction_says_so() -> None:
    said = verdict(table(row("none", 5), row("tube", 3, -2, 0.01), maximize=False))
    assert said[0].startswith("'tube' has the best mean")
    assert "significantly better: 'tube'" in said[1]


def test_row_that_is_surely_worse_before_correction_is_not_offered_as_cheap() -> None:
    said = verdict(table(row("none", 40), row("tube", 35, -5, 0.06, flops=0.3)))
    assert not [sentence for sentence in said if "cheapest" in sentence]


@pytest.mark.parametrize(("flops", "is_offered"), [(0.981, False), (0.97, True)])
def test_row_that_costs_as_much_but_for_whole_steps_is_not_offered_as_cheap(
    flops: float, is_offered: bool
) -> None:
    said = " ".join(verdict(table(row("none", 40), row("tube", 41, 1, 0.5, flops=flops))))
    assert ("takes 97% of the baseline's FLOPs" in said) == is_offered
    assert ("cheapest" in said) == is_offered


@pytest.mark.parametrize(("maximize", "chosen"), [(True, "motion"), (False, "random")])
def test_of_rows_that_are_as_cheap_the_best_is_offered(maximize: bool, chosen: str) -> None:
    rows = row("random", 35, -5, 0.3, flops=0.761), row("motion", 39, -1, 0.8, flops=0.763)
    said = verdict(table(row("none", 40), *rows, row("resize", 41, 1, 0.8, flops=0.81), maximize=maximize))
    (sentence,) = (sentence for sentence in said if "cheapest" in sentence)
    assert f"{chosen!r}, takes 76%" in sentence


def test_row_at_chance_is_named() -> None:
    assert "Not shown to be better than chance (1.0): 'tube'." in verdict(
        table(row("none", 40), row("tube", 2, -38, 0.001))
    )


def test_chance_of_a_large_gallery_is_small_and_not_nothing() -> None:
    found = replace(table(row("none", 4), row("tube", 0.0, -4, 0.01)), chance={"t2v/R1": 0.0203})
    assert "Not shown to be better than chance (0.02): 'tube'." in verdict(found)


def test_row_at_chance_is_named_also_where_less_is_better() -> None:
    found = table(row("none", 5), row("tube", 3), row("random", 9), maximize=False)
    said = verdict(replace(found, chance={"t2v/R1": 10.0}))
    assert "Not shown to be better than chance (10.0): 'random'." in said


def test_published_order_of_few_rows_is_said_to_prove_nothing() -> None:
    few = verdict(table(row("none", 40), row("tube", 41, 1), agreement=Agreement(3, 3, 3, 1.0, 1 / 3, 1 / 3)))
    assert few[-1] == (
        "The order published in Paper, Table 1 is reproduced: 3 of 3 pairs of rows agree (Kendall tau-b 1.00, "
        "p = 0.33, 3 rows); 3 rows are too few to tell agreement from chance."
    )
    many = verdict(
        table(row("none", 40), row("tube", 41, 1), agreement=Agreement(5, 10, 9, 0.8, 0.083, 1 / 60))
    )
    assert many[-1].endswith(
        "is not wholly reproduced: 9 of 10 pairs of rows agree (Kendall tau-b 0.80, p = 0.083, 5 rows)."
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Agreement(3, 3, 2, 0.82, 0.22, 0.22),
            "is not wholly reproduced: 2 of 3 pairs of rows agree (Kendall tau-b 0.82, p = 0.22, 3 rows); 3 rows are "
            "too few to tell agreement from chance.",
        ),
        (
            Agreement(5, 10, 0, -1.0, 0.017, 0.017),
            "is not reproduced, but rather reversed: 0 of 10 pairs of rows agree (Kendall tau-b -1.00, p = 0.017, 5 "
            "rows).",
        ),
        (
            Agreement(5, 10, 4, -0.2, 0.82, 1 / 60),
            "is not reproduced: 4 of 10 pairs of rows agree (Kendall tau-b -0.20, p = 0.82, 5 rows).",
        ),
        (
            Agreement(3, 0, 0, math.nan, 1.0, 1.0),
            "Paper, Table 1 has 3 of the rows, but ties them all, so there is no order to reproduce.",
        ),
        (
            Agreement(3, 3, 0, math.nan, 1.0, 1.0),
            "The 3 rows that Paper, Table 1 has are all tied here, so nothing can be said of the order published "
            "there.",
        ),
    ],
)
def test_tied_rows_reproduce_no_order_and_it_is_said_who_ties_them(found: Agreement, said: str) -> None:
    assert verdict(table(row("none", 40), row("tube", 41, 1), agreement=found))[-1].endswith(said)


def test_numbers_have_the_precision_that_helps() -> None:
    assert [shown_p(p) for p in (0.0002, 0.0123, 0.0999, 0.4321)] == ["< 0.001", "0.012", "0.100", "0.43"]
    assert [metric_name(name) for name in ("t2v/R1", "v2t/MdR", "Rsum")] == [
        "text-to-video R@1",
        "video-to-text MdR",
        "Rsum",
    ]
