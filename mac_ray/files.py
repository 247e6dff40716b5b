"""Files that are there whole or not at all: nobody reads half of one, and a full disk spares what was there before."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path, on_disk: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place if the block ends well, and is removed if not.

    `on_disk`: with its content, as what follows vouches for it. Several may write one at once, from any node.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{threading.get_native_id()}")
    try:
        yield temporary
        if on_disk:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if on_disk:
            sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Whole or not at all; text in UTF-8."""
    with replaced(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sync_directory(directory: Path) -> None:
    """The names in it onto the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
