"""How the runs of a study are found in MLflow, whoever has trained them."""

from __future__ import annotations

from pathlib import Path

from mac_ray.ablation.record import RecordedRun
from mac_ray.ablation.sweep import Budget, Sweep
from mac_ray.ablation.tags import add_members, description, labels_of, name_of, title_of
from mac_ray.tracking.journal import status_of, summarize
from tests.ablation.made import ended_run

STUDY = Path("/runs/sweep-masking-ratio-0123456789")


def test_finished_runs_of_others_are_tagged_once_and_stay_finished(tmp_path: Path) -> None:
    ended_run(tmp_path / "done", "FINISHED", "")
    ended_run(tmp_path / "failed", "FAILED", "out of memory")
    labels = {tmp_path / "done": "video 0.6", tmp_path / "failed": "video 0.9", tmp_path / "never": "none"}
    add_members(labels, STUDY)
    once = (tmp_path / "done" / "journal.jsonl").read_text()
    add_members(labels, STUDY)
    assert (tmp_path / "done" / "journal.jsonl").read_text() == once
    assert summarize(tmp_path / "done").tags["mac_ray.in.masking-ratio-0123456789"] == "video 0.6"
    assert status_of(tmp_path / "done") == "FINISHED"
    assert "mac_ray.in.masking-ratio-0123456789" not in summarize(tmp_path / "failed").tags
    assert not (tmp_path / "never").exists()


def test_run_of_two_rows_has_both_in_its_tag() -> None:
    runs = [
        RecordedRun(label, 0, identity, Path(identity))
        for label, identity in (("none", "a"), ("video 0", "a"), ("video 0.6", "b"))
    ]
    assert labels_of(runs) == {"a": "none = video 0", "b": "video 0.6"}


def test_name_in_mlflow_fits_its_column_whatever_the_row_is_called() -> None:
    sweep = Sweep(name="ratio", question="Which?", base="b.yaml", variants={"a": {}, "b": {}})
    assert name_of(sweep, "video 0.6", 1) == "ratio/video 0.6/seed=1"
    long = name_of(sweep, "ratio " * 100, 12)
    assert len(long) == 250
    assert long.startswith("ratio/ratio ratio")
    assert long.endswith("/seed=12")


def test_studies_of_one_name_are_told_apart_by_base_and_budget() -> None:
    rows = {"a": {}, "b": {}}
    given = {"name": "s", "question": "Which?", "variants": rows}
    sweeps = [
        Sweep(**given, base="configs/ablation.yaml"),
        Sweep(**given, base="configs/ablation.yaml", budget=Budget(equal="seconds")),
        Sweep(**given, base="/mine/flickr8k.yaml"),
    ]
    titles = [title_of(sweep) for sweep in sweeps]
    assert titles == [
        "s (ablation, equal samples)",
        "s (ablation, equal seconds)",
        "s (flickr8k, equal samples)",
    ]
    said = description(sweeps[0], STUDY, "python s.py")
    assert "Which?" in said
    assert "`python s.py`" in said
    assert 'tags.`mac_ray.in.masking-ratio-0123456789` LIKE "%"' in said
