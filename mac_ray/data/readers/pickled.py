"""Annotations in a pickle, read without running it: a pickle may call any function of any module when it is loaded.

Containers and text are written by opcodes of their own; whatever else there is begins with a name to look up, and no
name is.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers.recognise import resemblance


class _Plain(pickle.Unpickler):
    """Knows dict, list, tuple, set, str, bytes, numbers, booleans and None."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it wants to call {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to an object outside of it, {pid!r}")


def unpickled(path: Path, expected: str) -> Any:
    """The content of a pickle of plain containers and text. Raises ManifestError for any other."""
    if not path.is_file():
        raise ManifestError(f"there is no file {path}; it should hold {expected}{resemblance(path.parent)}")
    try:
        with path.open("rb") as file:
            # text in pickles of Python 2 is bytes
            return _Plain(file, encoding="utf-8").load()
    # what the format's own errors are when the bytes are no pickle, or part of one
    except (
        *(pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError),
        *(OverflowError, MemoryError),
    ) as error:
        raise ManifestError(
            f"{path} is no pickle of plain containers and text ({error}), and no other is loaded, because loading it "
            f"could run any program; it should hold {expected}{resemblance(path)}"
        ) from error
