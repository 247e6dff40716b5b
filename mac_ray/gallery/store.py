"""Embedded windows on disk: one SQLite file per encoder, window settings and folder.

SQLite because a search is killed, the disk fills up, and two searches start at once: what was written is there
or is not, and never half. Paths are bytes, as file systems have them.

N windows in all, E embedding size.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mac_ray.data.source import State, state_of
from mac_ray.gallery.media import Media, SearchError, Unreadable
from mac_ray.gallery.windows import Window
from mac_ray.tracking.process import try_lock, wait_for_lock

FILE = "windows.sqlite"
REMEDY = "free space there or choose another --cache"
LONGEST_WRITE_S = 60.0  # of another search of the same folder
TABLES = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL, kind TEXT NOT NULL,
    size INTEGER NOT NULL, modified INTEGER NOT NULL, complete INTEGER NOT NULL, problem TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS windows (
    file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    start REAL NOT NULL, "end" REAL NOT NULL, embedding BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS windows_of_files ON windows (file);
"""
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """What the store has of a file."""

    size: int
    modified: int
    num_windows: int
    complete: bool

    def is_of(self, media: Media) -> bool:
        return (self.size, self.modified) == (media.size, media.modified)


@dataclass(frozen=True)
class Rows:
    """Windows of a file, or some of them, with their embeddings."""

    media: Media
    windows: Sequence[Window]  # W
    vectors: Vectors  # (W, E)
    complete: bool  # nothing of the file is left to embed
    problem: str  # why not all of it, or nothing, is embedded; empty where all is well


@dataclass(frozen=True)
class Gallery:
    """All that can be found, by path and time."""

    media: list[tuple[str, str]]  # N: path and kind of each window's file
    windows: list[Window]  # N
    vectors: Vectors  # (N, E)
    unreadable: list[Unreadable]

    @property
    def num_files(self) -> int:
        return len({path for path, _ in self.media})


def state(folder: Path) -> State | None:
    """Another one once anything was written to the index in a folder; None: there is none that can be read."""
    try:
        return state_of(str(folder / FILE))
    except OSError:
        return None


class Store:
    """What is added is there, whatever happens then. Made by `opened`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(TABLES)

    def known(self) -> dict[str, Known]:
        """By path."""
        rows = self._connection.execute(
            "SELECT path, size, modified, COUNT(windows.file), complete FROM files "
            "LEFT JOIN windows ON windows.file = files.number GROUP BY files.number"
        )
        return {
            os.fsdecode(path): Known(size, modified, num_windows, bool(complete))
            for path, size, modified, num_windows, complete in rows
        }

    def forget(self, paths: Iterable[str]) -> None:
        with self._connection:
            self._connection.executemany(
                "DELETE FROM files WHERE path = ?", ((os.fsencode(path),) for path in paths)
            )

    def add(self, found: Iterable[Rows]) -> None:
        """All of it at once: the next windows of each file, and whether they were its last."""
        with self._connection:
            for rows in found:
                media = rows.media
                ((number,),) = self._connection.execute(
                    "INSERT INTO files (path, kind, size, modified, complete, problem) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (path) DO UPDATE SET complete = excluded.complete, problem = excluded.problem "
                    "RETURNING number",
                    (
                        os.fsencode(media.path),
                        media.kind,
                        media.size,
                        media.modified,
                        rows.complete,
                        rows.problem,
                    ),
                ).fetchall()
                self._connection.executemany(
                    "INSERT INTO windows VALUES (?, ?, ?, ?)",
                    (
                        (number, window.start, window.end, vector.tobytes())
                        for window, vector in zip(rows.windows, rows.vectors, strict=True)
                    ),
                )

    def gallery(self) -> Gallery:
        rows = self._connection.execute(
            'SELECT path, kind, start, "end", embedding FROM windows '
            "JOIN files ON windows.file = files.number ORDER BY path, start"
        ).fetchall()
        problems = self._connection.execute(
            "SELECT path, problem FROM files WHERE problem != '' ORDER BY path"
        )
        vectors = np.frombuffer(b"".join(row[4] for row in rows), np.float32)
        return Gallery(
            media=[(os.fsdecode(path), kind) for path, kind, *_ in rows],
            windows=[Window(start, end) for _, _, start, end, _ in rows],
            vectors=vectors.reshape(len(rows), -1 if rows else 0),
            unreadable=[Unreadable(os.fsdecode(path), problem) for path, problem in problems],
        )


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """The store in a folder, which is made if need be.

    Raises SearchError when it cannot be written, then or later, or is damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SearchError(f"the index cannot be kept in {folder} ({error.strerror}); {REMEDY}") from error
    try:
        with closing(sqlite3.connect(folder / FILE, timeout=LONGEST_WRITE_S)) as connection:
            yield Store(connection)
    except sqlite3.OperationalError as error:
        raise SearchError(f"the index cannot be kept in {folder} ({error}); {REMEDY}") from error
    except sqlite3.DatabaseError as error:
        raise SearchError(f"the index in {folder} is damaged ({error}); delete that folder") from error


@contextmanager
def alone(folder: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold the index for writing; `waiting` is called when another process does, before it is waited for, which is
    what it yields.

    Raises SearchError when it cannot be written.
    """
    try:
        lock = try_lock(folder / "lock")
        has_waited = lock is None
        if lock is None:
            waiting()
            lock = wait_for_lock(folder / "lock")
    except OSError as error:
        raise SearchError(f"the index cannot be kept in {folder} ({error.strerror}); {REMEDY}") from error
    try:
        yield has_waited
    finally:
        os.close(lock)
