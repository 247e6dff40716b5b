"""The moving-shapes set on disk: made once into a cache folder, checked every time, mended where damaged.

The folder holds the clips, their manifest, and SHA256SUMS, which `sha256sum --check` understands too. A file
is good if its bytes hash to what that list says, and the set is complete if all of its files are good. The
list grows with every clip made, so the same rule serves a finished set, a damaged one, and one whose making
was interrupted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import mac_ray
from mac_ray import files
from mac_ray.config import ConfigError, MovingShapes
from mac_ray.cores import usable_cores
from mac_ray.data import manifest, manifest_writer, shape_scenes
from mac_ray.data.shape_scenes import Clip

CHECKSUMS = "SHA256SUMS"
MANIFEST = "manifest.parquet"
CLIPS_PER_PROCESS = 50  # at least; below it, starting a process takes longer than it saves


def make(
    section: MovingShapes,
    cache: Path,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The path of the set's manifest, after making whatever of the set is not already in the cache.

    `processes`: at most so many work at once (None: one per core). `progress` is told, after every clip made,
    how many clips there are and how many there will be.

    Raises ConfigError if the sizes ask for more scenes than exist, or the cache cannot be written.
    """
    folder = cache.expanduser().absolute() / "moving_shapes" / _key(section)
    counts = {"train": section.train, "val": section.val, "test": section.test}
    clips = [
        clip
        for split, count in counts.items()
        for clip in shape_scenes.clips(split, count, section.objects, section.seed)
    ]
    try:
        # a complete set is never written to, so that it can be shared read-only
        if not _is_complete(folder, clips, _good_files(folder)):
            with _locked(folder):
                _complete(folder, clips, section, processes or usable_cores(), progress)
    except OSError as error:
        raise _failure(folder, error.strerror or str(error)) from error
    return folder / MANIFEST


def _key(section: MovingShapes) -> str:
    content = [shape_scenes.VERSION, shape_scenes.ENCODING, section.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _file(clip: Clip) -> str:
    return f"{clip.name}.mp4"


def _good_files(folder: Path) -> dict[str, str]:
    """Checksums by path of the files that are as SHA256SUMS says."""
    listing = folder / CHECKSUMS
    if not listing.is_file():
        return {}
    good: dict[str, str] = {}
    for line in listing.read_text(errors="replace").splitlines():
        checksum, _, name = line.partition("  ")
        if name and (folder / name).is_file() and _checksum(folder / name) == checksum:
            good[name] = checksum
    return good


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_complete(folder: Path, clips: Sequence[Clip], good: dict[str, str]) -> bool:
    if MANIFEST not in good or any(_file(clip) not in good for clip in clips):
        return False
    # a manifest knows where its media lie, and the cache may have been moved as a whole
    return manifest.Manifest.open(folder / MANIFEST).root == str(folder)


def _complete(
    folder: Path,
    clips: Sequence[Clip],
    section: MovingShapes,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make what is missing or damaged. The caller holds the lock of the folder."""
    good = _good_files(folder)
    if _is_complete(folder, clips, good):
        return  # another process made it while this one waited for the lock
    for split in shape_scenes.SHARES:
        (folder / split).mkdir(exist_ok=True)
    for leftover in folder.glob("*/.*"):
        leftover.unlink()  # of a process killed while it wrote a clip
    _write_checksums(folder, good)
    missing = [clip for clip in clips if _file(clip) not in good]
    num_good = len(clips) - len(missing)
    made = _made(folder, missing, section, processes)
    with (folder / CHECKSUMS).open("a") as listing, closing(made):
        for clip, checksum in made:
            good[_file(clip)] = checksum
            listing.write(f"{checksum}  {_file(clip)}\n")
            listing.flush()
            num_good += 1
            if progress is not None:
                progress(num_good, len(clips))
    rows = (
        manifest.Row(
            id=clip.name,
            path=Path(_file(clip)),
            kind="video",
            split=clip.split,
            captions=shape_scenes.captions(clip),
        )
        for clip in clips
    )
    manifest_writer.write(folder / MANIFEST, rows, name="moving_shapes", root=folder)
    checksums = {_file(clip): good[_file(clip)] for clip in clips}
    _write_checksums(folder, checksums | {MANIFEST: _checksum(folder / MANIFEST)})


def _made(
    folder: Path, clips: Sequence[Clip], section: MovingShapes, processes: int
) -> Generator[tuple[Clip, str], None, None]:
    """Each clip with its checksum, once its file is there, made by several processes."""
    processes = min(processes, -(-len(clips) // CLIPS_PER_PROCESS))
    # the package may be on sys.path without being installed
    search = [str(Path(mac_ray.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search))}
    with ExitStack() as stack:
        workers = []
        for _ in range(processes):
            worker = subprocess.Popen(
                [sys.executable, "-m", "mac_ray.data.shape_clips"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            stack.enter_context(worker)
            stack.callback(worker.kill)  # when it is still at work, because something went wrong here
            workers.append(worker)
        for number, worker in enumerate(workers):
            assert worker.stdin is not None
            # one that has died already says why on its standard error, which is read below
            with suppress(BrokenPipeError), worker.stdin as pipe:
                pickle.dump((folder, clips[number::processes], section.frames, section.size), pipe)
        for number, clip in enumerate(clips):
            worker = workers[number % processes]
            assert worker.stdout is not None
            assert worker.stderr is not None
            checksum = worker.stdout.readline().decode().strip()
            if not checksum:
                said = worker.stderr.read().decode(errors="replace").strip()
                reason = said.rpartition("\n")[2] or f"a process ended with status {worker.wait()}"
                failure = _failure(folder, reason)
                failure.add_note(said)
                raise failure
            yield clip, checksum


def _write_checksums(folder: Path, checksums: dict[str, str]) -> None:
    lines = "".join(f"{checksum}  {name}\n" for name, checksum in checksums.items())
    files.write(folder / CHECKSUMS, lines)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the system frees the lock of a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _failure(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot make the moving-shapes set in {folder}: {reason}; set storage.cache to a folder that can be "
        "written and has room"
    )
