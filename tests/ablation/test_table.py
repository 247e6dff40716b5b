"""Tables of made runs against plain loops over their ranks."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mac_ray.ablation.outcome import Outcome, TableError, outcome_in
from mac_ray.ablation.plan import Row
from mac_ray.ablation.record import SweepRecord
from mac_ray.ablation.report.chosen_rows import pareto_front
from mac_ray.ablation.sweep import Budget
from mac_ray.ablation.table import Interval, Table, _agreement, build_table
from mac_ray.ablation.verdict import verdict
from mac_ray.config import ConfigError
from mac_ray.tracking.journal import Journal
from tests.ablation.conftest import REASON, SWEEP
from tests.ablation.made import finished_run, make_runs, recorded, run_folder

PLAIN, MASKED, FAILED = "video.ratio=0", "video.ratio=0.6", "video.ratio=0.9"


@pytest.fixture(scope="module")
def table(study: SweepRecord) -> Table:
    return build_table(study.sweep, study.rows, study.outcomes())


def recall(folder: Path, direction: str, cutoff: int) -> float:
    hits = [row["rank"] <= cutoff for row in rank_rows(folder) if row["direction"] == direction]
    return 100 * sum(hits) / len(hits)


def rank_rows(folder: Path) -> list[dict[str, object]]:
    rows = pq.read_table(folder / "ranks.parquet").to_pylist()
    assert rows
    return rows


def test_means_are_those_of_the_ranks(table: Table, runs: Path) -> None:
    for label in (PLAIN, MASKED):
        folders = [run_folder(runs, label, seed) for seed in (0, 1)]
        for direction in ("t2v", "v2t"):
            for cutoff in (1, 5, 10):
                expected = sum(recall(folder, direction, cutoff) for folder in folders) / 2
                found = table.row(label).metrics[f"{direction}/R{cutoff}"]
                assert found.mean == pytest.approx(expected)
                assert 0 <= found.low <= found.mean <= found.high <= 100
        ranks = [
            sorted(row["rank"] for row in rank_rows(folder) if row["direction"] == "t2v")
            for folder in folders
        ]
        middles = [(own[len(own) // 2 - 1] + own[len(own) // 2]) / 2 for own in ranks]
        assert table.row(label).metrics["t2v/MdR"].mean == pytest.approx(sum(middles) / 2)


def test_difference_is_paired_on_seeds_and_samples(table: Table, runs: Path) -> None:
    compared = table.row(MASKED).comparison
    assert compared is not None
    hits = {
        (label, seed): [
            r["rank"] <= 1 for r in rank_rows(run_folder(runs, label, seed)) if r["direction"] == "t2v"
        ]
        for label in (PLAIN, MASKED)
        for seed in (0, 1)
    }
    differences = [
        [100 * (mine - other) for mine, other in zip(hits[MASKED, seed], hits[PLAIN, seed], strict=True)]
        for seed in (0, 1)
    ]
    means = [sum(own) / len(own) for own in differences]
    assert compared.seeds == 2
    assert compared.difference.mean == pytest.approx(sum(means) / 2)
    # at least what the samples alone, with both seeds as they are, leave open
    per_sample = np.mean(differences, axis=0)
    least = 1.96 * per_sample.std(ddof=1) / math.sqrt(len(per_sample))
    assert compared.difference.high - compared.difference.mean > 0.9 * least
    assert compared.adjusted == compared.p_value  # the only comparison


def test_costs_are_means_and_ratios_to_the_baseline(table: Table) -> None:
    assert table.row(MASKED).costs["flops"] == pytest.approx(1e15)
    assert table.row(MASKED).cost_ratios == pytest.approx(
        {"samples": 1, "flops": 0.5, "seconds": 0.5, "visible_tokens": 1}
    )


def test_runs_without_a_result_are_named_with_their_reason(table: Table) -> None:
    row = table.row(FAILED)
    assert row.metrics == {}
    assert [problem.sentence for problem in row.problems] == [
        f"seed 0 failed: {REASON}",
        "seed 1 not started",
    ]
    assert "Without a result, of 6 runs: 1 failed, 1 not started." in verdict(table)


def test_same_folders_give_the_same_table(table: Table, study: SweepRecord) -> None:
    again = build_table(study.sweep, study.rows, list(reversed(study.outcomes())))
    assert again == table


def test_row_that_is_the_baseline_under_another_name_differs_by_nothing(study: SweepRecord) -> None:
    twin = [replace(outcome, row=MASKED) for outcome in study.outcomes() if outcome.row == PLAIN]
    others = [outcome for outcome in study.outcomes() if outcome.row != MASKED]
    compared = build_table(study.sweep, study.rows, [*others, *twin]).row(MASKED).comparison
    assert compared is not None
    assert compared.difference == Interval(0.0, 0.0, 0.0)  # every draw of samples is one of both
    assert compared.p_value == 1.0


def test_rows_of_the_same_runs_are_compared_once(study: SweepRecord) -> None:
    """Every one that is counted makes p-values larger."""
    alone = build_table(study.sweep, study.rows, study.outcomes())
    rows = [*study.rows, Row("plain again", {}), Row("masked again", {})]
    again = [
        replace(outcome, row=f"{name} again")
        for label, name in ((PLAIN, "plain"), (MASKED, "masked"))
        for outcome in study.outcomes()
        if outcome.row == label
    ]
    found = build_table(study.sweep, rows, [*study.outcomes(), *again])
    assert (alone.num_comparisons, found.num_comparisons) == (1, 1)
    one, other = found.row(MASKED).comparison, found.row("masked again").comparison
    assert one is not None
    assert one == other
    assert one == alone.row(MASKED).comparison
    said = " ".join(verdict(found))
    assert "the same runs as its own: 'plain again'" in said
    assert "(which does not show them to be equal): 'plain again'" not in said
    assert "'plain again', takes" not in said


def test_rows_that_find_everything_are_not_shown_to_be_equal(tmp_path: Path) -> None:
    make_runs(SWEEP, tmp_path, {PLAIN: 1.0, MASKED: 1.0}, {})
    found = build_table(SWEEP, recorded(SWEEP, tmp_path).rows, recorded(SWEEP, tmp_path).outcomes())
    pair = found.row(MASKED).comparison
    assert found.row(MASKED).metrics["t2v/R1"].mean == 100
    assert pair is not None
    assert pair.p_value == 1.0
    assert pair.difference.low == pytest.approx(
        -100 * (1 - 0.025 ** (1 / 60))
    )  # Clopper and Pearson, 0 of 60
    assert pair.difference.high == -pair.difference.low


def test_few_samples_are_no_surer_than_a_sign_test(tmp_path: Path) -> None:
    for label, quality in ((PLAIN, 0.0), (MASKED, 1.0)):
        for seed in (0, 1):
            finished_run(run_folder(tmp_path, label, seed), seed, quality, num_samples=4)
    found = build_table(SWEEP, recorded(SWEEP, tmp_path).rows, recorded(SWEEP, tmp_path).outcomes())
    pair = found.row(MASKED).comparison
    assert pair is not None
    assert pair.p_value >= 2 * 0.5**4


def test_difference_of_one_seed_is_as_sure_as_its_pairs_of_samples(study: SweepRecord, runs: Path) -> None:
    first = [outcome for outcome in study.outcomes() if outcome.seed == 0]
    compared = build_table(SWEEP.model_copy(update={"seeds": (0,)}), study.rows, first).row(MASKED).comparison
    assert compared is not None
    hits = [
        [row["rank"] <= 1 for row in rank_rows(run_folder(runs, label, 0)) if row["direction"] == "t2v"]
        for label in (MASKED, PLAIN)
    ]
    pairs = 100 * (np.array(hits[0], dtype=float) - np.array(hits[1], dtype=float))
    expected = 1.96 * pairs.std(ddof=1) / math.sqrt(len(pairs))
    assert compared.difference.high - compared.difference.mean == pytest.approx(expected, rel=0.15)


def test_p_values_of_several_rows_are_corrected(tmp_path: Path) -> None:
    qualities = {PLAIN: 0.5, MASKED: 0.54, FAILED: 0.62}
    make_runs(SWEEP, tmp_path, qualities, {})
    found = build_table(SWEEP, recorded(SWEEP, tmp_path).rows, recorded(SWEEP, tmp_path).outcomes())
    one, other = sorted(
        (row.comparison for row in found.rows if row.comparison), key=lambda pair: pair.p_value
    )
    assert one.p_value < other.p_value < 1
    assert one.adjusted == pytest.approx(min(1, 2 * one.p_value))
    assert other.adjusted == max(one.adjusted, other.p_value)


def test_row_that_found_everything_may_yet_miss_some(tmp_path: Path) -> None:
    make_runs(SWEEP, tmp_path, {PLAIN: 1.0}, {})
    value = build_table(SWEEP, recorded(SWEEP, tmp_path).rows, recorded(SWEEP, tmp_path).outcomes()).row(
        PLAIN
    )
    share = 0.025 ** (1 / 60)  # of 60 queries, by Clopper and Pearson
    assert (value.metrics["t2v/R1"].low, value.metrics["t2v/R1"].high) == (pytest.approx(100 * share), 100)


def test_one_seed_is_said_to_cover_samples_alone(study: SweepRecord) -> None:
    first = [outcome for outcome in study.outcomes() if outcome.seed == 0]
    found = build_table(SWEEP.model_copy(update={"seeds": (0,)}), study.rows, first)
    assert found.notes[0].startswith("Every row that has finished has one seed")
    value = found.row(PLAIN).metrics["t2v/R1"]
    share = value.mean / 100
    assert (value.high - value.low) / 2 == pytest.approx(196 * math.sqrt(share * (1 - share) / 60), rel=0.15)


def test_comparison_on_one_common_seed_is_said_to_be_one(study: SweepRecord) -> None:
    moved = [
        replace(outcome, seed=2) if (outcome.row, outcome.seed) == (MASKED, 0) else outcome
        for outcome in study.outcomes()
    ]
    three = SWEEP.model_copy(update={"seeds": (0, 1, 2)})
    notes = build_table(three, study.rows, moved).notes
    assert any(note.startswith("Not every row has finished the same seeds") for note in notes)
    (said,) = (note for note in notes if "one seed alone" in note)
    assert said.startswith(f"Of '{MASKED}' one seed alone has finished for the baseline too")


def test_collapse_of_one_seed_is_said_and_scores_that_are_gone_name_their_run(tmp_path: Path) -> None:
    sweep = SWEEP.model_copy(update={"seeds": (0,)})
    for label in (PLAIN, MASKED):
        finished_run(run_folder(tmp_path, label, 0), 0, 0.5)
    scores = run_folder(tmp_path, MASKED, 0) / "scores.json"
    warned = json.loads(scores.read_text()) | {"warning": "Embeddings may have collapsed: so they have."}
    scores.write_text(json.dumps(warned))
    record = recorded(sweep, tmp_path)
    found = build_table(sweep, record.rows, record.outcomes())
    assert f"{MASKED!r}, seed 0: Embeddings may have collapsed: so they have." in found.notes
    scores.unlink()
    with pytest.raises(
        TableError, match=r"scores\.json of a finished run cannot be read .* the run is fetched from MLflow"
    ):
        record.outcomes()


def test_budget_that_was_not_kept_is_said(study: SweepRecord) -> None:
    def notes(equal: str, outcomes: list[Outcome]) -> str:
        asked = SWEEP.model_copy(update={"budget": Budget(equal=equal)})
        return " ".join(build_table(asked, study.rows, outcomes).notes)

    found = study.outcomes()
    assert "equal seconds, but some did not, relative to 'video.ratio=0': 'video.ratio=0.6' 0.50" in notes(
        "seconds", found
    )
    assert "but some did not" not in notes("samples", found)
    # nor are rows equal where the baseline has not finished
    twin = [replace(outcome, row=FAILED) for outcome in found if outcome.row == PLAIN]
    others = [outcome for outcome in found if outcome.row == MASKED]
    assert "relative to 'video.ratio=0.6': 'video.ratio=0.9' 2.00" in notes("flops", [*others, *twin])
    # a row that costs what the baseline does, and stands before it, is not what others are relative to
    last = SWEEP.model_copy(update={"baseline": FAILED, "budget": Budget(equal="flops")})
    said = " ".join(build_table(last, study.rows, [*found, *twin]).notes)
    assert "some did not, relative to 'video.ratio=0.9': 'video.ratio=0.6' 0.50" in said


def test_seconds_of_a_busy_machine_or_of_several_are_said_not_to_compare(study: SweepRecord) -> None:
    def notes(outcomes: list[Outcome]) -> str:
        return " ".join(build_table(SWEEP, study.rows, outcomes).notes)

    assert "Do not compare seconds" not in notes(study.outcomes())
    (slow, *others) = study.outcomes()
    later = replace(slow, costs=slow.costs | {"seconds": 2.5 * slow.costs["seconds"]})
    assert (
        "in 1 of 2 rows one seed took much longer than another, 'video.ratio=0' from 200 to 500 s"
        in notes([later, *others])
    )
    named = [replace(other, device="a CPU") for other in others]
    elsewhere = replace(slow, device="NVIDIA H200")
    assert "different devices: a CPU (3); NVIDIA H200 (1)." in notes([elsewhere, *named])
    alone = [replace(other, workers="1 worker of 1 thread") for other in others]
    assert "Do not compare seconds" not in notes([slow, *alone])  # an older version did not say
    shared = replace(slow, workers="2 workers of 1 thread")
    assert "different workers: 1 worker of 1 thread (3); 2 workers of 1 thread (1)." in notes(
        [shared, *alone]
    )


def test_runs_of_different_precisions_are_said_to_be(study: SweepRecord) -> None:
    first, *others = study.outcomes()
    given = [replace(first, precision="bf16"), *(replace(other, precision="fp32") for other in others)]
    notes = " ".join(build_table(SWEEP, study.rows, given).notes)
    assert "different precisions: fp32 (3); bf16 (1); set precision" in notes
    assert "precisions" not in " ".join(build_table(SWEEP, study.rows, study.outcomes()).notes)


def test_runs_of_different_code_are_said_to_be(study: SweepRecord) -> None:
    first, *others = study.outcomes()
    given = [
        replace(first, code="0441aa4"),
        *(replace(other, code="937f232 with changes") for other in others),
    ]
    notes = " ".join(build_table(SWEEP, study.rows, given).notes)
    assert "different versions of the code: 937f232 with changes (3); 0441aa4 (1); see that" in notes
    assert "versions" not in " ".join(build_table(SWEEP, study.rows, study.outcomes()).notes)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"git.commit": "0441aa4abc1234567", "git.dirty": "false"}, "0441aa4abc"),
        ({"git.commit": "0441aa4abc1234567", "git.dirty": "true"}, "0441aa4abc with changes"),
        ({"git.commit": "0441aa4abc1234567", "git.dirty": "true", "git.changes": ""}, "0441aa4abc"),
        (
            {"git.commit": "0441aa4abc1234567", "git.dirty": "true", "git.changes": "12ab"},
            "0441aa4abc with changes 12ab",
        ),
        ({"git.commit": "1234567abc1234567", "git.code": "0441aa4abc1234567"}, "0441aa4abc"),
        ({"git.commit": "not a git checkout", "git.dirty": "unknown"}, ""),
    ],
)
def test_code_of_a_run_is_its_commit_where_it_knows_one(
    tags: dict[str, str], code: str, tmp_path: Path
) -> None:
    with Journal.open_or_create(tmp_path / "run", name="r", experiment="e", identity="i") as journal:
        journal.tags(tags)
    assert outcome_in(tmp_path / "run", "row", 0, "i").code == code


def test_samples_that_a_run_lacks_are_left_out_of_all_rows(
    study: SweepRecord, runs: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(runs, tmp_path / "runs")
    lacking = run_folder(copied, MASKED, 1) / "ranks.parquet"
    ranks = pq.read_table(lacking)
    pq.write_table(ranks.filter([sample != "clip0003" for sample in ranks["sample"].to_pylist()]), lacking)
    found = build_table(SWEEP, study.rows, recorded(SWEEP, copied).outcomes())
    assert found.num_samples == 59
    assert "1 test samples that not every run has scored are left out of all rows." in found.notes
    kept = [
        r
        for r in rank_rows(run_folder(copied, PLAIN, 0))
        if r["sample"] != "clip0003" and r["direction"] == "t2v"
    ]
    assert found.row(PLAIN).by_seed[0] == pytest.approx(100 * sum(r["rank"] <= 1 for r in kept) / 59)
    # ranks are among what a run has scored, so that seed has no pair
    pair = found.row(MASKED).comparison
    assert pair is not None
    assert pair.seeds == 1
    notes = " ".join(found.notes)
    assert (
        f"The difference of {MASKED!r} is over 1 of 2 seeds: of the others, it and the baseline scored"
        in notes
    )
    assert "one seed alone has finished" not in notes


def test_row_scored_among_other_samples_is_not_compared(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished_run(run_folder(tmp_path, PLAIN, seed), seed, 0.5, num_samples=60)
        finished_run(run_folder(tmp_path, MASKED, seed), seed, 0.7, num_samples=30, expected=60)
    found = build_table(SWEEP, recorded(SWEEP, tmp_path).rows, recorded(SWEEP, tmp_path).outcomes())
    assert found.row(MASKED).comparison is None
    assert (
        f"{MASKED!r} scored other test samples than the baseline, so ranks are among other ones, and there is no "
        "comparison." in found.notes
    )
    assert not [note for note in found.notes if note.startswith("No seed of")]
    published = {PLAIN: {"t2v/R1": 30.0}, MASKED: {"t2v/R1": 40.0}}
    rows = [replace(row, published=published.get(row.label, {})) for row in found.rows]
    assert _agreement(rows, "t2v/R1", PLAIN) is None  # its order says nothing either
    assert [row.label for row in pareto_front(found, "flops")] == [PLAIN]
    assert found.row(MASKED).metrics["t2v/R1"].mean > found.row(PLAIN).metrics["t2v/R1"].mean
    assert found.best == found.row(PLAIN)


def test_notes_of_many_rows_count_them(study: SweepRecord) -> None:
    (first, *_) = (outcome for outcome in study.outcomes() if outcome.row == PLAIN)
    rows = [Row(f"row {number}", {}) for number in range(9)]
    sweep = SWEEP.model_copy(update={"reference": None, "published": {}, "budget": Budget(equal="flops")})
    outcomes = [
        replace(first, row=row.label, seed=min(number, 1), costs={"flops": 1e15 * (number + 1)})
        for number, row in enumerate(rows)
    ]
    for count, unpaired, costs in (
        (7, ", ".join(f"'row {number}'" for number in range(1, 7)), "'row 1' 2.00, 'row 2' 3.00, "),
        (9, "8 rows", "8 rows, from 2.00 to 9.00."),
    ):
        notes = " ".join(build_table(sweep, rows[:count], outcomes[:count]).notes)
        assert f"No seed of {unpaired} has finished for the baseline too" in notes
        assert f"but some did not, relative to 'row 0': {costs}" in notes


def test_best_of_three_rows_is_said_to_be_lucky_too(study: SweepRecord) -> None:
    third = [replace(outcome, row=FAILED) for outcome in study.outcomes() if outcome.row == PLAIN]
    others = [outcome for outcome in study.outcomes() if outcome.row != FAILED]
    for outcomes, said in ((others, False), ([*others, *third], True)):
        notes = " ".join(build_table(SWEEP, study.rows, outcomes).notes)
        assert ("The best of 3 rows is chosen by the very scores" in notes) == said


def test_baseline_without_a_result_leaves_nothing_to_compare(study: SweepRecord) -> None:
    found = build_table(SWEEP.model_copy(update={"baseline": FAILED}), study.rows, study.outcomes())
    assert all(row.comparison is None for row in found.rows)
    assert f"No run of the baseline {FAILED!r} has finished, so nothing is compared with it." in found.notes


@pytest.mark.parametrize("others", ["seeds", "samples"])
def test_rows_without_a_baseline_are_ranked_only_by_the_same_seeds_and_samples(
    tmp_path: Path, others: str
) -> None:
    sweep = SWEEP.model_copy(update={"baseline": FAILED})
    finished_run(
        run_folder(tmp_path, PLAIN, 0), 0, 0.7, num_samples=60 if others == "seeds" else 30, expected=60
    )
    for seed in (0, 1) if others == "seeds" else (0,):
        finished_run(run_folder(tmp_path, MASKED, seed), seed, 0.6)
    found = build_table(sweep, recorded(sweep, tmp_path).rows, recorded(sweep, tmp_path).outcomes())
    assert found.best is None
    assert verdict(found)[0].startswith("No row is called the best")
    assert found.agreement is None
    assert not pareto_front(found, "flops")
    assert not [note for note in found.notes if "lucky" in note]
    assert bool(found.chance) == (others == "seeds")  # of 30 samples it is another


def test_nothing_finished_is_a_table_too(study: SweepRecord) -> None:
    found = build_table(SWEEP, study.rows, [])
    assert verdict(found)[0] == "No run has finished, so there is no answer yet."
    assert {problem.status for row in found.rows for problem in row.problems} == {"not started"}


def test_metric_that_no_run_reports_is_refused(study: SweepRecord) -> None:
    with pytest.raises(
        ConfigError, match="metric is 't2v/R2', which no run reports; there are t2v/R1, t2v/R5"
    ):
        build_table(SWEEP.model_copy(update={"metric": "t2v/R2"}), study.rows, study.outcomes())


@pytest.mark.parametrize(
    ("one", "other"), [("shapes_every_caption", "shapes_one_caption"), ("msvd", "msvd_every_caption")]
)
def test_runs_scored_differently_are_refused(tmp_path: Path, one: str, other: str) -> None:
    record = recorded(SWEEP, tmp_path)
    finished_run(record.runs[0].folder, 0, 0.5, scored=one)
    finished_run(record.runs[2].folder, 0, 0.5, scored=other)
    with pytest.raises(TableError, match=rf"was scored as {one} on 60 .* as {other} on 60, which"):
        build_table(SWEEP, record.rows, record.outcomes())


def test_part_of_a_test_split_is_said_to_be_one(tmp_path: Path) -> None:
    record = recorded(SWEEP, tmp_path)
    finished_run(record.runs[0].folder, 0, 0.5, num_samples=57, expected=60)
    finished_run(record.runs[2].folder, 0, 0.5, num_samples=60)
    notes = build_table(SWEEP, record.rows, record.outcomes()).notes
    assert (
        f"1 of 2 finished runs, those of {PLAIN!r}, scored 57 of 60 test samples, which is easier than scoring all."
        in notes
    )
    assert "3 test samples that not every run has scored are left out of all rows." in notes


def test_ranks_that_are_lost_are_named(study: SweepRecord, runs: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(runs, tmp_path / "runs")
    (run_folder(copied, PLAIN, 1) / "ranks.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        TableError, match=r"video-ratio-0-seed1/ranks.parquet of a finished run cannot be read"
    ):
        build_table(SWEEP, study.rows, recorded(SWEEP, copied).outcomes())
