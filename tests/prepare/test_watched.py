"""A process that hangs or dies is replaced, and the sample it had is named; stopped and killed for real."""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from mac_ray.data.source import Source
from mac_ray.prepare.finding import Asked
from mac_ray.prepare.watched import Watched
from tests.data.conftest import make_hanging
from tests.prepare.made import make_clip


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    make_clip(tmp_path / "a.mp4", seconds=2)
    return Asked("a.mp4", Source.of(tmp_path / "a.mp4"), "video", None, None, 1, 1)


def process() -> psutil.Process:
    (found,) = (
        child
        for child in psutil.Process().children()
        if "mac_ray.prepare.watched" in " ".join(child.cmdline())
    )
    return found


def test_decoder_that_hangs_is_ended_in_time_and_the_next_sample_is_looked_at(
    asked: Asked, tmp_path: Path
) -> None:
    make_hanging(tmp_path / "b.mp4")
    hanging = Asked("b.mp4", Source.of(tmp_path / "b.mp4"), "video", None, None, 1, 1)
    with Watched("pyav", timeout_s=2) as watched:
        watched.start()
        first = process()
        stopped = watched.look_at(hanging)
        assert (stopped.path, stopped.key, stopped.stopped_after_s) == ("b.mp4", hanging.key("pyav"), 2)
        assert stopped.reason == "took longer than 2 s and was stopped"
        assert not first.is_running()
    with Watched("pyav", timeout_s=20) as watched:
        assert watched.look_at(asked).duration == pytest.approx(2.0, abs=1e-3)


def test_server_that_says_nothing_is_asked_again_by_the_next_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Watched("pyav", timeout_s=2) as watched:
        source = Source(f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4")
        found = watched.look_at(Asked("a.mp4", source, "video", None, None, 1, 1))
    assert (found.reason, found.stopped_after_s) == ("storage has not given it within 2 s", 0.0)


def test_process_that_dies_is_replaced_and_says_how(asked: Asked) -> None:
    with Watched("pyav", timeout_s=20) as watched:
        watched.start()
        os.kill(process().pid, signal.SIGSEGV)
        assert watched.look_at(asked).reason == "took its decoder's process down (SIGSEGV)"
        sound = watched.look_at(asked)
        assert (sound.reason, sound.num_frames, sound.width) == (None, 20, 32)
    with Watched("no such decoder", timeout_s=20) as watched:
        reason = watched.look_at(asked).reason or ""
    assert reason == "took its decoder's process down (exit code 1: KeyError: 'no such decoder')"


def test_process_ends_when_nobody_watches_it(asked: Asked) -> None:
    with Watched("pyav", timeout_s=20) as watched:
        watched.look_at(asked)
        left = process()
    assert not left.is_running()
