"""Which process writes or sends a run, whether it still lives, and locks that end with their holder.

A pid says nothing once its process has ended, because the system gives it to another. A process is
therefore a host, a pid and a start time, and is only ever judged on its own host.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

# The kernel derives start times from the wall clock, so a clock that is set moves them a little.
START_TOLERANCE_S = 10.0
LOCK_MODE = 0o666  # less the umask: who shares a folder of runs locks the files of others


@dataclass(frozen=True)
class Process:
    """A process: the name of its host, its pid, and its start in seconds since 1970."""

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> Process:
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def of(cls, pid: int) -> Process:
        """On this host; one that has ended already is gone."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            started = 0.0
        return cls(socket.gethostname(), pid, started)

    def kill(self) -> None:
        """If it is of this host, and there."""
        if self.is_of_this_host() and not self.is_gone():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def is_of_this_host(self) -> bool:
        return self.host == socket.gethostname()

    def is_gone(self) -> bool:
        """Whether it has surely ended. One on another host is never judged gone."""
        if not self.is_of_this_host():
            return False
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE  # killed, and its parent has not asked yet
            reused = abs(process.create_time() - self.started) > START_TOLERANCE_S
        except psutil.NoSuchProcess:
            return True
        return ended or reused


def try_lock(path: Path) -> int | None:
    """Lock a file for this process. None when another one holds it.

    Returns a descriptor: closing it releases the lock, and so does the end of the process, however it
    ends. The lock belongs to the process, so children that were forked from it do not keep it, and a second try in the
    same process succeeds: closing either descriptor releases the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, LOCK_MODE)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX leaves to the system which of the two it is
        os.close(descriptor)
        return None
    return descriptor


def wait_for_lock(path: Path) -> int:
    """Like `try_lock`, but waits until the holder has released the file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, LOCK_MODE)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    return descriptor
