"""What a run of a sweep does in its actor, without Ray: where it trains, on what, and what it leaves when it cannot."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from mac_ray.ablation import execute
from mac_ray.ablation.execute import (
    EXIT_BUSY,
    Closing,
    Job,
    Site,
    at_once,
    close,
    fitting,
    run_quietly,
    say_what_nodes_do_not_share,
    to_jobs,
)
from mac_ray.ablation.locate import Locator, PlannedRun
from mac_ray.ablation.outcome import outcome_in
from mac_ray.ablation.plan import Point, Row, expand
from mac_ray.ablation.searcher import Judging, ProposalSearcher
from mac_ray.ablation.sweep import Search, Sweep
from mac_ray.config import Cluster, Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data import manifest_writer
from mac_ray.data.manifest import Manifest
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, RunError
from mac_ray.tracking.journal import Journal, JournalError, status_of, summarize
from mac_ray.training.distributed import device_of
from mac_ray.training.folder import RunFolder
from mac_ray.training.loop import Outcome
from mac_ray.training.start import PreparedRun
from tests.ablation.trials import SPACE, Driver, driven, locked, write_run
from tests.jobs import finish, start_job, wait_for
from tests.runs import UNTRACKED, rows_of


def planned(configs: dict[str, Config], folder: Path) -> list[PlannedRun]:
    """As a sweep plans its rows, which are named by their labels."""
    points = [
        Point(Row(label, {}), 0, config.model_copy(update={"name": label}))
        for label, config in configs.items()
    ]
    return Locator(Path.cwd(), folder, lambda *_: None).planned(points)


def cluster_of(*nodes: dict[str, float]) -> list[dict[str, object]]:
    """As Ray lists nodes that live."""
    return [{"Alive": True, "Resources": node} for node in nodes]


def never(run: PreparedRun, console: Console) -> Outcome:
    raise AssertionError("is trained")


def test_two_who_start_one_run_under_two_names_use_the_folder_of_the_first(
    tiny: Config, tmp_path: Path
) -> None:
    locator = Locator(Path.cwd(), tmp_path, lambda *_: None)
    (one,), (other,) = planned({"one": tiny}, tmp_path), planned({"other": tiny}, tmp_path)
    assert one.folder != other.folder  # as planned at the same time
    assert [one] == locator.claimed([one])
    assert locator.claimed([other]) == [replace(other, folder=one.folder)]
    assert planned({"third": tiny}, tmp_path)[0].folder == one.folder


def test_rows_that_are_one_run_share_its_folder_and_it_is_trained_once(tiny: Config, tmp_path: Path) -> None:
    runs = planned({"one": tiny, "the same": tiny}, tmp_path)
    (identity,) = {run.identity for run in runs}
    assert len({run.folder for run in runs}) == 1
    assert len(to_jobs(runs, {identity: {}})) == 1


@pytest.mark.parametrize(
    ("asked", "nodes", "expected"),
    [
        ({}, [{"CPU": 16, "GPU": 8}], 16),
        ({"gpus_per_worker": 1}, [{"CPU": 16, "GPU": 8}], 8),
        ({"gpus_per_worker": 1}, [{"CPU": 16}, {"CPU": 16, "GPU": 8}], 8),
        ({"gpus_per_worker": 0.25}, [{"CPU": 16, "GPU": 1}], 4),
        ({"gpus_per_worker": 0.6}, [{"CPU": 16, "GPU": 2}], 2),
        ({"gpus_per_worker": 1, "workers": 3}, [{"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4}], 2),
        ({"gpus_per_worker": 1, "workers": (1, 4), "cpus_per_worker": 2}, [{"CPU": 15, "GPU": 8}], 1),
        (
            {"gpus_per_worker": 1, "workers": (4, 16)},
            [{"CPU": 16, "GPU": 8}],
            1,
        ),  # of eight, until there are more
        # a core is left over on each node, and no worker is made of two of these
        ({"workers": 2, "cpus_per_worker": 2}, [{"CPU": 3}] * 3, 1),
    ],
)
def test_as_many_runs_at_once_as_have_all_their_workers(
    asked: dict[str, object], nodes: list[dict[str, float]], expected: int, tiny: Config
) -> None:
    section = Cluster.model_validate(tiny.cluster.model_dump() | asked)
    assert at_once([tiny.model_copy(update={"cluster": section})], nodes) == expected


def test_actor_that_trains_any_row_needs_the_most_that_any_asks_for(tiny: Config) -> None:
    rows = [
        tiny.model_copy(update={"cluster": tiny.cluster.model_copy(update=asked)})
        for asked in ({"cpus_per_worker": 16}, {"cpus_per_worker": 2, "gpus_per_worker": 1.0})
    ]
    assert at_once(rows, [{"CPU": 32, "GPU": 4}]) == 2
    apart = [{"CPU": 16}, {"CPU": 4, "GPU": 1}]
    assert [at_once([row], apart) for row in rows] == [1, 1]
    with pytest.raises(ConfigError, match="a worker needs 16 CPUs and 1 GPU"):
        at_once(rows, apart)  # no node has both, and an actor would wait for one for ever


@pytest.mark.parametrize(
    ("asked", "threads"), [({}, 1), ({"cpus_per_worker": 3}, 3), ({"threads": 2, "cpus_per_worker": 3}, 2)]
)
def test_runs_of_a_sweep_share_the_cores_of_a_machine(asked: dict[str, int], threads: int) -> None:
    own = {f"cluster.{name}": value for name, value in asked.items()}
    sweep = Sweep(
        name="s",
        question="?",
        base="configs/ablation.yaml",
        seeds=(0,),
        variants={"a": {}},
        overrides={"cluster.threads": None, "cluster.workers": "auto"}
        | own,  # as of a base that does not say
    )
    (point,) = expand(sweep)
    assert point.config.cluster.threads == threads
    assert point.config.cluster.workers == 1  # also where a run by itself would take all there are


def test_cluster_on_which_no_run_fits_is_refused(tiny: Config) -> None:
    section = tiny.cluster.model_copy(update={"workers": 4, "gpus_per_worker": 1.0})
    with pytest.raises(
        ConfigError, match=r"4 workers need 1 CPU and 1 GPU each, .* room for 2: 16 CPUs and 2 GPUs"
    ):
        at_once([tiny.model_copy(update={"cluster": section})], [{"CPU": 16, "GPU": 2}])


def test_run_that_cannot_be_started_where_it_would_train_is_failed_with_the_sentence(
    tiny: Config, tmp_path: Path
) -> None:
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    views = {"masked_views": {"videos": 999}}
    broken = Config.model_validate(tiny.model_dump() | {"evaluation": tiny.evaluation.model_dump() | views})
    job = Job(broken, run.identity, run.folder, {"mac_ray.row": "row"})
    assert run_quietly(job, never) == 2
    outcome = outcome_in(run.folder, "row", 0, run.identity)
    assert outcome.status == "FAILED"
    assert "masked_views.videos is 999" in outcome.reason


def test_error_that_nobody_foresaw_is_what_the_run_failed_of(tiny: Config, tmp_path: Path) -> None:
    def burst(run: PreparedRun, console: Console) -> Outcome:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    config = tiny.model_copy(update={"tracking": tiny.tracking.model_copy(update={"enabled": False})})
    with pytest.raises(torch.OutOfMemoryError):
        run_quietly(Job(config, run.identity, run.folder, {}), burst)
    outcome = outcome_in(run.folder, "row", 0, run.identity)
    assert outcome.reason == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"


def test_run_that_another_sweep_is_training_is_left_to_it_and_its_result_taken(
    tiny: Config, tiny_overrides: Sequence[str], tmp_path: Path
) -> None:
    runs = Path(tiny.storage.runs)
    options = [*tiny_overrides, "stages.0.epochs=20", UNTRACKED]
    (run,) = planned({"tiny": config_file.load(None, options)}, runs)
    other = start_job(options, tmp_path, "--without-ray")  # the lock is a process's
    wait_for(lambda: status_of(run.folder) == "RUNNING", other, every_s=0.01)
    other.send_signal(signal.SIGSTOP)  # or it might be done before all has been asked
    job = Job(run.point.config, run.identity, run.folder, {})
    assert run_quietly(job, never) == EXIT_BUSY
    assert RunFolder(run.folder).is_driven()
    close(job, "its node was lost")
    assert status_of(run.folder) == "RUNNING"  # of somebody else
    other.send_signal(signal.SIGCONT)
    assert finish(other)[0] == 0
    assert not RunFolder(run.folder).is_driven()
    assert run_quietly(job, never) == 0
    close(job, "its node was lost")
    assert outcome_in(run.folder, "tiny", 0, run.identity).status == "FINISHED"


def test_run_whose_journal_a_stuck_worker_holds_is_not_tried_for_ever(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a driver that was killed: nobody drives the run, and nobody else can."""
    monkeypatch.setattr("mac_ray.tracking.journal.PATIENCE_S", 0.1)
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    with locked(run.folder / "journal.lock"):
        assert run_quietly(Job(tiny, run.identity, run.folder, {}), never) == EXIT_FAILED
    assert "is being written by" in (run.folder / "console.log").read_text()


def test_run_that_cannot_be_begun_here_is_left_to_who_trains_it_elsewhere(
    tiny: Config, tmp_path: Path
) -> None:
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    with Journal.open_or_create(run.folder, name="row", experiment="e", identity=run.identity) as journal:
        journal.status("RUNNING")
    gone = run.point.config.model_copy(
        update={"storage": run.point.config.storage.model_copy(update={"cache": "/proc/nowhere"})}
    )
    job = Job(gone, run.identity, run.folder, {})
    with driven(run.folder):
        assert run_quietly(job, never) == EXIT_BUSY
        assert status_of(run.folder) == "RUNNING"
    assert run_quietly(job, never) == EXIT_BAD_INPUT
    assert status_of(run.folder) == "FAILED"


def test_node_that_sees_other_data_than_the_plan_trains_no_other_run(
    copied_set: Callable[[Path], Config], tmp_path: Path
) -> None:
    """In its place, outside of the table."""
    config = copied_set(tmp_path / "own")
    runs = tmp_path / "runs"
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"runs": str(runs)})})
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": config}, runs))
    own = Manifest.open(Path(config.data.sets["own"].path))
    rows = [replace(row, captions=("another",)) for row in rows_of(own)]
    manifest_writer.write(own.path, rows, own.name, own.root)
    assert run_quietly(Job(config, run.identity, run.folder, {}), never) == EXIT_BAD_INPUT
    assert [folder.name for folder in runs.glob("*-*")] == [run.folder.name]
    outcome = outcome_in(run.folder, "row", 0, run.identity)
    assert outcome.status == "FAILED"
    assert "would train another run than was planned: own or mac_ray itself has changed" in outcome.reason


def test_folder_that_the_driver_has_made_and_this_node_does_not_see_is_not_made_here(
    tiny: Config, tmp_path: Path
) -> None:
    (run,) = planned({"row": tiny}, tmp_path)
    with pytest.raises(RunError, match=r"row-\w+ is not seen by .* storage.runs .* all nodes share"):
        run_quietly(Job(run.point.config, run.identity, run.folder, {}), never)
    assert not run.folder.exists()


def test_run_that_was_lost_with_its_node_is_failed_of_what_ray_says(tiny: Config, tmp_path: Path) -> None:
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    with Journal.open_or_create(run.folder, name="row", experiment="e", identity=run.identity) as journal:
        journal.status("RUNNING")
    path = run.folder / "journal.jsonl"
    path.write_text(path.read_text().replace(socket.gethostname(), "another-node"))
    outcome = outcome_in(run.folder, "row", 0, run.identity)
    assert outcome.status == "RUNNING"  # as far as anybody can tell from here

    close(Job(run.point.config, run.identity, run.folder, {"mac_ray.row": "row"}), "its node was lost")
    outcome = outcome_in(run.folder, "row", 0, run.identity)
    assert (outcome.status, outcome.reason) == ("FAILED", "its node was lost")
    assert summarize(run.folder).tags == {"mac_ray.row": "row", "mac_ray.fault": "machine"}


def test_what_keeps_a_run_from_going_on_is_why_it_failed_and_not_what_ended_it_before(
    tiny: Config, tmp_path: Path
) -> None:
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    with Journal.open_or_create(run.folder, name="row", experiment="e", identity=run.identity) as journal:
        journal.status("KILLED", "interrupted from the keyboard")
    ended = summarize(run.folder).updated / 1e3
    job = Job(run.point.config, run.identity, run.folder, {})
    for started, status, reason in (
        (ended - 5, "KILLED", "interrupted from the keyboard"),  # by that very process
        (ended + 5, "FAILED", "its node was lost"),
    ):
        trial = TuneTrial("a", {}, None, SimpleNamespace(start_time=started))
        path = tmp_path / "error.pkl"
        path.write_bytes(pickle.dumps(RunError("its node was lost")))
        trial.pickled_error_file = str(path)
        Closing(lambda _: [job]).on_trial_error(0, [], trial)
        outcome = outcome_in(run.folder, "row", 0, run.identity)
        assert (outcome.status, outcome.reason) == (status, reason)


@dataclass
class TuneTrial:
    """What Tune tells its callbacks of a trial, as far as ours look."""

    trial_id: str
    config: dict[str, Any]
    pickled_error_file: str | None
    run_metadata: Any = field(default_factory=lambda: SimpleNamespace(start_time=None))


def test_search_is_told_of_an_error_once_the_journal_says_what_it_was(tmp_path: Path) -> None:
    """In the order in which Tune calls: its searcher, then the callbacks."""
    driver = Driver(tmp_path, Search(space=SPACE, trials=1))
    searcher = ProposalSearcher(
        driver.proposals,
        lambda proposal: [Job(run.point.config, run.identity, run.folder, {}) for run in proposal.runs],
    )
    given = searcher.suggest("a")
    assert isinstance(given, dict)
    (job,) = given["jobs"]
    job.folder.mkdir()  # as a run that is claimed
    path = tmp_path / "error.pkl"
    path.write_bytes(pickle.dumps(RunError("/runs is not seen by node-7; let storage.runs be shared")))
    trial = TuneTrial("a", given, str(path))
    searcher.on_trial_complete("a", error=True)
    for callback in (Closing(itemgetter("jobs")), Judging(searcher)):
        callback.on_trial_error(0, [], trial)
    assert status_of(job.folder) == "FAILED"
    assert "/runs is not seen by node-7" in driver.proposals.stopped


def test_search_that_waits_for_others_leaves_tune_with_nothing_to_hold(tmp_path: Path) -> None:
    """While it waits, Tune would keep an actor, for which the run elsewhere may be waiting."""
    driver = Driver(tmp_path, Search(space=SPACE, trials=2))
    searcher = ProposalSearcher(
        driver.proposals,
        lambda proposal: [Job(run.point.config, run.identity, run.folder, {}) for run in proposal.runs],
    )
    theirs, ours = searcher.suggest("theirs"), searcher.suggest("ours")
    assert isinstance(theirs, dict)
    assert isinstance(ours, dict)
    (job,) = theirs["jobs"]
    with driven(job.folder):
        searcher.on_trial_complete("theirs", {"exit_code": EXIT_BUSY})
        assert searcher.suggest("more") == "FINISHED"
        assert searcher.is_training
        (own,) = ours["jobs"]
        write_run(
            PlannedRun(Point(Row("r", {}), 0, own.config), own.identity, own.folder), "FINISHED", [(100, 1.0)]
        )
        searcher.on_trial_complete("ours", {"exit_code": 0})
        assert not searcher.is_training
        assert driver.proposals.has_some_waiting
        assert not driver.proposals.has_one_back()
    assert driver.proposals.has_one_back()
    assert searcher.suggest("again") == theirs
    assert searcher.is_training


def test_ctrl_c_is_heard_again_once_tune_has_ended() -> None:
    before = signal.getsignal(signal.SIGINT)
    with execute._own_interrupts():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Tune does with a handler of its own
    assert signal.getsignal(signal.SIGINT) is before


def test_journal_that_cannot_be_written_ends_no_other_run(tiny: Config, tmp_path: Path) -> None:
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    (run.folder / "journal.jsonl").write_text("rubbish\nrubbish\n")
    job = Job(run.point.config, run.identity, run.folder, {})
    with pytest.raises(JournalError):
        close(job, "its node was lost")
    Closing(lambda _: [job]).on_trial_error(0, [], TuneTrial("a", {}, None))


def test_actor_is_where_its_driver_is_and_sends_to_its_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # as in a node that somebody else has started
    monkeypatch.chdir(tmp_path)
    site = Site.here(never, "http://mlflow.lab:5000")
    monkeypatch.chdir("/")
    with monkeypatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", "sqlite:////of/the/node.db")
        site.enter()
        assert (Path.cwd(), os.environ["MLFLOW_TRACKING_URI"]) == (tmp_path, "http://mlflow.lab:5000")


def test_cluster_that_grows_is_waited_for_and_one_that_does_not_is_refused_after_a_while(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = tiny.cluster.model_copy(update={"gpus_per_worker": 1.0, "start_timeout_s": 1})
    config = tiny.model_copy(update={"cluster": section})
    small, large = cluster_of({"CPU": 2.0}), cluster_of({"CPU": 4.0, "GPU": 2.0})
    clusters = chain([small], repeat(large))
    monkeypatch.setattr("ray.nodes", lambda: next(clusters))
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 4.0, "GPU": 2.0})
    console = Console(file=StringIO(), width=500)
    assert fitting([config], console) == 2
    assert isinstance(console.file, StringIO)
    assert (
        "waiting up to 1 s for the cluster: a run does not fit: a worker needs 1 CPU and 1 GPU"
        in console.file.getvalue()
    )
    monkeypatch.setattr("ray.nodes", lambda: small)
    with pytest.raises(ConfigError, match="room for 0: 2 CPUs and 0 GPUs on 1 node"):
        fitting([config], console)


@pytest.mark.parametrize(("share", "said"), [(0.0, True), (0.5, False)])
def test_gpus_that_no_run_takes_are_said(
    tiny: Config, monkeypatch: pytest.MonkeyPatch, share: float, said: bool
) -> None:
    config = tiny.model_copy(update={"cluster": tiny.cluster.model_copy(update={"gpus_per_worker": share})})
    monkeypatch.setattr("ray.nodes", lambda: cluster_of({"CPU": 4.0, "GPU": 2.0}))
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 4.0, "GPU": 2.0})
    console = Console(file=StringIO(), width=500)
    fitting([config], console)
    assert isinstance(console.file, StringIO)
    sentence = "the cluster has 2 GPUs, and cluster.gpus_per_worker=0 leaves them idle"
    assert (sentence in console.file.getvalue()) == said


@pytest.mark.parametrize(
    ("workers", "gpus", "free", "sentence"),
    [
        (1, 1.0, 1.0, ""),
        (1, 0.5, 0.5, ""),
        (1, 1.0, 0.0, "a worker needs 1 CPU and 1 GPU, and the cluster has 4 CPUs and 0 GPUs free"),
        (2, 1.0, 1.0, "2 workers need 1 CPU and 1 GPU each, and the cluster has 4 CPUs and 1 GPU free"),
        ((1, 2), 1.0, 1.0, ""),
    ],
)
def test_what_others_hold_of_what_each_run_needs_is_said(
    workers: int | tuple[int, int],
    gpus: float,
    free: float,
    sentence: str,
    tiny: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    section = tiny.cluster.model_copy(update={"workers": workers, "gpus_per_worker": gpus})
    monkeypatch.setattr("ray.nodes", lambda: cluster_of({"CPU": 4.0, "GPU": 2.0}))
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 4.0} | ({"GPU": free} if free else {}))
    monkeypatch.setattr("mac_ray.ray_train.TOLD_WITHIN_S", 0.0)
    console = Console(file=StringIO(), width=500)
    fitting([tiny.model_copy(update={"cluster": section})], console)
    assert isinstance(console.file, StringIO)
    said = console.file.getvalue()
    assert sentence in said
    assert ("waiting for what others hold" in said) == bool(sentence)


def test_run_whose_process_was_killed_is_failed(tmp_path: Path) -> None:
    program = (
        "import sys, os; from pathlib import Path; from mac_ray.tracking.journal import Journal\n"
        "journal = Journal.open_or_create(Path(sys.argv[1]), name='r', experiment='e', identity='i')\n"
        "journal.status('RUNNING'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], check=False)
    outcome = outcome_in(tmp_path / "run", "row", 0, "i")
    assert (outcome.status, outcome.reason) == ("FAILED", "the process that trained it was killed")


@pytest.mark.parametrize(
    ("error", "is_retried"), [(OSError("no space left"), True), (RunError("clips do not decode"), False)]
)
def test_error_of_the_system_is_left_to_tune_to_try_again(
    error: Exception, is_retried: bool, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(run: PreparedRun, console: Console) -> Outcome:
        raise error

    reported: list[dict[str, int]] = []
    monkeypatch.setattr("ray.tune.report", reported.append)
    (run,) = Locator(Path.cwd(), tmp_path, lambda *_: None).claimed(planned({"row": tiny}, tmp_path))
    config = tiny.model_copy(update={"tracking": tiny.tracking.model_copy(update={"enabled": False})})
    jobs = [Job(config, run.identity, run.folder, {})]
    with pytest.raises(OSError, match="no space left") if is_retried else nullcontext():
        execute._trial({"number": 0}, jobs, Site.here(burst, None))
    assert reported == ([] if is_retried else [{"exit_code": 1}])
    assert (status_of(run.folder), summarize(run.folder).reason) == ("FAILED", str(error))


def test_gpu_that_was_not_asked_for_is_not_taken(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of(tiny.cluster).type == "cpu"
    assert device_of(tiny.cluster.model_copy(update={"gpus_per_worker": 0.5})).type == "cuda"


@pytest.mark.parametrize(
    ("nodes", "uri", "is_said"),
    [
        (2, "sqlite:////home/me/mlflow.db", True),
        (1, "sqlite:////home/me/mlflow.db", False),
        (2, "http://mlflow.lab:5000", False),
        (2, None, False),
    ],
)
def test_database_that_nodes_do_not_share_is_said_to_keep_their_runs_apart(
    nodes: int, uri: str | None, is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = {"Alive": False, "Resources": {}}
    monkeypatch.setattr("ray.nodes", lambda: [*cluster_of(*[{"CPU": 2.0}] * nodes), dead])
    console = Console(file=StringIO(), width=500)
    say_what_nodes_do_not_share(uri, console)
    assert isinstance(console.file, StringIO)
    assert (f"trained on {nodes} nodes, and {uri} is a file" in console.file.getvalue()) == is_said
