"""Where the runs of a plan lie.

A run is known by the identity of what it trains, so a point finds the run of another sweep, or of a person.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mac_ray.ablation.plan import Point
from mac_ray.config import Config
from mac_ray.data.sets import Progress
from mac_ray.training.folder import KnownRuns, RunFolder
from mac_ray.training.inputs import RunData, open_data
from mac_ray.training.start import identify, with_absolute_folders


@dataclass(frozen=True)
class PlannedRun:
    point: Point
    identity: str
    folder: Path


class Locator:
    """Opens each set of samples once, however many points train on it."""

    def __init__(self, read_from: Path, write_below: Path, progress: Progress) -> None:
        self.read_from, self.write_below, self.progress = read_from, write_below, progress
        self._opened: dict[str, RunData] = {}

    def absolute(self, config: Config) -> Config:
        return with_absolute_folders(config, self.read_from, self.write_below)

    def data(self, config: Config) -> RunData:
        """Raises ConfigError or ManifestError."""
        sets = {name for stage in config.stages for name in stage.data} | {config.evaluation.data}
        key = config.data.model_dump_json() + str(sorted(sets))
        if key not in self._opened:
            self._opened[key] = open_data(self.absolute(config), self.progress)
        return self._opened[key]

    def planned(self, points: Iterable[Point]) -> list[PlannedRun]:
        """Raises ConfigError or ManifestError."""
        known: dict[Path, KnownRuns] = {}
        runs: list[PlannedRun] = []
        for point in points:
            config = self.absolute(point.config)
            _, _, identity = identify(config, self.data(point.config))
            below = Path(config.storage.runs)
            if below not in known:
                known[below] = KnownRuns.below_folder(below)
            folder = RunFolder.of(known[below], config.name, identity)
            runs.append(PlannedRun(point, identity, folder.path))
        return runs
