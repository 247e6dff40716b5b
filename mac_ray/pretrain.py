"""The main job: train one run on Ray Train workers, score it, and have it in MLflow.

    python -m mac_ray.pretrain [CONFIG.yaml] [section.key=value …] [--dry-run] [--without-ray]
    ray job submit --working-dir . -- python -m mac_ray.pretrain configs/mac.yaml

The same command continues a run that was stopped or killed, and shows the result of one that is finished.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.console import Follower, final_tables, preparing
from mac_ray.data.manifest import ManifestError
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, RecipeError, RunError, in_one_line
from mac_ray.passwords import has_passwords
from mac_ray.terminal import say, say_stopped
from mac_ray.tracking.address import resolve_uri
from mac_ray.tracking.journal import (
    DRIVER_TAG,
    FAULT_TAG,
    FETCHED_NAME,
    PARENT_TAG,
    PRUNED_TAG,
    BusyError,
    Journal,
    JournalError,
    Status,
    patiently,
    status_of,
)
from mac_ray.tracking.launch import WAIT_S, send_rest, start_sender, wait
from mac_ray.tracking.process import try_lock
from mac_ray.tracking.progress import how_to_open
from mac_ray.training.distributed import Worker
from mac_ray.training.loop import Outcome, train
from mac_ray.training.results import read_summary
from mac_ray.training.start import PreparedRun, parameters, prepare, save_config, step_flops, tags
from mac_ray.training.stop import stop_at_sigterm


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.pretrain", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("config", nargs="?", help="YAML file; without one the embedded default is trained")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="e.g. masking.video.ratio=0.75"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument(
        "--without-ray",
        action="store_true",
        help="train in this process, on this machine alone, on its GPU if it has one",
    )
    given = parser.parse_intermixed_args(arguments)
    path, overrides = config_file.path_and_overrides(given.config, given.overrides)
    console = Console()
    try:
        config = config_file.load(path, overrides)
        if given.dry_run:
            print(config_file.to_yaml(config), end="")
            return 0
        return pretrain(config, console, launch=train_here if given.without_ray else train_on_ray)
    except (ConfigError, ManifestError, JournalError) as error:
        say(console, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except (OSError, KeyboardInterrupt) as error:
        return say_stopped(error, console)


Launch = Callable[[PreparedRun, Console], Outcome]


def pretrain(
    config: Config,
    console: Console,
    launch: Launch,
    more_tags: Mapping[str, str] | None = None,
    mlflow_wait_s: float = WAIT_S,
    here: Path | None = None,
    planned: str | None = None,
) -> int:
    """Prepare, train, score and track one run; returns the exit code. `more_tags` are tracked with it; for
    `mlflow_wait_s` MLflow is waited for when it has ended. `here`: working_directory, by default asked for. `planned`
    is the run's identity, where a sweep has planned it.

    Raises ConfigError, ManifestError or JournalError for what can be told before workers are taken.
    """
    here = here or working_directory(console)
    uri = tracking_uri(config, here)
    with preparing(console) as progress:
        run = prepare(config, Path.cwd(), here, progress, planned)
    if status_of(run.folder.path) != "FINISHED":
        with driving(run):
            if status_of(run.folder.path) != "FINISHED":  # by whoever drove it until now
                return drive(run, uri, console, launch, more_tags or {}, mlflow_wait_s)
    again = "seed=… with another number trains it anew" if run.plan else "its scores are these"
    say(console, f"run {run.name} has already finished; {again}")
    if (run.folder.path / FETCHED_NAME).exists():
        say(console, "it was fetched from MLflow without checkpoints; delete its folder to train it here")
    if missing := send_rest([run.folder.path], uri):
        say(console, missing, "yellow")
    show_result(run, uri, console)
    return 0


@contextmanager
def driving(run: PreparedRun) -> Iterator[None]:
    """Nobody else may drive the run meanwhile: whoever came second would write its status, and take back requests to
    stop it. Raises BusyError where somebody does."""
    lock = try_lock(run.folder.driver_lock)
    if lock is None:
        raise BusyError(f"the run in {run.folder.path} is being trained; let it end, or stop it")
    try:
        yield
    finally:
        os.close(lock)


def drive(
    run: PreparedRun,
    uri: str | None,
    console: Console,
    launch: Launch,
    more_tags: Mapping[str, str],
    mlflow_wait_s: float,
) -> int:
    """From the first status of this attempt to the last; the exit code."""
    for note in run.notes:
        say(console, note, "yellow")
    run.folder.stop_request.unlink(missing_ok=True)
    (run.folder.path / FETCHED_NAME).unlink(missing_ok=True)  # what is trained here has checkpoints
    save_config(run.config, run.folder)  # where and how it is trained may be another than at first
    with opened_journal(run) as journal:
        journal.status("RUNNING")
    sender = None
    status: Status = "FAILED"
    reason, fault = "the driver was ended", "machine"
    try:
        note_start(run, more_tags)
        if not run.plan:
            say(console, f"scoring {len(run.data.test)} samples of {run.config.evaluation.data}")
        sender = start_sender(run.folder.path, uri) if uri else None
        with following(run, console):
            outcome = launch(run, console)
        status, reason = ("FINISHED", "") if outcome == "finished" else ("KILLED", "stopped on request")
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted from the keyboard"
    except (RunError, OSError) as error:
        reason = str(error)
        fault = "recipe" if isinstance(error, RecipeError) else fault
    except Exception as error:
        reason = in_one_line(error)
        raise
    finally:  # whatever happened, the run must not stay RUNNING
        with opened_journal(run) as journal:
            if status == "FAILED":
                journal.tags({FAULT_TAG: fault})
            journal.status(status, reason)
    if status == "FINISHED":
        run.folder.initial.unlink(missing_ok=True)  # as large as a checkpoint, and there where they came from
        show_result(run, uri, console)
    else:
        say(console, f"run {run.name} is {status}: {reason}", "red")
        continues = "continues it from its last checkpoint" if run.plan else "scores it again"
        say(console, f"the same command {continues}")
    if sender and uri and (missing := wait(sender, run.folder.path, uri, mlflow_wait_s)):
        sender.kill()  # or it would go on trying, and keep that command from its work
        say(console, missing)
    return {"FINISHED": 0, "KILLED": EXIT_INTERRUPTED}.get(status, EXIT_FAILED)


def note_start(run: PreparedRun, more_tags: Mapping[str, str]) -> None:
    """What there is to know of this attempt, into the journal."""
    with opened_journal(run) as journal:
        # what follows from the config is as the code that began the run had it, also where this one counts otherwise
        known = journal.parameters_given
        journal.parameters(
            {
                name: value
                for name, value in parameters(run).items()
                if not (name.startswith("derived.") and name in known)
            }
        )
        if journal.tag(PRUNED_TAG) == "true":  # by a search, which this goes beyond
            journal.tags({PRUNED_TAG: "false"})
        if journal.tag(FAULT_TAG):  # of an attempt before
            journal.tags({FAULT_TAG: ""})
        journal.tags({**tags(run), DRIVER_TAG: more_tags.get(PARENT_TAG, ""), **more_tags})
        if not has_passwords(run.folder.config.read_text()):  # as of where data are
            journal.artifact(run.folder.config)


@contextmanager
def following(run: PreparedRun, console: Console) -> Iterator[None]:
    """Its progress is shown meanwhile."""
    follower = Follower(run.folder.path, run.plan, step_flops(run), console)
    follower.start()
    try:
        yield
    finally:
        follower.stop()


def train_here(run: PreparedRun, console: Console) -> Outcome:
    """In this process. Raises RunError and OSError as `train` does."""
    with stop_at_sigterm(run.folder):
        return train_in_thread(run, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def train_in_thread(run: PreparedRun, device: torch.device) -> Outcome:
    """In this thread of a process that has its own ideas about signals. Raises as `train` does."""
    with Journal(run.folder.path) as journal:
        return train(run.config, run.folder, Worker(device=device), journal, run.data.fingerprints)


def train_on_ray(run: PreparedRun, console: Console) -> Outcome:
    """On Ray Train workers, of the cluster this job runs in or of one started on this machine.

    Raises RunError when the run cannot go on, or the cluster does not have the workers asked for.
    """
    from mac_ray.ray_train import fit  # only here, so that --without-ray needs no Ray

    return fit(run, console)


# ---------------------------------------------------------------- around a run


def tracking_uri(config: Config, here: Path) -> str | None:
    """Of the MLflow that runs are sent to; None without. Raises ConfigError."""
    try:
        return resolve_uri(config.tracking.uri, here) if config.tracking.enabled else None
    except ValueError as error:
        raise ConfigError(str(error)) from error


def working_directory(console: Console) -> Path:
    """Where relative folders for what a run leaves lie. A Ray job runs in an uploaded copy that Ray deletes."""
    here = Path.cwd()
    if "_ray_pkg_" not in str(here):
        return here
    lasting = Path.home() / "mac_ray"
    lasting.mkdir(exist_ok=True)
    say(console, f"this job runs in a copy that Ray deletes later; storage.* and mlflow.db are in {lasting}")
    return lasting


def opened_journal(run: PreparedRun) -> Journal:
    """The run's. The worker of a driver that was killed may hold it until Ray has stopped it too."""
    return patiently(
        partial(
            Journal.open_or_create,
            run.folder.path,
            name=run.name,
            experiment=run.config.tracking.experiment,
            identity=run.identity,
        )
    )


def show_result(run: PreparedRun, uri: str | None, console: Console) -> None:
    summary = read_summary(run.folder.scores)
    console.print(final_tables(summary))
    for scored in (summary, *summary["also"]):
        if scored["warning"]:
            say(console, f"{scored['scored']}: {scored['warning']}", "red")
    say(console, f"everything of this run: {run.folder.path}")
    if uri:
        say(console, f"in MLflow: {how_to_open(uri, run.folder.path)}")


if __name__ == "__main__":
    raise SystemExit(main())
