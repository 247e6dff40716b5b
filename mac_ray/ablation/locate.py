"""Where the runs of a plan lie.

A run is known by the identity of what it trains, so a point finds the run of another sweep, or of a person.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from mac_ray.ablation.outcome import TableError, unreadable
from mac_ray.ablation.plan import Point
from mac_ray.config import Config, ConfigError
from mac_ray.data.sets import Progress
from mac_ray.tracking.journal import FILE_NAME, read, status_of
from mac_ray.training.folder import KnownRuns, RunFolder, claimed
from mac_ray.training.inputs import RunData, open_data, require_media
from mac_ray.training.plan import legs
from mac_ray.training.start import identify, require_sound, require_storage, with_absolute_folders


class Located(Protocol):
    """A run of a study, and its folder."""

    @property
    def identity(self) -> str: ...

    @property
    def folder(self) -> Path: ...


LocatedT = TypeVar("LocatedT", bound=Located)


@dataclass(frozen=True)
class PlannedRun:
    point: Point
    identity: str
    folder: Path


# Fingerprints of the weights and tokeniser that models start from, by what the config says of the model. Kept no longer
# than a look at some points takes: files may go away between two.
Sources = dict[str, dict[str, str]]


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
            absolute = self.absolute(config)
            require_storage(absolute)
            self._opened[key] = open_data(absolute, self.progress)
        return self._opened[key]

    def require_trainable(self, points: Iterable[Point]) -> None:
        """On their data, of which `expand` knows nothing. Raises ConfigError with a sentence per row that is not."""
        problems: dict[str, str] = {}
        sources: Sources = {}
        for point in points:
            if point.row.label not in problems:
                problems[point.row.label] = self._problem(point.config, sources)  # another seed has the same
        said = {label: problem for label, problem in problems.items() if problem}
        if said and len(set(problems.values())) == 1:  # not of what rows differ in
            raise ConfigError(next(iter(said.values())))
        if said:
            raise ConfigError("\n".join(f"row {label!r}: {problem}" for label, problem in said.items()))

    def _problem(self, config: Config, sources: Sources) -> str:
        """Raises ManifestError, of files that rows share more often than not."""
        try:
            data = self.data(config)
            _identity(self.absolute(config), data, sources)
            require_sound(config, data)
            legs(config, data.train_sizes)
        except ConfigError as error:
            return str(error)
        return ""

    def planned(self, points: Iterable[Point]) -> list[PlannedRun]:
        """Points of one identity are one run. Raises ConfigError or ManifestError for what cannot be trained."""
        known: dict[Path, KnownRuns] = {}
        sources: Sources = {}
        folders: dict[str, Path] = {}
        runs: list[PlannedRun] = []
        for point in points:
            config, data = self.absolute(point.config), self.data(point.config)
            identity = _identity(config, data, sources)
            if identity not in folders:
                require_sound(config, data)
                below = Path(config.storage.runs)
                if below not in known:
                    known[below] = KnownRuns.below_folder(below)
                folders[identity] = RunFolder.of(known[below], config.name, identity).path
            runs.append(PlannedRun(point, identity, folders[identity]))
        return runs

    def require_media(self, runs: Iterable[PlannedRun]) -> None:
        """What they read can be decoded, as seen from here. Raises ConfigError."""
        tried: set[int] = set()
        for run in runs:
            data = self.data(run.point.config)
            if id(data) not in tried:
                tried.add(id(data))
                require_media(self.absolute(run.point.config), data)

    def claimed(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The same, about to be trained: each in the folder where everybody else will look for it from now on."""
        names: dict[Path, dict[str, str]] = {}
        for run in runs:
            names.setdefault(run.folder.parent, {}).setdefault(run.identity, run.point.config.name)
        folders = {below: claimed(below, own) for below, own in names.items()}
        return [replace(run, folder=folders[run.folder.parent][run.identity].path) for run in runs]


def _identity(config: Config, data: RunData, sources: Sources) -> str:
    """Of the run; folders are absolute. Raises ConfigError."""
    key = config.model.model_dump_json()
    _, sources[key], identity = identify(config, data, sources.get(key))
    return identity


def each_once(runs: Iterable[LocatedT]) -> list[LocatedT]:
    """Without those that train what another does, of rows that differ in nothing."""
    return list({run.identity: run for run in runs}.values())


def require_readable(runs: Sequence[Located]) -> None:
    """Every journal to its end, or what is made of it would stumble over one after hours. Raises JournalError."""
    for run in each_once(runs):
        if (run.folder / FILE_NAME).exists():
            for _ in read(run.folder / FILE_NAME):
                pass


def require_results(runs: Sequence[Located]) -> None:
    """What finished runs have scored, which a table is made of. Raises TableError."""
    for run in each_once(runs):
        if status_of(run.folder) == "FINISHED" and (problem := unreadable(run.folder)):
            raise TableError(
                f"the run in {run.folder} has finished, but {problem}; restore its folder from a copy, or delete it, "
                "and the run is fetched from MLflow or trained again"
            )
