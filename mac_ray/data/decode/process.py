"""Python processes that are asked for things over a connection.

Of subprocess, not of multiprocessing, whose children would import the main module of Ray's workers again.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import mac_ray


def start_python(
    arguments: Sequence[str], said: IO[bytes] | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """`python ARGUMENTS… DESCRIPTOR`, and the other end of the connection of that number.

    `said`: what takes its output, instead of where this process's goes.
    """
    ours, theirs = socket.socketpair()
    # the package may be on sys.path without being installed
    search = [str(Path(mac_ray.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *arguments, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search))},
        )
    return process, Connection(ours.detach())
