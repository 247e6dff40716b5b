"""The sender as a process of its own, against servers that answer, die, come back, or say no."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from mac_ray.tracking.journal import Journal, status_of
from mac_ray.tracking.launch import send_rest, start_sender, wait
from mac_ray.tracking.process import Process
from mac_ray.tracking.progress import Progress, how_to_open, is_behind, load, replay_command
from mac_ray.tracking.sender import replay
from tests.jobs import wait_for
from tests.tracking.mlflow_server import Server, points_in_journal, points_in_store, the_run
from tests.web_server import web_server

Opener = Callable[[], Journal]

DRIVER = """
import sys
from pathlib import Path
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.launch import start_sender
journal = Journal.open_or_create(Path(sys.argv[1]), name="killed", experiment="team/masks", identity="c")
journal.status("RUNNING")
print(start_sender(journal.run_directory, sys.argv[2]).pid, flush=True)
for step in range(5):
    journal.metrics(step, {"loss": float(step)})
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def stopped_at_the_end(sender: Process) -> Iterator[Process]:
    try:
        yield sender
    finally:
        sender.kill()
        wait_for(sender.is_gone, within_s=300)


def server_that_answers(status: int, text: str, port: int = 0) -> AbstractContextManager[str]:
    """The address of an HTTP server with one answer to everything."""
    return web_server(lambda *_: (status, text.encode()), port)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def has_all(run_directory: Path, uri: str) -> bool:
    return bool(load(run_directory).get(uri, Progress()).run_id) and not is_behind(run_directory, uri)


def killed_driver(run_directory: Path, uri: str) -> psutil.Process:
    """A driver that wrote a few steps and was then killed with its whole group and all that descends from it, as by Ray
    when a job is stopped. Its sender is returned.
    """
    command = [sys.executable, "-c", DRIVER, str(run_directory), uri]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert driver.stdout
    sender = psutil.Process(int(driver.stdout.readline()))
    assert driver.stdout.readline() == b"written\n"
    for child in psutil.Process(driver.pid).children(recursive=True):
        child.kill()
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    with suppress(psutil.NoSuchProcess):  # it was done
        sender.terminate()  # as by a scheduler that ends all processes of a job; it has yet to tell of the end
    return sender


def test_sender_of_a_run_started_twice_brings_everything_once_and_ends(
    open_journal: Opener, store: str
) -> None:
    with open_journal() as journal:
        journal.status("RUNNING")
        processes = [start_sender(journal.run_directory, store) for _ in range(2)]
        for step in range(30):
            journal.metrics(step, {"loss": 1 / (1 + step)})
        journal.status("FINISHED")
        assert [wait(process, journal.run_directory, store, timeout_s=300) for process in processes] == [
            None,
            None,
        ]
    assert all(process.is_gone() for process in processes)
    assert the_run(store).info.status == "FINISHED"
    assert points_in_store(store) == points_in_journal(journal.run_directory)
    assert the_run(store).info.run_id in how_to_open(store, journal.run_directory)


def test_sender_started_before_the_run_says_running_is_refused(open_journal: Opener, store: str) -> None:
    with open_journal() as journal, pytest.raises(ValueError, match="does not say RUNNING"):
        start_sender(journal.run_directory, store)


def test_senders_of_two_runs_make_one_new_database_and_experiment(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new.db"
    journals = [
        Journal.open_or_create(tmp_path / name, name=name, experiment="sweep", identity=name) for name in "ab"
    ]
    processes = []
    for journal in journals:
        journal.status("RUNNING")
        processes.append(start_sender(journal.run_directory, uri))
    for journal, process in zip(journals, processes, strict=True):
        journal.metrics(1, {"loss": 1.0})
        journal.status("FINISHED")
        assert wait(process, journal.run_directory, uri, timeout_s=300) is None
        journal.close()
    sent = [load(journal.run_directory)[uri] for journal in journals]
    assert sent[0].experiment_id == sent[1].experiment_id
    assert sent[0].run_id != sent[1].run_id


def test_killed_driver_leaves_a_failed_run_with_all_it_wrote(store: str, tmp_path: Path) -> None:
    sender = killed_driver(tmp_path / "killed", store)
    wait_for(lambda: not sender.is_running(), within_s=300)
    run = the_run(store)
    assert run.info.status == "FAILED"
    assert "ended without a last word" in run.data.tags["mac_ray.reason"]
    assert points_in_store(store) == points_in_journal(tmp_path / "killed")
    assert len(points_in_store(store)) == 5
    assert status_of(tmp_path / "killed") == "RUNNING"  # only the run itself appends


def test_server_killed_in_the_middle_and_restarted_has_every_point_once(
    open_journal: Opener, server: Server, store: str
) -> None:
    server.start()
    with open_journal() as journal:
        journal.status("RUNNING")
        process = start_sender(journal.run_directory, server.uri)
        with stopped_at_the_end(process):
            step = 0

            def offset() -> int:
                nonlocal step
                step += 1  # points keep coming, so that the kill meets some on their way
                journal.metrics(step, {"loss": 1 / step, "learning_rate": 0.1})
                entry = load(journal.run_directory).get(server.uri)
                return entry.offset if entry else 0

            wait_for(lambda: offset() > 2000, within_s=300)
            server.kill()
            for _ in range(40):
                offset()
            (journal.run_directory / "ranks.txt").write_text("1 2 3")
            journal.artifact(journal.run_directory / "ranks.txt")
            wait_for(lambda: bool(load(journal.run_directory)[server.uri].problem), within_s=300)
            journal.status("FINISHED")
            restarted = threading.Timer(3, server.start)  # it is away when the run ends, and back soon after
            restarted.start()
            assert wait(process, journal.run_directory, server.uri, timeout_s=300) is None
            restarted.join()
    assert the_run(store).info.status == "FINISHED"
    assert points_in_store(store) == points_in_journal(journal.run_directory)
    assert [
        file.read_text() for file in journal.run_directory.parent.rglob("server-artifacts/**/ranks.txt")
    ] == ["1 2 3"]
    assert how_to_open(server.uri, journal.run_directory).startswith(f"{server.uri}/#/experiments/")


def test_server_down_from_the_start_costs_seconds_and_a_replay_brings_everything(
    open_journal: Opener, server: Server, store: str
) -> None:
    with open_journal() as journal:
        journal.status("RUNNING")
        with stopped_at_the_end(start_sender(journal.run_directory, server.uri)) as process:
            for step in range(30):
                journal.metrics(step, {"loss": 1 / (1 + step)})
            journal.status("FINISHED")
            sentence = wait(process, journal.run_directory, server.uri, timeout_s=300)
            assert not process.is_gone()  # it keeps trying on its own
    command = replay_command(journal.run_directory, server.uri)
    assert sentence is not None
    assert f"`{command}`" in sentence
    assert (
        "not everything was sent within" not in sentence
    )  # it was not waited to the end for a server that is down
    server.start()
    python, *arguments = command.split()
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True)
    assert points_in_store(store) == points_in_journal(journal.run_directory)
    assert the_run(store).info.status == "FINISHED"


def test_server_that_answers_500_is_tried_again_without_holding_up_the_driver_or_telling_a_password(
    open_journal: Opener,
) -> None:
    with server_that_answers(500, "broken") as uri, open_journal() as journal:
        journal.status("RUNNING")
        full = uri.replace("http://", "http://user:hunter2@")
        with stopped_at_the_end(start_sender(journal.run_directory, full)) as process:
            journal.status("FINISHED")
            sentence = wait(process, journal.run_directory, full, timeout_s=60)
            assert sentence is not None
            assert "500" in sentence
            first = load(journal.run_directory)[uri].tried
            wait_for(lambda: load(journal.run_directory)[uri].tried > first, within_s=20)
            assert not process.is_gone()
            assert "hunter2" not in " ".join(psutil.Process(process.pid).cmdline())
            assert "hunter2" not in sentence
            assert "hunter2" not in how_to_open(full, journal.run_directory)
        written = [path.read_text() for path in journal.run_directory.iterdir()]
    assert any("trying again" in text for text in written)
    assert not any("hunter2" in text for text in written)


def test_server_that_refuses_the_host_ends_the_sender_with_the_remedy(open_journal: Opener) -> None:
    refusal = "Invalid Host header - possible DNS rebinding attack detected"  # of mlflow server since 3.5
    with server_that_answers(403, refusal) as uri, open_journal() as journal:
        journal.status("RUNNING")
        process = start_sender(journal.run_directory, uri)
        wait_for(process.is_gone, within_s=300)
        sentence = wait(process, journal.run_directory, uri, timeout_s=300)
        assert sentence is not None
        assert "--allowed-hosts" in sentence


def test_server_that_says_no_for_a_while_is_sent_the_rest_when_it_takes_it_again(
    open_journal: Opener, server: Server, store: str
) -> None:
    """As a proxy does while what is behind it is being replaced."""
    server.start()
    port = int(server.uri.rpartition(":")[2])
    with open_journal() as journal:
        journal.status("RUNNING")
        with stopped_at_the_end(start_sender(journal.run_directory, server.uri)) as process:
            journal.metrics(1, {"loss": 1.0})
            wait_for(lambda: has_all(journal.run_directory, server.uri), within_s=300)
            server.kill()
            wait_for(lambda: is_free(port), within_s=300)  # its workers end a moment after it
            with server_that_answers(403, "no", port):
                journal.metrics(2, {"loss": 0.5})
                wait_for(lambda: "403" in load(journal.run_directory)[server.uri].problem, within_s=300)
            server.start()
            assert not process.is_gone()
            journal.status("FINISHED")
            assert wait(process, journal.run_directory, server.uri, timeout_s=300) is None
    assert points_in_store(store) == points_in_journal(journal.run_directory)


def test_run_that_is_deleted_while_it_is_sent_is_made_anew_with_all_it_has(
    open_journal: Opener, store: str
) -> None:
    with open_journal() as journal:
        journal.status("RUNNING")
        with stopped_at_the_end(start_sender(journal.run_directory, store)) as process:
            journal.metrics(1, {"loss": 1.0})
            wait_for(lambda: has_all(journal.run_directory, store), within_s=300)
            first = the_run(store).info.run_id
            MlflowClient(store).delete_run(first)
            journal.metrics(2, {"loss": 0.5})
            journal.status("FINISHED")
            assert wait(process, journal.run_directory, store, timeout_s=300) is None
    assert the_run(store).info.run_id != first
    assert points_in_store(store) == points_in_journal(journal.run_directory)


def test_sender_of_a_killed_driver_that_reaches_nothing_makes_way_for_that_of_the_next(
    open_journal: Opener, store: str, tmp_path: Path
) -> None:
    """Who resumes may have given another address because the first was wrong."""
    nobody = "http://127.0.0.1:9"
    killed_driver(tmp_path / "killed", nobody)
    wait_for(lambda: bool(load(tmp_path / "killed").get(nobody, Progress()).problem), within_s=300)
    with Journal.open_or_create(
        tmp_path / "killed", name="killed", experiment="team/masks", identity="c"
    ) as journal:
        journal.status("RUNNING")
        process = start_sender(journal.run_directory, store)
        journal.metrics(9, {"loss": 0.1})
        journal.status("FINISHED")
        assert wait(process, journal.run_directory, store, timeout_s=300) is None
    assert points_in_store(store) == points_in_journal(journal.run_directory)


def test_rest_of_several_runs_is_sent_although_one_cannot_be(store: str, tmp_path: Path) -> None:
    folders = []
    for name in "abc":
        with Journal.open_or_create(
            tmp_path / name, name=name, experiment="team/masks", identity=name
        ) as journal:
            journal.status("RUNNING")
            replay(journal.run_directory, store)
            journal.metrics(1, {"loss": 1.0})
            (journal.run_directory / "ranks.txt").write_text("1 2 3")
            journal.artifact(journal.run_directory / "ranks.txt")
            journal.status("FINISHED")
        folders.append(tmp_path / name)
    (folders[1] / "ranks.txt").unlink()
    sentence = send_rest(folders, store)
    assert sentence is not None
    assert sentence.startswith("MLflow does not have all of a run (")
    assert [is_behind(folder, store) for folder in folders] == [False, True, False]
    (folders[1] / "ranks.txt").write_text("1 2 3")
    assert send_rest(folders, store) is None
