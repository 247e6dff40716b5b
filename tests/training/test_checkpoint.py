"""Checkpoints: complete or absent, whatever is killed or full while they are written."""

import json
import multiprocessing
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mac_ray.errors import RunError
from mac_ray.training import checkpoint


def save(folder: Path, step: int, keep: int = 10, size: int = 100) -> Path:
    """Model and state in which every value is the step."""
    model = {"weight": torch.full((size,), float(step)), "view": torch.full((3, 2), float(step)).T}
    state = {
        "step": step,
        "moments": torch.full((size,), float(step)),
        "pending": [{"loss": 0.5}],
        "name": "one",
    }
    return checkpoint.save(folder, step, model, state, keep)


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_whole(path: Path) -> None:
    """What was written together is read together."""
    model, state = checkpoint.load(path)
    assert path.name == f"step_{state['step']:08d}"
    for tensor in (model["weight"], model["view"], state["moments"]):
        assert (tensor == state["step"]).all()


def test_checkpoint_saved_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    path = save(folder, 7)
    assert path == checkpoint.latest(folder)
    assert_whole(path)
    model, state = checkpoint.load(path)
    assert model["view"].shape == (2, 3)
    assert (state["pending"], state["name"]) == ([{"loss": 0.5}], "one")


def test_latest_of_nothing_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "gone") is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in (1, 9, 10, 11, 100):
        save(tmp_path, step, keep)
    assert steps(tmp_path) == [f"step_{step:08d}" for step in (1, 9, 10, 11, 100)[-keep:]]
    assert checkpoint.latest(tmp_path) == tmp_path / "step_00000100"


def test_checkpoint_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    before = (path / "model.safetensors").stat().st_mtime_ns
    assert save(tmp_path, 3) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == before


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('a checkpoint ran code')",)


def test_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"weight": torch.zeros(1)}, {"step": 1, "code": Harmful()}, keep=1)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(path)


def test_gpu_that_runs_out_of_memory_is_no_fault_of_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError), checkpoint.restoring(tmp_path):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with (
        pytest.raises(RunError, match=r"delete it, and the same command goes on"),
        checkpoint.restoring(tmp_path),
    ):
        raise RuntimeError("size mismatch")


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x00\x00\x00", b"PK\x03\x04", b"garbage", None])
@pytest.mark.parametrize("name", ["state.pt", "model.safetensors"])
def test_damaged_file_is_a_sentence_with_the_remedy(content: bytes | None, name: str, tmp_path: Path) -> None:
    path = save(tmp_path, 4)
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    with (
        pytest.raises(RunError, match=r"cannot go on from .*step_00000004: it is damaged.*delete it"),
        checkpoint.restoring(path),
    ):
        checkpoint.load(path)


def test_checkpoint_that_a_file_system_does_not_show_yet_is_not_called_damaged(tmp_path: Path) -> None:
    path = checkpoint.path_of(tmp_path, 4)
    with pytest.raises(FileNotFoundError), checkpoint.restoring(path):
        checkpoint.load(path)


def test_checkpoint_that_somebody_put_aside_is_none(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 4).rename(tmp_path / "step_00000004.bad")
    assert checkpoint.latest(tmp_path) == checkpoint.path_of(tmp_path, 3)
    save(tmp_path, 5, keep=1)
    assert steps(tmp_path) == ["step_00000004.bad", "step_00000005"]


# ---------------------------------------------------------------- killed

BLOCKED = """
import sys, time
from pathlib import Path
import torch
from mac_ray.training import checkpoint
class Blocking:
    def __reduce__(self):
        print("blocked", flush=True)
        time.sleep(600)
checkpoint.save(Path(sys.argv[1]), 2, {"weight": torch.zeros(10)}, {"step": 2, "state": Blocking()}, 2)
"""


def test_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocked\n"
        process.send_signal(signal.SIGKILL)
    assert len(steps(tmp_path)) == 2  # what was begun is still there
    assert checkpoint.latest(tmp_path) == tmp_path / "step_00000001"
    save(tmp_path, 3)
    assert steps(tmp_path) == ["step_00000001", "step_00000003"]


# one process imports torch, and forks those that are killed
KILLED_AT_RANDOM = """
import json, os, random, signal, sys, time
from pathlib import Path
from tests.training.test_checkpoint import assert_whole, checkpoint, save
folder = Path(sys.argv[1])
generator = random.Random(0)
found = []
for attempt in range(40):
    newest = checkpoint.latest(folder)
    first = int(newest.name[5:]) + 1 if newest else 1
    child = os.fork()
    if child == 0:
        for step in range(first, first + 10_000):
            save(folder, step, keep=1, size=200_000)
    time.sleep(generator.uniform(0.005, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in folder.glob("step_*"):
        assert_whole(path)
    found.append(len(list(folder.glob("step_*"))))
print(json.dumps([found, first]))
"""


def test_process_killed_at_any_time_leaves_only_whole_checkpoints(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_AT_RANDOM, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found, reached = json.loads(ended.stdout)
    assert reached > 1  # it did get on between the kills
    first = next(attempt for attempt, number in enumerate(found) if number)
    assert min(found[first:]) >= 1, found
    # a kill between writing and deleting leaves one more, until a save gets through
    save(tmp_path, reached + 100_000, keep=1)
    assert steps(tmp_path) == [f"step_{reached + 100_000:08d}"]


# ---------------------------------------------------------------- a full disk


def _save_with_limit(folder: Path, what: str, sentences: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    sizes = {"model": 1, "state": 1} | {what: 100_000}
    try:
        checkpoint.save(
            folder,
            2,
            {"weight": torch.zeros(sizes["model"])},
            {"moments": torch.zeros(sizes["state"])},
            keep=1,
        )
    except OSError as error:
        sentences.put(str(error))


@pytest.mark.parametrize("what", ["model", "state"])
def test_disk_that_is_full_is_one_sentence_and_leaves_the_checkpoint_before(
    tmp_path: Path, what: str
) -> None:
    save(tmp_path, 1)
    context = multiprocessing.get_context("forkserver")
    sentences = context.Queue()
    process = context.Process(target=_save_with_limit, args=(tmp_path, what, sentences))
    process.start()
    sentence = sentences.get(timeout=60)
    process.join()
    assert sentence.startswith(f"the checkpoint of step 2 could not be written to {tmp_path}")
    assert "storage.runs" in sentence
    assert steps(tmp_path) == ["step_00000001"]
    assert_whole(tmp_path / "step_00000001")


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the checkpoint of step 1 could not be written to .*file"):
        save(tmp_path / "file" / "checkpoints", 1)
