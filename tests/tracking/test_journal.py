from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mac_ray.tracking import journal as journal_module
from mac_ray.tracking.journal import (
    Journal,
    JournalError,
    points,
    read,
    run_key,
    status_of,
    summarize,
)

Opener = Callable[[], Journal]


def lines(journal: Journal) -> list[str]:
    return journal.path.read_text().splitlines()


def last_metrics(directory: Path) -> dict[str, float]:
    return {key: value for key, (_, value) in summarize(directory).latest.items()}


def test_journal_new_run_begins_with_who_it_is(open_journal: Opener) -> None:
    before = time.time() * 1000
    with open_journal() as journal:
        first = json.loads(lines(journal)[0])
    assert first["kind"] == "run"
    assert (first["name"], first["experiment"], first["identity"]) == ("shapes-0", "team/masks", "1d" * 32)
    assert len(bytes.fromhex(first["key"])) == 16
    assert before - 1 <= first["time"] <= time.time() * 1000


def test_journal_opened_again_is_the_same_run(open_journal: Opener) -> None:
    with open_journal() as journal:
        key, directory = journal.key, journal.run_directory
    with open_journal() as journal:
        assert journal.key == key == run_key(directory)
        assert len(lines(journal)) == 1


def test_journal_of_another_identity_is_refused(open_journal: Opener) -> None:
    with open_journal() as journal:
        directory = journal.run_directory
    with pytest.raises(JournalError, match="identity 1d1d1d1d1d1d, not 2e2e"):
        Journal.open_or_create(directory, name="shapes-0", experiment="team/masks", identity="2e" * 32)


def test_journal_opened_where_there_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no journal"):
        Journal(tmp_path)


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_journal_half_written_last_line_is_cut_off_and_written_again(open_journal: Opener, kept: int) -> None:
    with open_journal() as journal:
        journal.metrics(1, {"loss": 2.0})
        journal.metrics(2, {"loss": 1.0})
        path = journal.path
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:-1]) + whole[-1][:kept])
    assert last_metrics(path.parent) == {"loss": 2.0}
    with open_journal() as journal:
        assert path.read_bytes() == b"".join(whole[:-1])
        journal.metrics(2, {"loss": 1.0})
    assert [record.get("step") for record in read(path)] == [None, 1, 2]


def test_journal_half_written_first_line_is_begun_anew(open_journal: Opener) -> None:
    with open_journal() as journal:
        path = journal.path
    path.write_bytes(path.read_bytes()[:30])
    with open_journal() as journal:
        journal.metrics(1, {"loss": 2.0})
    assert [record["kind"] for record in read(path)] == ["run", "metrics"]


@pytest.mark.parametrize("line", ["{", "[]", "\0\0\0", '{"kind": "other", "time": 1}'])
def test_journal_corrupt_line_in_the_middle_is_an_error_with_its_number(
    open_journal: Opener, line: str
) -> None:
    with open_journal() as journal:
        journal.metrics(1, {"loss": 2.0})
        path = journal.path
    metrics = path.read_text().splitlines()[1]
    with path.open("a") as file:
        file.write(f"{line}\n{metrics}\n")
    with pytest.raises(JournalError, match="line 3 "):
        list(read(path))
    with pytest.raises(JournalError, match="line 3 "):
        Journal(path.parent)


def test_journal_steps_run_again_after_a_resume_leave_one_point_each(open_journal: Opener) -> None:
    with open_journal() as journal:
        for step in range(5):
            journal.metrics(step, {"loss": 10.0 - step})
    with open_journal() as journal:
        for step in range(3, 8):
            journal.metrics(step, {"loss": 10.0 - step, "learning_rate": 0.1})
        path = journal.path
    points = [(r["step"], key) for r in read(path) if r["kind"] == "metrics" for key in r["values"]]
    assert sorted(points) == sorted(
        [(step, "loss") for step in range(8)] + [(step, "learning_rate") for step in range(3, 8)]
    )


def test_journal_non_finite_values_are_valid_json_and_read_back(open_journal: Opener) -> None:
    values = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "one": 1.0}
    with open_journal() as journal:
        journal.metrics(1, values)
        directory = journal.run_directory

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(lines(journal)[1], parse_constant=refuse)["values"]["nan"] == "nan"
    read_back = last_metrics(directory)
    assert math.isnan(read_back.pop("nan"))
    assert read_back == {"inf": math.inf, "minus": -math.inf, "one": 1.0}


def test_journal_points_are_all_of_the_metrics_asked_for_in_order_of_steps(open_journal: Opener) -> None:
    with open_journal() as journal:
        journal.metrics(20, {"val/a": 2.0, "train/loss": 1.0})
        journal.metrics(3, {"val/a": 1.0, "val/b": math.inf})
        found = points(journal.run_directory, "val/")
    assert found == {"val/a": [(3, 1.0), (20, 2.0)], "val/b": [(3, math.inf)]}


def test_journal_latest_metrics_are_those_of_the_largest_step(open_journal: Opener) -> None:
    with open_journal() as journal:
        journal.metrics(20, {"loss": 2.0})
        journal.metrics(10, {"loss": 3.0, "val/t2v/R1": 40.0})
        assert last_metrics(journal.run_directory) == {"loss": 2.0, "val/t2v/R1": 40.0}


def test_journal_parameter_given_another_value_is_refused_naming_both(open_journal: Opener) -> None:
    with open_journal() as journal:
        journal.parameters({"seed": "0", "epochs": "48"})
    with open_journal() as journal:
        journal.parameters({"seed": "0", "epochs": "48"})
        journal.parameters({"added": "1"})
        with pytest.raises(ValueError, match=r"parameter seed .* is '0' and cannot become '1'"):
            journal.parameters({"new": "x", "seed": "1"})
    parameters = [record["values"] for record in read(journal.path) if record["kind"] == "parameters"]
    assert parameters == [{"seed": "0", "epochs": "48"}, {"added": "1"}]


def test_journal_tag_may_change_and_is_written_when_it_does(open_journal: Opener) -> None:
    with open_journal() as journal:
        for value in ("no", "no", "yes"):
            journal.tags({"pruned": value})
    assert [record["values"] for record in read(journal.path) if record["kind"] == "tags"] == [
        {"pruned": "no"},
        {"pruned": "yes"},
    ]


@pytest.mark.parametrize("name", ["", "loss@5", "/loss", "a//b", "../loss", "a/", "x" * 251])
def test_journal_name_that_mlflow_refuses_is_refused_before_it_is_written(
    open_journal: Opener, name: str
) -> None:
    with open_journal() as journal:
        for append in (
            lambda: journal.metrics(1, {"loss": 1.0, name: 1.0}),
            lambda: journal.parameters({name: "1"}),
            lambda: journal.tags({name: "1"}),
        ):
            with pytest.raises(ValueError, match="refused by MLflow"):
                append()
        assert len(lines(journal)) == 1


def test_journal_artifact_is_recorded_relative_and_must_lie_in_the_run(
    open_journal: Opener, tmp_path: Path
) -> None:
    with open_journal() as journal:
        inside = journal.run_directory / "eval" / "ranks.parquet"
        inside.parent.mkdir()
        inside.write_bytes(b"ranks")
        journal.artifact(inside, "eval")
        (tmp_path / "outside.txt").write_text("")
        with pytest.raises(ValueError, match=r"outside\.txt is not inside the run directory"):
            journal.artifact(tmp_path / "outside.txt")
        with pytest.raises(FileNotFoundError, match="existing file"):
            journal.artifact(journal.run_directory / "missing.txt")
    artifacts = [record for record in read(journal.path) if record["kind"] == "artifact"]
    assert [(record["path"], record["folder"]) for record in artifacts] == [("eval/ranks.parquet", "eval")]


def test_status_of_run_is_the_last_one_written(open_journal: Opener, tmp_path: Path) -> None:
    assert status_of(tmp_path / "run") is None
    with open_journal() as journal:
        assert status_of(journal.run_directory) is None
        for status in ("RUNNING", "FAILED", "RUNNING", "FINISHED"):
            journal.status(status)
            assert status_of(journal.run_directory) == status
        with pytest.raises(ValueError, match="'DONE' is none of"):
            journal.status("DONE")


def test_reason_that_names_a_file_whose_name_is_no_text_is_written(open_journal: Opener) -> None:
    with open_journal() as journal:
        journal.status("RUNNING")
        journal.status("FAILED", os.fsdecode(b"no such file: \xe9t\xe9.mp4"))
    found = summarize(journal.run_directory)
    assert (found.status, found.reason) == ("FAILED", "no such file: ?t?.mp4")


@pytest.mark.parametrize("count", [1, 3, 400])  # the last are more than is looked at before the rest
def test_status_of_a_run_that_was_tagged_since_it_ended_is_found_before_its_tags(
    open_journal: Opener, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    with open_journal() as journal:
        journal.status("RUNNING")
        journal.metrics(1, {"loss": 1.0})
        assert status_of(journal.run_directory) == "RUNNING"
        journal.status("FINISHED")
        for number in range(count):
            journal.tags({f"mac_ray.in.study-{number}": "row"})
    read_whole: list[Path] = []
    whole = journal_module.summarize
    monkeypatch.setattr(
        journal_module, "summarize", lambda folder: read_whole.append(folder) or whole(folder)
    )
    assert status_of(journal.run_directory) == "FINISHED"
    assert bool(read_whole) == (count == 400)


def test_summary_of_a_running_run_is_abandoned_only_after_its_process_ended(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from mac_ray.tracking.journal import Journal\n"
        "journal = Journal.open_or_create(Path(sys.argv[1]), name='a', experiment='b', identity='c')\n"
        "journal.status('RUNNING'); print('ready', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout
    assert writer.stdout.readline() == b"ready\n"
    assert not summarize(tmp_path).is_abandoned
    with pytest.raises(JournalError, match=f"being written by process {writer.pid} "):
        Journal(tmp_path)
    writer.kill()
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, but still a zombie: nobody asked yet
    assert summarize(tmp_path).is_abandoned
    writer.communicate()
    assert summarize(tmp_path).is_abandoned
    with Journal(tmp_path) as journal:
        journal.status("RUNNING")
        assert not summarize(tmp_path).is_abandoned


def test_journal_without_room_says_so_and_stays_readable(tmp_path: Path) -> None:
    # A limit on file sizes is a full disk that needs no disk; half of the line fits below it.
    program = """
import resource, sys
from pathlib import Path
from mac_ray.tracking.journal import Journal
journal = Journal.open_or_create(Path(sys.argv[1]), name="a", experiment="b", identity="c")
journal.metrics(1, {"loss": 1.0})
room = journal.path.stat().st_size + 40
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
try:
    journal.metrics(2, {"loss": 2.0})
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.metrics(2, {"loss": 3.0})
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "no room for the journal" in output
    assert len(output.splitlines()) == 1
    metrics = [record for record in read(tmp_path / "journal.jsonl") if record["kind"] == "metrics"]
    assert [(record["step"], record["values"]) for record in metrics] == [
        (1, {"loss": 1.0}),
        (2, {"loss": 3.0}),
    ]


def test_journal_import_brings_neither_mlflow_nor_torch_nor_ray() -> None:
    program = (
        "import sys, mac_ray.tracking.journal, mac_ray.tracking.launch\n"
        "print(sorted({'mlflow', 'torch', 'ray'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_status_is_that_of_the_last_line_that_says_one_however_long_the_lines_are(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with Journal.open_or_create(directory, name="r", experiment="e", identity="i") as journal:
        assert status_of(directory) is None
        journal.status("RUNNING")
        assert status_of(directory) == "RUNNING"
        journal.parameters({"long": "x" * 50_000})
        assert status_of(directory) == "RUNNING"
        journal.status("FAILED", "y" * 50_000)
        assert status_of(directory) == "FAILED"
        journal.status("RUNNING")
        journal.status("FINISHED")
    with (directory / "journal.jsonl").open("ab") as file:
        file.write(b'{"kind": "status", "status": "KIL')  # of a kill
    assert status_of(directory) == "FINISHED"
