"""Decoding in a process of its own, which may hang or crash without taking the training with it.

Each thread that decodes keeps one such process. It opens the file and asks, over a socket, which frames are wanted;
they come back in memory that both share, which is used again for the next sample, because making pages costs more
than copying. A process that takes too long is killed, and the next sample gets a new one. A start costs about 0.2 s
of a core and 30 MB (torchcodec brings PyTorch with it: 700 MB), a clip of 320 × 240 about 1 ms.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection

import numpy as np
import psutil

from mac_ray.data.decode.backends import Decoded, Frames, decode
from mac_ray.data.decode.error import AwayError, DecodeError, DecoderDiedError
from mac_ray.data.decode.process import start_python
from mac_ray.data.decode.timeline import Select, Times
from mac_ray.data.source import Source

SERVE = "import sys; from mac_ray.data.decode.apart import serve; serve(int(sys.argv[1]))"
KEPT_BYTES = 2**26  # of shared memory between samples; what is larger becomes the array itself
ENDS_WITHIN_S = 5.0
ORPHAN_GRACE_S = 10  # how much longer a process hangs whose parent is not there any more to kill it


def decode_apart(source: Source, kind: str, select: Select, decoder: str, timeout_s: float) -> Decoded:
    """As `decode`, but in this thread's decoding process; once more in a new one where that was killed.

    Raises DecodeError, of which AwayError when more than `timeout_s` seconds went by and storage gave nothing then, and
    DecoderDiedError when it took so long by itself, or crashed.
    """
    try:
        return _decode_once(source, kind, select, decoder, timeout_s)
    except DecoderDiedError as error:
        if not error.killed:
            raise
    return _decode_once(source, kind, select, decoder, timeout_s)


def _decode_once(source: Source, kind: str, select: Select, decoder: str, timeout_s: float) -> Decoded:
    child, _threads.child = _threads.child, None
    if child is None or child.process.poll() is not None:
        child = _Child()
    try:
        decoded = child.decode(source, kind, select, decoder, timeout_s)
    except DecoderDiedError as error:
        child.end()
        if error.waited:
            raise AwayError(source, f"{error.reason}, waiting for storage") from error
        raise
    except DecodeError as error:
        _threads.child, child = child, None
        # a traceback knows the process, which would live as long as the error and not as its thread
        raise error.with_traceback(None) from None
    except BaseException:  # from the keyboard, for instance: nobody knows what it is about to say
        child.end()
        raise
    _threads.child = child
    return decoded


def seconds_apart() -> float:
    """Of a processor that this thread's decoding process has worked so far; 0.0 where there is none."""
    child = _threads.child
    if child is None or child.process.poll() is not None:
        return 0.0
    # the clock of another process, as Linux numbers them: to the nanosecond, where psutil counts in hundredths
    return time.clock_gettime((~child.process.pid << 3) | 2) if sys.platform == "linux" else _by_psutil(child)


def _by_psutil(child: _Child) -> float:
    times = psutil.Process(child.process.pid).cpu_times()
    return float(times.user + times.system)


class _Threads(threading.local):
    child: _Child | None = None


_threads = _Threads()


class _Child:
    def __init__(self) -> None:
        self.process, self.connection = start_python(["-c", SERVE])
        self.shared: mmap.mmap | None = None
        try:
            self.connection.recv()  # it has started; what it does from now on is timed
        except (EOFError, OSError) as error:
            status = self.process.wait()
            raise RuntimeError(
                f"a decoding process ended with status {status} before it began; it says why on standard error"
            ) from error

    def end(self) -> None:
        self.process.kill()
        with suppress(OSError):  # where the interpreter is at its end, others may have closed it
            self.connection.close()
        with suppress(
            subprocess.TimeoutExpired
        ):  # one that waits for a disk of another machine may not end at all
            self.process.wait(ENDS_WITHIN_S)

    def __del__(self) -> None:
        """When its thread ends."""
        if hasattr(self, "connection"):
            self.end()

    def decode(self, source: Source, kind: str, select: Select, decoder: str, timeout_s: float) -> Decoded:
        deadline = time.monotonic() + timeout_s
        was_read = False
        try:
            self.connection.send((source, kind, decoder, timeout_s))
            while True:
                if not self.connection.poll(max(0.0, deadline - time.monotonic())):
                    died = DecoderDiedError(source, f"{decoder}: not done within {timeout_s:g} s")
                    died.late = True
                    # a socket that nothing comes from looks like any other rest
                    died.waited = not was_read or waits_for_storage(self.process.pid)
                    raise died
                match self.connection.recv():
                    case "read":
                        was_read = True
                    case "which", times, duration:
                        self.connection.send(self._chosen(select, times, duration))
                    case "frames", shape, new_bytes, name, shortened:
                        return Decoded(self._received(shape, new_bytes), name, shortened)
                    case "failed", error:
                        raise error
        except (EOFError, ConnectionError) as error:
            status = self.process.wait()
            died = DecoderDiedError(source, f"{decoder}: {_how_it_ended(status)}")
            died.killed = status == -signal.SIGKILL
            raise died from error

    def _chosen(self, select: Select, times: Times, duration: float) -> Sequence[int]:
        try:
            return select(times, duration)
        except BaseException:
            self.connection.send(None)  # it need not go on
            raise

    def _received(self, shape: tuple[int, ...], new_bytes: int) -> Frames:
        if new_bytes:
            file = reduction.recv_handle(self.connection)
            self.shared = mmap.mmap(file, new_bytes)
            os.close(file)
        assert self.shared is not None
        pixels = _view(self.shared, shape)
        if pixels.nbytes > KEPT_BYTES:
            self.shared = None
            return pixels
        return pixels.copy()


def waits_for_storage(pid: int) -> bool:
    """A process that is not to be interrupted is in a read that a disk or a server has yet to answer: of NFS and the
    like, which rather hang than fail. What FUSE mounts looks as if it waited for anything, so it is not told apart.
    """
    try:
        return psutil.Process(pid).status() == psutil.STATUS_DISK_SLEEP
    except psutil.NoSuchProcess:
        return False


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    hint = ", perhaps for lack of memory" if -status == signal.SIGKILL else ""
    return f"its process died of {name}{hint}"


# ---------------------------------------------------------------- in the process


class _NotWantedError(Exception):
    """Choosing failed on the other side."""


def serve(descriptor: int) -> None:
    """Decode what is asked for until the other side is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to the parent too, whose end ends this
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    shared: mmap.mmap | None = None

    def select(times: Times, duration: float) -> Sequence[int]:
        connection.send(("which", times, duration))
        numbers: Sequence[int] | None = connection.recv()
        if numbers is None:
            raise _NotWantedError
        return numbers

    connection.send("ready")
    while True:
        try:
            source, kind, decoder, timeout_s = connection.recv()
        except (EOFError, ConnectionError):
            return
        signal.setitimer(
            signal.ITIMER_REAL, timeout_s + ORPHAN_GRACE_S
        )  # nobody handles it: it ends the process
        try:
            decoded = decode(source, kind, select, decoder, partial(connection.send, "read"))
        except _NotWantedError:
            continue
        except Exception as error:
            connection.send(("failed", error))
            continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        file, new_bytes = -1, 0
        if shared is None or len(shared) < decoded.frames.nbytes:
            new_bytes = decoded.frames.nbytes
            file = _memory(new_bytes)
            shared = mmap.mmap(file, new_bytes)
        np.copyto(_view(shared, decoded.frames.shape), decoded.frames)
        connection.send(("frames", decoded.frames.shape, new_bytes, decoded.decoder, decoded.shortened))
        if new_bytes:
            reduction.send_handle(connection, file, None)
            os.close(file)
        if decoded.frames.nbytes > KEPT_BYTES:
            shared = None


def _memory(size: int) -> int:
    """A file in memory; elsewhere than on Linux, one on disk that has no name."""
    if sys.platform == "linux":
        file = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file


def _view(shared: mmap.mmap, shape: tuple[int, ...]) -> Frames:
    return np.frombuffer(shared, np.uint8, count=math.prod(shape)).reshape(shape)
