"""What the tests of whole runs share: a config that trains in seconds, on a set made once per session.

All tests at once are run by one process per core (pytest-xdist), whose sessions are apart from each other's; the
tests of files or names that are given, by this process alone.
"""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores have their processes; read when torch is imported

from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.cores import usable_cores
from mac_ray.data.sets import open_set
from tests.jobs import end_all
from tests.runs import TINY, USE_OWN

# what a shell starts in the background ignores it, and so would all that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_PROCESSES = 4  # each takes 1.5 GB, and 15 s to import what the tests need
# what processes of a fork server need: ranks, what measures their memory, and of the tests those that start them
PRELOADED = ("mac_ray.training.loop", "mac_ray.training.start", "mac_ray.bench.step", "pandas", "pytest")
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "RAY_ADDRESS")


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    if config.args_source is pytest.Config.ArgsSource.ARGS:  # files, or names, given on the command line
        return 0
    return min(usable_cores(), MOST_PROCESSES)


@pytest.fixture(scope="session", autouse=True)
def own_fork_server() -> Iterator[None]:
    """The fork server of this process, once there is one, imports what is slow once for all processes that it starts.

    A process has one list of what to import. The package asks for what its loaders need, and for no more; ranks of
    tests would then import the rest anew, in seconds each.
    """
    with pytest.MonkeyPatch.context() as patch:
        multiprocessing.set_forkserver_preload(list(PRELOADED))
        patch.setattr(forkserver, "set_forkserver_preload", lambda names: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_ray() -> Iterator[None]:
    """Ray's sessions, its note of the cluster that was started last, and its token are of this process alone."""
    # not below pytest's folder: the path of a socket has room for 107 characters
    with (
        TemporaryDirectory(dir="/tmp", prefix="ray_", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        token = Path(folder) / "token"
        token.write_text(uuid4().hex)
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        patch.setenv("RAY_TMPDIR", folder)
        # no workers for the first driver, a core each: Tune's and Train's have environments of their own
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        # by default workers wait for whatever else runs here, other tests too
        patch.setenv("RAY_worker_niceness", "0")
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_address_is_left() -> Iterator[None]:
    """By a test in the environment: the jobs that later tests of the same process start would go there."""
    before = [os.environ.get(name) for name in ADDRESSES]
    yield
    assert [os.environ.get(name) for name in ADDRESSES] == before


@pytest.fixture(autouse=True)
def _jobs_end_with_their_test() -> Iterator[None]:
    """One that fails would leave the next ones a machine that is busy for hours."""
    yield
    end_all()


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made data, decoded frames and tokenisers; every run of the session finds them here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_overrides(tmp_path: Path, shared_cache: Path) -> list[str]:
    """For the command line; runs go to tmp_path / "runs"."""
    return [*TINY, f"storage.runs={tmp_path / 'runs'}", f"storage.cache={shared_cache}"]


@pytest.fixture
def tiny(tiny_overrides: Sequence[str]) -> Config:
    return config_file.load(None, tiny_overrides)


@pytest.fixture
def copied_set(tiny: Config, tiny_overrides: Sequence[str], shared_cache: Path) -> Callable[[Path], Config]:
    """A function that copies the tiny set to a folder, as anyone's own data, and returns a config that reads it."""

    def copy(folder: Path) -> Config:
        made = open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None)
        shutil.copytree(made.root, folder)
        options = {"kind": "manifest", "path": str(folder / made.path.name), "root": str(folder)}
        return config_file.load(
            None,
            [*tiny_overrides, *(f"data.sets.own.{key}={value}" for key, value in options.items()), *USE_OWN],
        )

    return copy


@pytest.fixture
def attention_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips as short as those of tests are attended to like long ones, which is what the method costs."""
    monkeypatch.setattr("mac_ray.model.video.JOINT_UP_TO", 0)
