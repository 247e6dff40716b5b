"""Where the files of a run lie, and those of an exported model.

One folder per run, on storage that all its nodes share; an exported folder can be taken anywhere.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mac_ray.config import ConfigError
from mac_ray.tracking.journal import FILE_NAME, status_of
from mac_ray.tracking.process import try_lock, wait_for_lock
from mac_ray.training import checkpoint

IN_NAME = 10  # letters of the identity that a run's folder is named by
LOCK_NAME = ".claims.lock"  # beside the folders of runs


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @classmethod
    def of(cls, known: "KnownRuns", name: str, identity: str) -> "RunFolder":
        """The folder of the run of this identity: under another name where it was made under one, else named so."""
        short = identity[:IN_NAME]
        return cls(known.folders.get(short, known.below / f"{name}-{short}"))

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def words(self) -> Path:
        """How often each word stands in the training captions; there if a stage masks by it."""
        return self.path / "words.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def initial(self) -> Path:
        """Weights that the run starts from, where they come from other files; every node finds them here."""
        return self.path / "initial.safetensors"

    @property
    def scores(self) -> Path:
        """Metrics, intervals and chance level of the test split; there once the run is finished."""
        return self.path / "scores.json"

    @property
    def ranks(self) -> Path:
        return self.path / "ranks.parquet"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    @property
    def stop_request(self) -> Path:
        """While this file exists, the run saves and stops at the next step, on whatever node it is."""
        return self.path / "stop"

    @property
    def verdict(self) -> Path:
        """Why no group of workers is to try again, where one of several found that out."""
        return self.path / "verdict.json"

    @property
    def driver_lock(self) -> Path:
        """Held by the process that drives the run, from its preparation to its last status."""
        return self.path / "driver.lock"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine"

    def failures(self, rank: int) -> Path:
        return self.path / f"undecodable_rank{rank}.txt"

    def shortened(self, rank: int) -> Path:
        return self.path / f"shortened_rank{rank}.txt"

    def is_driven(self) -> bool:
        """Some other process trains the run, or waits for the workers that shall."""
        try:
            lock = try_lock(self.driver_lock)
        except FileNotFoundError:  # its folder is gone
            return False
        if lock is not None:
            os.close(lock)
        return lock is None

    def note_failures(self, rank: int, sentences: Iterable[str]) -> None:
        """Name what a rank could not decode; each rank has a file of its own."""
        _append(self.failures(rank), sentences)

    def note_shortened(self, rank: int, sentences: Iterable[str]) -> None:
        """Name what a rank could decode only up to some frame."""
        _append(self.shortened(rank), sentences)


@dataclass(frozen=True)
class KnownRuns:
    """The runs that were begun below a folder, seen once: for one run or for a thousand."""

    below: Path
    folders: Mapping[str, Path]  # by the letters of their identity that are in their names

    @classmethod
    def below_folder(cls, below: Path) -> "KnownRuns":
        folders: dict[str, Path] = {}
        for folder in sorted(path.parent for path in below.glob(f"*-*/{FILE_NAME}")):
            known = folders.setdefault(folder.name.rpartition("-")[2], folder)
            # a copy, or of two machines whose folders were put together: what has finished need not be trained
            if known != folder and status_of(known) != "FINISHED" and status_of(folder) == "FINISHED":
                folders[folder.name.rpartition("-")[2]] = folder
        return cls(below, folders)


def claimed(below: Path, names: Mapping[str, str]) -> dict[str, RunFolder]:
    """The folders of runs, by identity; `names` are of those that nobody has begun yet.

    They are made, with an empty journal: whoever comes for the same run from now on, under whatever name, is led
    there, so that two who start at one time do not both train it.
    """
    below.mkdir(parents=True, exist_ok=True)
    lock = wait_for_lock(below / LOCK_NAME)
    try:
        known = KnownRuns.below_folder(below)
        folders = {identity: RunFolder.of(known, name, identity) for identity, name in names.items()}
        for folder in folders.values():
            folder.path.mkdir(exist_ok=True)
            journal = folder.path / FILE_NAME
            if not journal.exists():  # of somebody else's, the time is not ours to set
                journal.touch()
    finally:
        os.close(lock)
    return folders


@dataclass(frozen=True)
class ExportFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def note(self) -> Path:
        """Where it comes from, for people."""
        return self.path / "README.md"


@dataclass(frozen=True)
class EncoderFiles:
    """What an encoder is made of, wherever it lies."""

    config: Path
    tokenizer: Path
    weights: Path

    @property
    def otherwise(self) -> str:
        """What to do where the weights are damaged."""
        if self.weights.parent == self.config.parent:
            return "export the run again"
        return f"give another checkpoint of the run, of those in {self.weights.parent.parent}"


def find_encoder(source: str | Path) -> EncoderFiles:
    """The files of a run folder (its newest checkpoint), of one checkpoint in it, or of an exported folder.

    Raises ConfigError for anything else.
    """
    folder = Path(source).expanduser().absolute()
    export, run = ExportFolder(folder), RunFolder(folder)
    if export.weights.is_file() and export.config.is_file():
        files = EncoderFiles(export.config, export.tokenizer, export.weights)
    elif newest := checkpoint.latest(run.checkpoints):
        files = EncoderFiles(run.config, run.tokenizer, checkpoint.weights_of(newest))
    elif checkpoint.weights_of(folder).is_file():
        run = RunFolder(folder.parent.parent)
        files = EncoderFiles(run.config, run.tokenizer, checkpoint.weights_of(folder))
    else:
        raise ConfigError(
            f"{source} is no encoder: it is neither the folder of a run that has saved a checkpoint, nor such a "
            "checkpoint (RUN/checkpoints/step_…), nor a folder made by `python -m mac_ray.export`; give one of these"
        )
    for file in (files.config, files.tokenizer):
        if not file.is_file():
            raise ConfigError(
                f"{source} has weights, but {file} is missing; a checkpoint can be read where its run left it, "
                "anywhere else give what `python -m mac_ray.export` makes of it"
            )
    return files


def _append(path: Path, sentences: Iterable[str]) -> None:
    lines = [f"{sentence}\n" for sentence in sentences]
    if lines:  # the file says by being there that there is something to tell
        with path.open("a") as file:
            file.writelines(lines)
