"""Where the files of a run lie, and those of an exported model.

One folder per run, on storage that all its nodes share; an exported folder can be taken anywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    path: Path

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

    def failures(self, rank: int) -> Path:
        return self.path / f"undecodable_rank{rank}.txt"

    def note_failures(self, rank: int, sentences: Iterable[str]) -> None:
        """Name what a rank could not decode; each rank has a file of its own."""
        with self.failures(rank).open("a") as file:
            file.writelines(f"{sentence}\n" for sentence in sentences)


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
