from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from mac_ray.tracking.process import Process, try_lock, wait_for_lock


def test_writer_that_lives_is_not_gone() -> None:
    assert not Process.current().is_gone()


def test_writer_whose_pid_now_belongs_to_another_process_is_gone() -> None:
    assert replace(Process.current(), started=Process.current().started - 3600).is_gone()


def test_writer_on_another_host_is_never_judged() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = replace(Process.current(), pid=ended.pid)
    assert here.is_gone()
    assert not replace(here, host="elsewhere").is_gone()


def test_lock_of_a_shared_folder_may_be_taken_by_whoever_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o002)  # of people who share a group
    try:
        for lock, path in ((try_lock, tmp_path / "one"), (wait_for_lock, tmp_path / "other")):
            descriptor = lock(path)
            assert descriptor is not None
            os.close(descriptor)
            assert path.stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)


def test_lock_is_released_by_a_kill_of_its_holder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mac_ray.tracking.process import try_lock\n"
        "print(try_lock(Path(sys.argv[1])) is not None, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"True\n"
    assert try_lock(tmp_path / "lock") is None
    holder.kill()
    holder.communicate()
    assert try_lock(tmp_path / "lock") is not None
