"""A process that looks at one sample after another, and is replaced when one ends it or takes too long.

Decoders are C code that may crash or hang on a broken file, and only the end of their process stops them.

    python -m mac_ray.prepare.watched DECODER TIMEOUT_S DESCRIPTOR
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType

from mac_ray.data.decode.apart import ENDS_WITHIN_S, waits_for_storage
from mac_ray.data.decode.process import start_python
from mac_ray.data.source import SLOWEST_READ
from mac_ray.errors import RunError
from mac_ray.prepare.finding import Asked, Finding, look_at

START_TIMEOUT_S = 300.0  # to import the decoders, on a busy machine
GRACE_S = 5.0  # by which a process that nobody waits for any more outlives its time-out


class Watched:
    """Started for the first sample at the latest; `close` it, or use it as a context."""

    def __init__(self, decoder: str, timeout_s: float) -> None:
        self._decoder = decoder
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  what the process says before it ends

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            # one that waits for a disk of another machine may not end
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDS_WITHIN_S)
            self._process = None

    def look_at(self, asked: Asked) -> Finding:
        self.start()
        self._said.seek(0)
        self._said.truncate()
        patience = _patience(asked, self._timeout_s)
        deadline, was_read = time.monotonic() + patience, False
        try:
            self._connection.send(asked)
            while self._connection.poll(max(0.0, deadline - time.monotonic())):
                found: Finding | None = self._connection.recv()
                if found is not None:
                    return found
                was_read = True
        except (EOFError, ConnectionError):
            return self._without(asked, self._end_of_process(), 0.0)
        assert self._process is not None
        is_away = not was_read or waits_for_storage(self._process.pid)
        self.close()
        if is_away:  # to be tried again
            return self._without(asked, f"storage has not given it within {round(patience, 1):g} s", 0.0)
        return self._without(
            asked, f"took longer than {round(patience, 1):g} s and was stopped", self._timeout_s
        )

    def _without(self, asked: Asked, reason: str, stopped_after_s: float) -> Finding:
        return Finding(asked.key(self._decoder), asked.path, reason, stopped_after_s)

    def start(self) -> None:
        """Unless it is running. What samples take does not include it."""
        if self._process is not None:
            return
        arguments = ["-m", __name__, self._decoder, str(self._timeout_s)]
        self._process, self._connection = start_python(arguments, self._said)
        try:
            ready = self._connection.poll(START_TIMEOUT_S) and self._connection.recv()
        except (EOFError, ConnectionError):
            ready = False
        if not ready:
            self._process.kill()  # one that hangs as it starts
            raise RunError(f"a process that decodes did not start: {self._end_of_process()}")

    def _end_of_process(self) -> str:
        assert self._process is not None
        process = self._process
        self._connection.close()
        status = process.wait()
        self._process = None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        return f"took its decoder's process down ({how}{f': {lines[-1]}' if lines else ''})"


def _patience(asked: Asked, timeout_s: float) -> float:
    """Seconds for a sample: its file is read twice beside, for its hash and for its packets."""
    return timeout_s + 2 * (asked.source.length or asked.num_bytes) / SLOWEST_READ


def _serve(connection: Connection, decoder: str, timeout_s: float) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # from the keyboard it goes to the parent too, which ends this
    connection.send(True)
    while True:
        try:
            asked: Asked = connection.recv()
        except EOFError:
            return
        # the system ends this process should it hang after the one that watches it was killed
        signal.setitimer(signal.ITIMER_REAL, _patience(asked, timeout_s) + GRACE_S)
        found = look_at(asked, decoder, partial(connection.send, None))
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(found)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[3])), sys.argv[1], float(sys.argv[2]))
