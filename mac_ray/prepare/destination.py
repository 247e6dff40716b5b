"""Where shards are written: a folder on disk or a prefix of an object store, behind the same few calls.

A file is there whole or not at all: on disk it is written under another name, which begins with a dot, and renamed; an
object appears when its upload ends. Credentials come from the environment, never from the URL, which is stored.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pyarrow import fs

from mac_ray.data.manifest import ManifestError
from mac_ray.data.source import Source, absolute_place, base_of, file_system, is_url, joined

CREDENTIAL = re.compile(r"[?&][^=]*(pass|secret|token|key)[^=]*=", re.IGNORECASE)  # an option of fsspec
TEMPORARY = ".part"  # what names of unfinished files end in
ABANDONED_AFTER_S = 3600  # without a byte: a shard is written in minutes


@dataclass(frozen=True)
class Destination:
    """A folder; `root` is an absolute path or a URL."""

    root: str

    @classmethod
    def of(cls, place: str) -> Destination:
        """Raises ManifestError for a URL with a password in it."""
        if is_url(place) and ("@" in base_of(place).split("/")[2] or CREDENTIAL.search(place)):
            raise ManifestError(
                "the URL of --out has credentials in it, and would be stored in the manifest; give them in the "
                "environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return cls(absolute_place(place))

    def place(self, name: str) -> str:
        return joined(self.root, name)

    def sizes(self) -> dict[str, int]:
        """Bytes of every finished file in the folder itself; none if there is no folder yet. Raises OSError."""
        system, path = _system(self.root)
        listed = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {
            info.base_name: int(info.size)
            for info in listed
            if info.type == fs.FileType.File and not info.base_name.endswith(TEMPORARY)
        }

    def read(self, name: str) -> bytes:
        return Source(self.place(name)).read()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path on disk whose file becomes that of `name` if the block ends well, and is removed if not.

        Raises OSError.
        """
        if is_url(self.root):
            with tempfile.TemporaryDirectory(prefix="mac_ray_") as folder:
                path = Path(folder) / name
                yield path
                system, there = file_system(self.place(name))
                try:
                    with path.open("rb") as file, system.open_output_stream(there) as remote:
                        shutil.copyfileobj(file, remote, 8 << 20)
                except BaseException:  # closed, an upload that was cut short passes for a whole one
                    with suppress(OSError):
                        system.delete_file(there)
                    raise
            return
        folder_here = Path(self.root)
        folder_here.mkdir(parents=True, exist_ok=True)
        path = folder_here / f".{name}.{_host()}.{os.getpid()}{TEMPORARY}"
        try:
            yield path
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(folder_here / name)
        finally:
            path.unlink(missing_ok=True)

    def write(self, name: str, content: bytes) -> None:
        """Raises OSError."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def remove(self, name: str) -> None:
        """If it is there. Raises OSError."""
        if not is_url(self.root):
            Path(self.place(name)).unlink(missing_ok=True)
        elif name in self.sizes():
            system, there = file_system(self.place(name))
            system.delete_file(there)

    def remove_unfinished(self) -> None:
        """What writers that were killed left behind, and not what another conversion is about to finish."""
        if not is_url(self.root):
            for path in Path(self.root).glob(f".*{TEMPORARY}"):
                with suppress(FileNotFoundError):
                    if _is_abandoned(path):
                        path.unlink()


def _host() -> str:
    """Of this machine, without the dots that part the name of an unfinished file."""
    return os.uname().nodename.replace(".", "_")


def _is_abandoned(path: Path) -> bool:
    """By whether its writer lives, which another host can only guess from when it last wrote."""
    *_, host, process = path.name.removesuffix(TEMPORARY).rsplit(".", 2)
    if host == _host():
        return not psutil.pid_exists(int(process))
    return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S


def _system(root: str) -> tuple[fs.FileSystem, str]:
    return file_system(root) if is_url(root) else (fs.LocalFileSystem(), root)
