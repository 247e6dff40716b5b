"""What is wrong with a sweep or with what it finds is one sentence, before anything is started, and nothing is lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from mac_ray.ablation import Budget, Knob, Range, Search, Sweep, main
from mac_ray.ablation.locate import Locator
from mac_ray.ablation.plan import expand
from mac_ray.config import ConfigError
from mac_ray.config.file import parsed_override
from mac_ray.data.manifest import Row
from mac_ray.data.manifest_writer import write as write_manifest
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED
from tests.ablation.made import ended_run, finished_run
from tests.checkpoints import save_text_tower
from tests.runs import UNTRACKED, USE_OWN

RATIO = "masking.video.ratio"
ROWS = [("a", {RATIO: 0.3}), ("b", {RATIO: 0.6})]


@pytest.fixture
def options(tiny_overrides: Sequence[str], tmp_path: Path) -> list[str]:
    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    return [*(option for option in tiny_overrides if not option.startswith("name=")), uri]


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would start one fails."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr("ray.init", refuse)


def sweep(**given: Any) -> Sweep:
    return Sweep(
        **{
            "name": "s",
            "question": "?",
            "base": "configs/ablation.yaml",
            "seeds": (0,),
            "variants": ROWS,
            **given,
        }
    )


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def refused(asked: Sweep, options: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What it says, once it is seen that nothing else came of it."""
    before = contents(folder)
    assert main(asked, [*options]) == EXIT_BAD_INPUT
    assert contents(folder) == before
    said = capsys.readouterr().out
    (sentence,) = (line for line in said.splitlines() if line.startswith("error: "))
    return sentence


SCRIPT = """from mac_ray.ablation import Sweep, main

SWEEP = Sweep(
    name="s",
    question="?",
    base="configs/ablation.yaml",
    {rows},
)
raise SystemExit(main(SWEEP))
"""


def test_mistake_that_python_meets_as_it_reads_a_sweep_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "empty.py"
    file.write_text(SCRIPT.format(rows=f"factors={{{RATIO!r}: ()}}"))
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, env=environment, check=False
    )
    said = (
        f"error: empty.py, line 3: Sweep: factors.{RATIO} is empty; give the values to try, or leave it out\n"
    )
    assert (ended.stderr, ended.returncode) == (said, EXIT_BAD_INPUT)


def test_rows_of_one_name_in_a_dict_are_refused(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python keeps the last of them and says nothing."""
    file = tmp_path / "twice.py"
    file.write_text(SCRIPT.format(rows='variants={"a": {}, "b": {},\n    "a": {}}'))
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(file), raising=False)
    said = refused(sweep(), options, tmp_path, capsys)
    assert said == "error: twice.py, line 8: 'a' is named twice; give each its own name"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"variants": {}, "factors": {"masking.video.ratoi": (0.3,)}}, ["ratoi", "did you mean", "ratio"]),
        ({"variants": [*ROWS, ("c", {RATIO: 1.5})]}, ["row 'c'", "1.5", "below 1"]),
        ({"metric": "t2v/R2"}, ["metric is 't2v/R2', which no run reports; there are t2v/R1"]),
        ({"reference": "mac/table6", "published": {"c": "tube"}}, ["published", "'c'"]),
        ({"baseline": "c"}, ["baseline is 'c', but the rows are 'a', 'b'; name one of these"]),
        ({"base": "nowhere.yaml"}, ["there is no base config nowhere.yaml"]),
        ({"variants": [("a", {"seed": 3})]}, ["variants.a.seed does not go here", "give those instead"]),
        ({"variants": {}, "factors": {"cluster.workers": (1, 2)}}, ["cluster.workers makes no other run"]),
        ({"overrides": {"name": "x"}}, ["an override sets name", "the sweep names its runs"]),
        (
            {"variants": [*ROWS, ("c", {"masking.text": {}})], "overrides": {"masking.text.ratio": 0.3}},
            ["sets masking.text.ratio, which reaches only the rows that do not set masking.text themselves"],
        ),
        (
            {"overrides": {"evaluation.masked_views": {"videos": 999}}},
            ["masked_views.videos is 999, but the val split of shapes has only 8 samples; lower it"],
        ),
    ],
)
def test_sweep_that_asks_for_what_is_not_there_is_refused(
    given: Mapping[str, Any],
    words: Sequence[str],
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = refused(sweep(**given), options, tmp_path, capsys)
    for word in words:
        assert word in sentence


def test_what_is_wrong_with_several_rows_is_said_once(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And of no row, where all have it."""
    factor = sweep(variants={}, factors={"masking.video.ratoi": (0.3, 0.6)})
    said = refused(factor, options, tmp_path, capsys)
    assert said == "error: sweep s: unknown key masking.video.ratoi; did you mean 'ratio'?"
    given = sweep(overrides={"masking.text.ratio": 2})
    said = refused(given, options, tmp_path, capsys)
    assert said.startswith("error: sweep s: override 'masking.text.ratio=2': masking.text.ratio is 2; give")
    assert "\n" not in said
    two = sweep(variants=[*ROWS, ("c", {"seeds": 1}), ("d", {"seeds": 2})])
    said = refused(two, options, tmp_path, capsys)
    assert said.startswith("error: sweep s, rows 'c', 'd': unknown key seeds; did you mean 'seed'?")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["seed=3"], "an override sets seed, of which each run has its own; take it out, give --seeds"),
        ([f"{RATIO}=0.5"], f"{RATIO}=0.5 reaches no run of sweep s, every row sets its own"),
        (["--seeds", "0", "0"], "seeds names a seed twice"),
        (["--rows", "a", "c"], "--rows names 'c', but the rows of sweep s are 'a', 'b'"),
        (["--trials", "9"], "--trials is given, but sweep s is no search; take it out"),
    ],
)
def test_command_that_asks_for_what_it_would_not_get_is_refused(
    asked: list[str], words: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(sweep(), [*options, *asked], tmp_path, capsys)


def test_config_given_first_is_what_a_sweep_starts_from_instead_of_its_own(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refused(sweep(), ["nowhere.yaml", *options], tmp_path, capsys)
    assert "there is no base config nowhere.yaml" in sentence
    elsewhere = sweep(base="nowhere.yaml")
    with pytest.raises(AssertionError, match="Ray is started"):  # it is past all that is checked before
        main(elsewhere, ["configs/ablation.yaml", *options, "--dry-run"])
    assert "2 runs" in capsys.readouterr().out


ONE_STAGE = "stages=[{name: all, data: [shapes], epochs: 3, batch_size: 8}]"  # whose end alone is scored
SPACE = {RATIO: Knob(domain=Range(low=0.3, high=0.9))}


@pytest.mark.parametrize(
    ("search", "given", "asked", "words"),
    [
        ({}, {}, ["--rows", "a"], "--rows names 'a', but sweep s is a search, which has no rows"),
        ({}, {}, ["--trials", "0"], "trials"),
        (
            {},
            {},
            ["--dry-run", "--storage", "postgresql://me:secret@nowhere.invalid/studies"],
            "cannot be opened",
        ),
        (
            {"sampler": "nsga2"},
            {"budget": Budget(equal="flops")},
            [],
            "give another budget or another sampler",
        ),
        (
            {"prune": "everywhere"},
            {},
            [ONE_STAGE, "evaluation.every_epochs=1000"],
            "there are none; lower it",
        ),
    ],
)
def test_search_that_asks_for_what_cannot_be_is_refused(
    search: Mapping[str, Any],
    given: Mapping[str, Any],
    asked: list[str],
    words: str,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    searching = sweep(variants={}, search=Search(space=SPACE, trials=2, **search), **given)
    assert words in refused(searching, [*options, *asked], tmp_path, capsys)


def test_search_has_as_many_trials_as_the_command_asks_for(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    searching = sweep(variants={}, search=Search(space=SPACE, trials=2))
    with pytest.raises(AssertionError, match="Ray is started"):  # it is past all that is checked before
        main(searching, [*options, "--trials", "7", "--dry-run"])
    assert "7 trials of 1 seed by tpe, 7 runs in all" in capsys.readouterr().out


def test_amount_of_another_budget_than_the_one_asked_for_does_not_count(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    little = sweep(budget=Budget(equal="flops", amount=24))
    assert "a budget of 24 flops a run" in refused(little, options, tmp_path, capsys)
    with pytest.raises(AssertionError, match="Ray is started"):  # it is past all that is checked before
        main(little, [*options, "--equal", "samples", "--dry-run"])
    assert "2 runs" in capsys.readouterr().out


def test_study_that_was_begun_in_another_place_is_not_begun_again(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder is the same, and its report would be replaced."""
    searching = sweep(variants={}, search=Search(space=SPACE, trials=2))
    # or the sender of the first would still write while the second is looked at
    options = [*options, UNTRACKED]
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    for first, then, said in (
        (["--storage", url], [], f"was begun in {url}; give --storage"),
        ([], ["--storage", url], "was begun in its folder; leave --storage out"),
    ):
        for folder in tmp_path.glob("**/sweep-*"):
            shutil.rmtree(folder)
        with pytest.raises(AssertionError, match="Ray is started"):
            main(searching, [*options, *first])
        capsys.readouterr()
        for more in ([], ["--dry-run"]):
            assert said in refused(searching, [*options, *then, *more], tmp_path, capsys)


def test_study_in_a_file_is_known_from_every_folder(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory of a job is a copy, and another one when the code has changed."""
    searching = sweep(variants={}, search=Search(space=SPACE, trials=2))
    asked = [*options, UNTRACKED, "--storage", "sqlite:///studies.db"]
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="Ray is started"):
        main(searching, asked)
    monkeypatch.chdir(tmp_path / "there")
    capsys.readouterr()
    said = refused(searching, asked, tmp_path, capsys)
    assert f"was begun in sqlite:///{tmp_path}/studies.db; give --storage" in said


@pytest.mark.parametrize("name", ["study.jsonl", "journal.jsonl"])
def test_search_whose_study_or_journal_is_corrupt_is_refused(
    name: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searching = sweep(variants={}, search=Search(space=SPACE, trials=2))
    options = [*options, UNTRACKED]
    with pytest.raises(AssertionError, match="Ray is started"):
        main(searching, options)
    capsys.readouterr()
    (damaged,) = tmp_path.glob(f"**/sweep-*/{name}")
    damaged.write_bytes(b"[not a record\n" + damaged.read_bytes())
    assert f"{name}, line 1 is no record of a" in refused(searching, options, tmp_path, capsys)


def test_each_row_that_does_not_go_with_its_data_is_named(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, ("wide", {"stages.0.batch_size": 4096}), ("wide tail", {"stages.1.batch_size": 27})]
    refused(sweep(variants=rows), options, tmp_path / "runs", capsys)
    asked = sweep(variants=rows, overrides=dict(map(parsed_override, options)))
    with pytest.raises(ConfigError) as error:
        Locator(Path.cwd(), tmp_path, lambda *_: None).require_trainable(expand(asked))
    assert str(error.value).splitlines() == [
        "row 'wide': stages.0.batch_size is 4096, but shapes has only 26 training samples; lower the batch size",
        "row 'wide tail': stages.1.batch_size is 27, but shapes has only 26 training samples; lower the batch size",
    ]


def test_mistake_that_rows_share_is_told_of_no_row(options: list[str], tmp_path: Path) -> None:
    asked = sweep(overrides=dict(map(parsed_override, [*options, "stages.0.batch_size=4096"])))
    with pytest.raises(ConfigError, match=r"^stages.0.batch_size is 4096"):
        Locator(Path.cwd(), tmp_path, lambda *_: None).require_trainable(expand(asked))


def test_weights_that_do_not_fit_a_row_are_told_before_anything_is_started(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_text_tower(tmp_path / "distilbert", ["a", "red", "circle", "square"])
    rows = {"as it is": {}, "deeper": {"model.text.depth": 5}}
    given = [*options, f"model.text.pretrained={source}"]
    sentence = refused(sweep(variants=rows), given, tmp_path, capsys)
    assert "model.text" in sentence
    assert "depth" in sentence


def test_media_that_are_not_there_are_told_before_anything_is_started(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {"train": 16, "val": 8, "test": 8}
    rows = [
        Row(f"{split}{number}", Path(f"{number}.mp4"), "video", split, ("a caption",))
        for split, count in splits.items()
        for number in range(count)
    ]
    write_manifest(tmp_path / "own.parquet", rows, "own", tmp_path)
    own = ["data.sets.own.kind=manifest", f"data.sets.own.path={tmp_path}/own.parquet", *USE_OWN]
    assert "none of the 16 train samples tried can be decoded" in refused(
        sweep(), [*options, *own], tmp_path, capsys
    )


@pytest.mark.parametrize(
    ("part", "given", "sentence"),
    [
        (
            sweep,
            {"variants": {}, "factors": {RATIO: ()}},
            f"factors.{RATIO} is empty; give the values to try",
        ),
        (sweep, {"variants": [*ROWS, ROWS[0]]}, "variants names 'a' twice; give each its own name"),
        (sweep, {"seeds": (1, 1)}, "seeds names a seed twice"),
        (sweep, {"seeds": (0, 2**31)}, "seeds.1"),
        (Search, {"space": {}}, "space is {}; give"),
        (sweep, {"metric": "t2v/MdR", "direction": "maximize"}, "of t2v/MdR the least is best"),
        (Budget, {"equal": "minutes"}, "equal is 'minutes'; give one of 'samples', 'flops', 'seconds'"),
        (Range, {"low": 3, "high": 1}, "low is 3 and high 1; give the lower one first"),
    ],
)
def test_file_that_spells_a_sweep_out_wrong_is_one_sentence_as_it_is_read(
    part: Any, given: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as error:
        part(**given)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_corrupt_journal_of_a_run_is_named_with_its_line(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = sweep(overrides=dict(parsed_override(option) for option in options))
    run = Locator(Path.cwd(), tmp_path, lambda *_: None).planned(expand(asked))[1]
    ended_run(run.folder, "FINISHED", "")
    journal = run.folder / "journal.jsonl"
    first, *rest = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([first, "rubbish\n", *rest]))
    sentence = refused(asked, [], tmp_path, capsys)
    assert f"{journal}, line 2 is no record of a journal; restore the file from a copy" in sentence


@pytest.mark.parametrize("name", ["scores.json", "ranks.parquet"])
def test_finished_run_whose_results_are_cut_short_is_named_before_others_are_trained(
    name: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = sweep(overrides=dict(parsed_override(option) for option in options))
    run = Locator(Path.cwd(), tmp_path, lambda *_: None).planned(expand(asked))[1]
    finished_run(run.folder, 0, 0.5)
    (run.folder / name).write_bytes((run.folder / name).read_bytes()[:20])
    sentence = refused(asked, [], tmp_path, capsys)
    assert f"the run in {run.folder} has finished, but its results cannot be read" in sentence


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), EXIT_FAILED, "No space left on device; mend that"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted; the same command goes on"),
    ],
)
def test_full_disk_or_keyboard_outside_of_training_is_a_sentence_too(
    error: BaseException,
    code: int,
    said: str,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def burst(*_: object) -> None:
        raise error

    monkeypatch.setattr(Locator, "planned", burst)
    assert main(sweep(), options) == code
    assert said in " ".join(capsys.readouterr().out.split())


def test_mlflow_of_an_older_version_is_refused_with_the_command_that_upgrades_it(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    made = tmp_path / "made.db"  # under another name, as MLflow keeps in mind what it has opened
    MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments()
    made.rename(tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '75868b020152'")
    database.close()
    searching = sweep(variants={}, search=Search(space=SPACE, trials=2))
    for asked in (sweep(), sweep(budget=Budget(equal="seconds")), searching):
        sentence = refused(asked, options, tmp_path, capsys)
        assert "Detected out-of-date database schema" in sentence
        assert f"'mlflow db upgrade {uri}'" in sentence


def test_times_of_steps_that_are_none_are_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "speeds.json").write_text("[0.1]")
    sentence = refused(sweep(budget=Budget(equal="seconds")), options, tmp_path, capsys)
    assert "speeds.json does not hold the times of steps" in sentence


def test_password_of_mlflow_is_kept_out_of_what_a_sweep_stores(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*options[:-1], "tracking.uri=https://me:hunter2@mlflow.lab"]
    for one in (
        sweep(),
        sweep(variants=[], search=Search(space={RATIO: Knob(domain=Range(low=0.1, high=0.9))})),
    ):
        assert main(one, given) == EXIT_BAD_INPUT
        said = " ".join(capsys.readouterr().out.split())
        assert "leave it out, and set MLFLOW_TRACKING_URI instead" in said
        assert "hunter2" not in said
    assert not any("hunter2" in path.read_text() for path in tmp_path.rglob("*.json"))
