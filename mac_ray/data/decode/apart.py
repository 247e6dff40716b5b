"""Decoding in a process of its own, which may hang or crash without taking the training with it.

Each thread that decodes keeps one such process. It opens the file and asks, over a socket, which frames are wanted;
they come back in a file in memory, which becomes the array without a copy. A process that takes too long is
killed, and the next sample gets a new one: its start costs about 0.2 s of a core, a sample about 0.2 ms.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import mac_ray
from mac_ray.data.decode.backends import Decoded, Frames, decode
from mac_ray.data.decode.error import DecodeError, DecoderDiedError
from mac_ray.data.decode.timeline import Select, Times
from mac_ray.data.source import Source

SERVE = "import sys; from mac_ray.data.decode.apart import serve; serve(int(sys.argv[1]))"
ORPHAN_GRACE_S = 10  # how much longer a process hangs whose parent is not there any more to kill it


def decode_apart(source: Source, kind: str, select: Select, decoder: str, timeout_s: float) -> Decoded:
    """As `decode`, but in this thread's decoding process.

    Raises DecodeError, of which DecoderDiedError when it took more than `timeout_s` seconds, or crashed.
    """
    child: _Child | None = getattr(_threads, "child", None)
    _threads.child = None  # it is given back when it is known to be sound
    if child is None or child.process.poll() is not None:
        child = _Child()
    try:
        decoded = child.decode(source, kind, select, decoder, timeout_s)
    except DecoderDiedError:
        raise
    except DecodeError:
        _threads.child = child
        raise
    _threads.child = child
    return decoded


_threads = threading.local()


class _Child:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # the package may be on sys.path without being installed
        search = [str(Path(mac_ray.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search))},
            )
        self.connection = Connection(ours.detach())
        try:
            self.connection.recv()  # it has started; what it does from now on is timed
        except (EOFError, OSError) as error:
            status = self.process.wait()
            raise RuntimeError(
                f"a decoding process ended with status {status} before it began; it says why on standard error"
            ) from error

    def __del__(self) -> None:
        """When its thread ends, or it is not to be used again."""
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()

    def decode(self, source: Source, kind: str, select: Select, decoder: str, timeout_s: float) -> Decoded:
        deadline = time.monotonic() + timeout_s
        try:
            self.connection.send((source, kind, decoder, timeout_s))
            while True:
                if not self.connection.poll(max(0.0, deadline - time.monotonic())):
                    raise DecoderDiedError(
                        source, f"{decoder}: not done within {timeout_s:g} s (cluster.decode_timeout_s)"
                    )
                match self.connection.recv():
                    case "which", times, duration:
                        self.connection.send(self._chosen(select, times, duration))
                    case "frames", shape, name, shortened:
                        descriptor = reduction.recv_handle(self.connection)
                        return Decoded(_mapped(descriptor, shape), name, shortened)
                    case "failed", error:
                        raise error
        except (EOFError, ConnectionError) as error:
            raise DecoderDiedError(source, f"{decoder}: {_how_it_ended(self.process.wait())}") from error

    def _chosen(self, select: Select, times: Times, duration: float) -> Sequence[int]:
        try:
            return select(times, duration)
        except BaseException:
            self.connection.send(None)  # it need not go on
            raise


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
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # from the keyboard it goes to the parent too, whose end ends this
    connection = Connection(descriptor)

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
            decoded = decode(source, kind, select, decoder)
        except _NotWantedError:
            continue
        except Exception as error:
            connection.send(("failed", error))
            continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(("frames", decoded.frames.shape, decoded.decoder, decoded.shortened))
        file = _memory(decoded.frames)
        reduction.send_handle(connection, file, None)
        os.close(file)


def _memory(frames: Frames) -> int:
    """A file in memory that holds the pixels."""
    if sys.platform == "linux":
        file = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, frames.nbytes)
    with mmap.mmap(file, frames.nbytes) as mapped:
        view = np.frombuffer(mapped, np.uint8).reshape(frames.shape)
        np.copyto(view, frames)
        del view  # or the map could not be closed
    return file


def _mapped(descriptor: int, shape: Any) -> Frames:
    mapped = mmap.mmap(descriptor, int(np.prod(shape)))
    os.close(descriptor)
    return np.frombuffer(mapped, np.uint8).reshape(shape)
