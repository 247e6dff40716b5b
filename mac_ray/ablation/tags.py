"""Names of the tags by which the runs of a sweep are found in MLflow."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mac_ray.ablation.plan import Point
from mac_ray.ablation.record import RecordedRun
from mac_ray.ablation.sweep import Sweep
from mac_ray.config import Config
from mac_ray.tracking.journal import (
    PARENT_TAG,
    PRUNED_TAG,
    SWEEP_TAG,
    BusyError,
    Journal,
    run_key,
    status_of,
)

ROW_TAG, SEED_TAG = "mac_ray.row", "mac_ray.seed"
STRATEGY_TAG = "mac_ray.strategy"
# of the sweep itself
QUESTION_TAG, BASE_TAG, EQUAL_TAG = "mac_ray.question", "mac_ray.base", "mac_ray.equal"
DESCRIPTION_TAG = "mlflow.note.content"  # which MLflow shows as Markdown above a run
NAME_TAG = "mlflow.runName"  # which renames a run there
LONGEST_NAME = 250  # characters, of MLflow's column


def strategy_of(config: Config) -> str:
    """How the first stage masks clips."""
    return config.stage_masking(config.stages[0]).video.strategy


def membership(folder: Path) -> str:
    """Tag of each run that a sweep has in its table, whoever has trained it; its value is the row or the trial. By the
    folder of the sweep, as one study may be made at several budgets, and of several bases."""
    return f"mac_ray.in.{folder.name.removeprefix('sweep-')}"


def labels_of(runs: Iterable[RecordedRun]) -> dict[str, str]:
    """Of the rows or trials that a run stands for, by its identity."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.identity, []).append(run.row)
    return {identity: " = ".join(dict.fromkeys(labels)) for identity, labels in found.items()}


def tags_of_run(sweep: Sweep, point: Point, label: str, folder: Path) -> dict[str, str]:
    """Of one that the sweep trains; `label` is of labels_of, `folder` the sweep's, with its journal."""
    return {
        NAME_TAG: name_of(sweep, label, point.seed),
        SWEEP_TAG: sweep.name,
        ROW_TAG: label,
        SEED_TAG: str(point.seed),
        STRATEGY_TAG: strategy_of(point.config),
        PARENT_TAG: run_key(folder),
        PRUNED_TAG: "false",  # until it is; a run that goes on after all must not keep an earlier "true"
        membership(folder): label,
    }


def name_of(sweep: Sweep, label: str, seed: int) -> str:
    """What a run is called in MLflow, below its sweep: masking-ratio/video 0.6/seed=1."""
    room = LONGEST_NAME - len(f"{sweep.name}//seed={seed}")
    return f"{sweep.name}/{label[: max(room, 0)]}/seed={seed}"


def add_members(labels: Mapping[Path, str], folder: Path) -> None:
    """Tag the finished runs of a sweep, by their folders; those that it has trained have the tag from the start."""
    for run, label in labels.items():
        if status_of(run) == "FINISHED":
            # a run of others may be theirs alone to write
            with suppress(BusyError, OSError), Journal(run) as journal:
                journal.tags({membership(folder): label})


def title_of(sweep: Sweep) -> str:
    """What tells studies of one question apart."""
    return f"{sweep.name} ({Path(sweep.base).stem}, equal {sweep.budget.equal})"


def description(sweep: Sweep, folder: Path, command: str) -> str:
    """Of a sweep, for whoever opens it in MLflow, which shows a few lines and hides the others."""
    search = f'tags.`{membership(folder)}` LIKE "%"'
    return f"Its runs, whoever has trained them: ``{search}``\n\n`{command}`\n\n{sweep.question}"
