"""A real PostgreSQL of one's own, where one is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.jobs import free_port, wait_for

PASSWORD = "se cret/&"
DEBIAN = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
USER = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root


def program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([*DEBIAN, os.environ.get("PATH", "")]))


def what_is_missing() -> str:
    """To start a PostgreSQL here; empty when nothing is."""
    if not (program("initdb") and program("postgres") and program("pg_isready")):
        return "needs PostgreSQL: apt-get install postgresql"
    if importlib.util.find_spec("psycopg") is None:
        return "needs the driver: pip install mac-ray[postgres]"
    if USER and USER not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"needs the user {USER}: PostgreSQL does not run as root"
    return ""


@contextmanager
def running_postgresql() -> Iterator[str]:
    """The URI of an empty database, with a password in which characters are escaped."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql_"))  # the folders of pytest are closed to other users
    port = free_port()
    run = {"cwd": folder, "user": USER, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        password, data = folder / "password", folder / "data"
        password.write_text(PASSWORD)
        for path in (folder, password):
            shutil.chown(path, USER or os.geteuid())
        access = ("--username=mac", f"--pwfile={password}", "--auth=scram-sha-256")
        subprocess.run([program("initdb"), "-D", data, "--no-sync", *access], check=True, **run)
        place = ("-D", data, "-k", folder, "-p", str(port), "-c", "listen_addresses=127.0.0.1")
        server = subprocess.Popen([program("postgres"), "-F", *place], **run)
        try:
            address = ("-h", "127.0.0.1", "-p", str(port))
            answers = [program("pg_isready"), *address]
            wait_for(lambda: subprocess.run(answers, **run).returncode == 0, within_s=60)
            yield f"postgresql://mac:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # ends its connections; SIGTERM waits for them
            server.wait()
    finally:
        shutil.rmtree(folder)
