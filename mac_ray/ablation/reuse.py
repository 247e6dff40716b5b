"""Runs that MLflow has finished and whose folders are not here: brought back, so that all else reads folders."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mac_ray.ablation.locate import Located
from mac_ray.ablation.outcome import unreadable
from mac_ray.config import ConfigError
from mac_ray.terminal import say
from mac_ray.tracking.address import public, sqlite_file
from mac_ray.tracking.environment import tame_mlflow
from mac_ray.tracking.journal import status_of
from mac_ray.training.folder import RunFolder

if TYPE_CHECKING:
    from mac_ray.tracking.fetch import FinishedRun  # brings mlflow, which is slow to import


PAUSES_S = (1, 4, 10)  # between tries to ask for runs, or to fetch one


class NotGivenError(ConfigError):
    """A run that MLflow has finished, and does not give now."""


class Archive:
    """The finished runs of an MLflow experiment, looked up once.

    Where MLflow does not answer at first, that is said, and only folders count. A run that was begun in a folder here
    goes on in it, whatever MLflow has of others of its identity: that there are some is said too.
    """

    def __init__(self, uri: str | None, experiment: str, console: Console) -> None:
        """`uri` is of resolve_uri, or None without MLflow."""
        self._uri, self._experiment, self._console = uri, experiment, console
        self._runs: Mapping[str, list[FinishedRun]] | None = None  # by identity; None: not looked up yet
        self._told: set[Path] = set()  # folders of runs that were begun here

    def bring_back(self, runs: Iterable[Located]) -> None:
        """The folders of those that are finished in MLflow and were not begun here.

        Raises ConfigError for an MLflow that a person has to mend first, and NotGivenError.
        """
        known = self.look_up()
        there: dict[str, Path] = {}
        begun: list[Path] = []
        for identity, folder in {run.identity: run.folder for run in runs if run.identity in known}.items():
            match status_of(folder):
                case None:
                    there[identity] = folder
                case "FINISHED":
                    pass
                case _ if folder not in self._told and not RunFolder(folder).is_driven():
                    self._told.add(folder)
                    begun.append(folder)
        if there:
            self._ask(lambda uri: self._fetch(uri, there))
        if begun:
            which = f"{begun[0]} and {len(begun) - 1} more" if len(begun) > 1 else str(begun[0])
            said = (
                f"begun here, but MLflow has them finished: {which}; delete what shall be fetched, not go on"
            )
            say(self._console, said, "yellow")

    def has(self, run: Located) -> bool:
        """Whether `bring_back` would bring it."""
        return run.identity in self.look_up() and status_of(run.folder) is None

    def do_without(self, problem: NotGivenError) -> None:
        """Only folders count from now on, as where runs are under way already that must not be stopped."""
        self._runs = {}
        say(self._console, f"{problem}; until then, it and others are trained here", "yellow")

    def look_up(self) -> Mapping[str, list["FinishedRun"]]:
        """Ask MLflow, if that has not been done. Raises ConfigError as above."""
        if self._runs is None:
            self._runs = {}
            file = sqlite_file(self._uri) if self._uri else None
            if file is None or file.is_file():  # asked, MLflow would make one
                self._ask(self._find)
        return self._runs

    def _ask(self, work: Callable[[str], None]) -> None:
        if self._uri is None:
            return
        tame_mlflow()
        from mac_ray.tracking.mlflow import RefusedError, UnavailableError

        try:
            work(self._uri)
        except UnavailableError as error:
            self._runs = {}  # or each trial of a search would wait for it again
            say(
                self._console,
                f"MLflow cannot be asked which runs are finished there ({error}); only folders count",
                "yellow",
            )
        except RefusedError as error:
            raise ConfigError(
                f"{error}; mend that, name another MLflow as tracking.uri, or set tracking.enabled=false"
            ) from error

    def _find(self, uri: str) -> None:
        from mac_ray.tracking.fetch import finished_runs
        from mac_ray.tracking.mlflow import UnavailableError

        for pause in (*PAUSES_S, None):
            try:
                self._runs = finished_runs(uri, self._experiment)
                return
            except UnavailableError:
                if pause is None:
                    raise
                time.sleep(pause)

    def _fetch(self, uri: str, folders: Mapping[str, Path]) -> None:
        """Raises NotGivenError where MLflow stays away or has come to refuse: to train anew what it has would cost more
        than to wait."""
        from mac_ray.tracking.mlflow import RefusedError, UnavailableError

        fetched = 0
        for identity, folder in folders.items():
            for tried, pause in enumerate((*PAUSES_S, None)):
                try:
                    fetched += self._fetch_one(uri, identity, folder)
                    break
                except (UnavailableError, RefusedError) as error:
                    if pause is None:
                        raise NotGivenError(
                            f"{folder.name} is finished in MLflow, which does not give it now ({error}); start the "
                            "same command once it does, or set tracking.enabled=false to train here what is not here"
                        ) from error
                    if not tried:
                        said = f"MLflow does not give {folder.name}, which it has finished ({error}); trying again"
                        say(self._console, said, "yellow")
                    time.sleep(pause)
        if fetched:
            say(self._console, f"finished in MLflow at {public(uri)} and fetched from there: {fetched} runs")

    def _fetch_one(self, uri: str, identity: str, folder: Path) -> bool:
        """Of several runs of this identity, the newest that is whole."""
        from mac_ray.tracking.fetch import LackingError, fetch
        from mac_ray.tracking.mlflow import RunLostError

        names = RunFolder(Path())
        needed, welcome = [names.scores, names.ranks], [names.config, names.pictures]
        problem: LackingError | RunLostError | None = None
        for run in (self._runs or {})[identity]:
            try:
                return fetch(uri, run, folder, needed, welcome, unreadable)
            except (LackingError, RunLostError) as error:  # or it was deleted since it was looked up
                problem = error
        said = f"{folder.name} is finished in MLflow, but lacks its results there ({problem}); it is trained again"
        say(self._console, said, "yellow")
        return False
