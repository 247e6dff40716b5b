"""The sets of a config as manifests: made here (moving shapes) or opened where they lie."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mac_ray.config import DataSet, ManifestSet
from mac_ray.data import shapes
from mac_ray.data.manifest import Manifest, ManifestError
from mac_ray.data.source import local_copy
from mac_ray.errors import in_one_line

Progress = Callable[[str, int, int], None]  # what is being made, how many are done, of how many


def open_set(name: str, section: DataSet, cache: Path, progress: Progress) -> Manifest:
    """The manifest of one set, mapped from the cache.

    Raises ManifestError or ConfigError.
    """
    if isinstance(section, ManifestSet):
        try:
            path = local_copy(section.path, cache / "fetched")
        except OSError as error:
            raise ManifestError(
                f"the manifest of data.sets.{name}.path cannot be fetched ({in_one_line(error)}); mend the address, or "
                "what gives access to it"
            ) from error
        return Manifest.open(path, section.root, cache)
    path = shapes.make(section, cache, progress=lambda done, total: progress(f"making {name}", done, total))
    return Manifest.open(path, cache=cache)


def open_sets(sets: Mapping[str, DataSet], cache: Path, progress: Progress) -> dict[str, Manifest]:
    return {name: open_set(name, section, cache, progress) for name, section in sets.items()}
