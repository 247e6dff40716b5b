"""Samples that made the decoder hang or crash in a run: they are not tried again in it.

One small file per sample in a folder of the run, so that all its loader processes and ranks know of it, and it still
does when it is resumed: what took the place of a sample before takes it again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mac_ray import files
from mac_ray.data.manifest import Sample


class Quarantine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reason(self, sample: Sample) -> str | None:
        """Why a sample is in it; None: it is not."""
        try:
            return self._file(sample).read_text().partition("\n")[2]
        except FileNotFoundError:
            return None

    def add(self, sample: Sample, reason: str) -> None:
        """Raises OSError when the folder cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self._file(sample), f"{sample.source}\n{reason}")

    def _file(self, sample: Sample) -> Path:
        place = str(sample.source)
        if (sample.start, sample.end) != (None, None):  # another part of a long film may be sound
            place += f" {sample.start} {sample.end}"
        return self.folder / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.txt"
