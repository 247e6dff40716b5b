"""Samples that made the decoder hang or crash in a run: they are not tried again in it.

One small file per sample in a folder of the run, so that all its loader processes and ranks know of it, and it still
does when it is resumed: what took the place of a sample before takes it again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mac_ray.data.source import Source


class Quarantine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reason(self, source: Source) -> str | None:
        """Why a sample is in it; None: it is not."""
        try:
            return self._file(source).read_text().partition("\n")[2]
        except FileNotFoundError:
            return None

    def add(self, source: Source, reason: str) -> None:
        """Raises OSError when the folder cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(source)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(f"{source}\n{reason}")
        temporary.replace(file)  # nobody reads half of it

    def _file(self, source: Source) -> Path:
        return self.folder / f"{hashlib.sha256(str(source).encode()).hexdigest()[:32]}.txt"
