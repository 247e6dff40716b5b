"""The Optuna study of a search: where it is kept, how it is opened again, what draws the next point.

Only the driver of the sweep writes to it: the lock on the sweep's journal sees to it that there is one, and a study in
a database is of one such journal. A draw
is a function of the seed, the number of the trial and what is known of the others, whichever driver makes it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mac_ray.ablation.pruning import StratifiedHalving
from mac_ray.ablation.record import RecordError, read_record
from mac_ray.ablation.sweep import Search, Sweep
from mac_ray.config import ConfigError
from mac_ray.errors import RunError, StorageError
from mac_ray.tracking.address import public, sqlite_file

FILE_NAME = "study.jsonl"
LOCK_NAME = "study.jsonl.lock"  # of Optuna; a killed driver leaves it behind, and the next would wait for it
TRIALS = "trials.json"  # what the report of a search has of them
SPACE = "mac_ray.space"  # attribute of a study: what it searches
OWNER = "mac_ray.key"  # attribute of a study: the key of the journal of its sweep
Direction = Literal["maximize", "minimize"]
POPULATION = 12  # of NSGA-II: Optuna's 50 would be the whole of most searches, drawn at random

REMEDY = "restore it from a copy, or remove it to search anew (runs that finished are not trained again)"

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(sweep: Sweep, search: Search, name: str, folder: Path, key: str) -> Study:
    """The study of this name, made when there is none; `folder` is the sweep's, locked by whoever calls, and `key` that
    of its journal.

    Raises ConfigError for storage that cannot be read, and for a study of that name that searched something else or
    is that of the same sweep in another folder.
    """
    with _explained(sweep, search, folder):
        study = optuna.create_study(
            storage=_database(search.storage) if search.storage else _journal(folder),
            study_name=name,
            directions=_directions(sweep, search),
            pruner=StratifiedHalving(),
            load_if_exists=True,
        )
        known, owner = study.user_attrs.get(SPACE), study.user_attrs.get(OWNER)
        if owner != key and (owner is None or not search.storage):
            # what lies in the sweep's own folder is the sweep's, also where its journal was lost and begun anew
            study.set_user_attr(OWNER, owner := key)
    searched = _searched(sweep, search)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(SPACE, searched)
    elif known != searched:
        raise ConfigError(
            f"sweep {sweep.name}: the study {name} in {_place(search, folder)} searched another space, or for another "
            "metric; give the sweep another name or another search.storage"
        )
    if owner != key:  # whose trials under way would be taken for those of a driver that was killed
        raise ConfigError(
            f"sweep {sweep.name}: the study {name} in {_place(search, folder)} is that of the same sweep in another "
            "folder of runs, or in one that was removed; start it with that storage.runs, or give the sweep another "
            "name or search.storage"
        )
    return study


def kept_study(sweep: Sweep, search: Search, name: str | None, folder: Path) -> Study | None:
    """The study if there is one; only to be read, also while a driver writes it. `name`: None for the only one that is
    kept, as in a folder that has another name by now. Raises ConfigError.
    """
    path = folder / FILE_NAME
    kept_in = path if search.storage is None else sqlite_file(search.storage)
    if kept_in and not kept_in.exists():  # which to open would make
        return None
    with _explained(sweep, search, folder):
        storage = (
            _database(search.storage) if search.storage else JournalStorage(JournalFileBackend(str(path)))
        )
        names = optuna.get_all_study_names(storage)
        if not names or (name is not None and name not in names):
            return None
        return optuna.load_study(study_name=name, storage=storage)


def require_same_storage(sweep: Sweep, search: Search, folder: Path) -> None:
    """Or a second study would begin in the folder, and its report replace that of the first. Raises ConfigError."""
    try:
        before = read_record(folder).sweep.search
    except RecordError:  # there is none yet, or one of another version
        return
    kept, asked = (public(each.storage) if each and each.storage else "" for each in (before, search))
    if kept != asked:
        where = (
            f"in {kept}; give --storage with its full address"
            if kept
            else "in its folder; leave --storage out"
        )
        raise ConfigError(
            f"sweep {sweep.name}: the study in {folder} was begun {where}, or give the sweep another name to begin anew"
        )


@contextmanager
def told_of_storage(sweep: Sweep, search: Search) -> Iterator[None]:
    """Raises RunError where the study cannot be read or written any more."""
    try:
        yield
    except (StorageInternalError, OSError) as error:
        if isinstance(error, OSError) and not _is_of_the_file(error, search):
            raise
        raise RunError(
            f"the study of sweep {sweep.name} cannot be read or written any more ({cause_of(error)}); see to its "
            "storage, and the same command goes on"
        ) from error


def _is_of_the_file(error: OSError, search: Search) -> bool:
    """And not of what else is read and written meanwhile, such as samples and charts."""
    if search.storage or isinstance(error, StorageError):
        return False
    return error.filename is None or Path(str(error.filename)).name.startswith(FILE_NAME)


def counted(study: Study) -> dict[str, int]:
    """Trials by state."""
    return dict(Counter(trial.state.name for trial in study.get_trials(deepcopy=False)))


def is_over(study: Study, search: Search) -> bool:
    """No trial is under way, and there are as many as there are to be."""
    return not leftovers(study) and len(begun(study)) >= search.trials


def begun(study: Study) -> list[FrozenTrial]:
    """All but those that somebody has put into the queue."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def leftovers(study: Study) -> list[int]:
    """Numbers of the trials that a driver was killed over, or that its machine failed. Not zombies: their runs go on
    from their checkpoints.
    """
    return [trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]


def taken_up(study: Study, number: int) -> optuna.Trial:
    """A trial of `leftovers`. What it was given stays, what it had not yet been given is drawn now."""
    storage = study._storage  # a study has no public way to a trial that it did not just make
    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


class Drawing(BaseSampler):
    """What draws the trial of one number. All there is to know of other trials, it reads from the study.

    Each knob that is drawn by itself has a seed of its own, so that a draw that a kill cut short ends as it would have.
    """

    def __init__(self, search: Search, seed: int, number: int) -> None:
        self._search, self._seed = search, (seed, number)
        self._whole = self._sampler()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._whole.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._whole.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        one = self._sampler(*param_name.encode())
        return one.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._whole.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._whole.after_trial(study, trial, state, values)

    def _sampler(self, *more: int) -> BaseSampler:
        seed = int(np.random.SeedSequence((*self._seed, *more)).generate_state(1)[0])
        match self._search.sampler:
            case "tpe":
                return TPESampler(seed=seed)
            case "gp":
                return GPSampler(seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=POPULATION)


def _directions(sweep: Sweep, search: Search) -> list[Direction]:
    of_metric: Direction = "maximize" if sweep.maximize else "minimize"
    return [of_metric, "minimize"] if search.sampler == "nsga2" else [of_metric]


def _searched(sweep: Sweep, search: Search) -> str:
    space = {path: knob.model_dump(mode="json") for path, knob in search.space.items()}
    return json.dumps([space, sweep.metric, _directions(sweep, search)], sort_keys=True)


@contextmanager
def _explained(sweep: Sweep, search: Search, folder: Path) -> Iterator[None]:
    """What Optuna and its database stumble on, as a sentence."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"sweep {sweep.name}: search.storage {_place(search, folder)!r} needs a driver that is not installed "
            f"({cause_of(error)}); install it, for PostgreSQL with `pip install -e '.[postgres]'`"
        ) from error
    except (ArgumentError, SQLAlchemyError, StorageInternalError) as error:
        raise ConfigError(
            f"sweep {sweep.name}: search.storage {_place(search, folder)!r} cannot be opened ({cause_of(error)}); give "
            "--storage, the full address of a database that is there, such as postgresql://user:password@host/studies"
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            f"sweep {sweep.name}: the tables in search.storage {_place(search, folder)!r} are of another version of "
            f"Optuna ({' '.join(str(error).split())}); upgrade them, a copy first, or give another database"
        ) from error
    except ConfigError:
        raise
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        if search.storage:  # a port that is no number, in an error that may quote the password
            raise ConfigError(
                f"sweep {sweep.name}: search.storage is no URL of a database; give one such as "
                "postgresql://user@host/studies, with what is special in a password as %40 and the like"
            ) from None
        # of the replay of a journal
        raise ConfigError(
            f"{_place(search, folder)} is no journal of a study ({error!r}); {REMEDY}"
        ) from error


def _database(url: str) -> RDBStorage:
    # hours may pass between two trials, and what lies between drops connections that say nothing for minutes
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def cause_of(error: Exception) -> str:
    """In one line, what Optuna has wrapped in an error of its own."""
    return " ".join(str(error.__cause__ or error).split())


def _place(search: Search, folder: Path) -> str:
    return public(search.storage) if search.storage else str(folder / FILE_NAME)


def _has_trials(folder: Path) -> bool:
    """Whether the files of a sweep's folder have any."""
    try:
        return bool(json.loads((folder / TRIALS).read_text()))
    except (OSError, ValueError):  # none yet, or half of it
        return False


def _journal(folder: Path) -> JournalStorage:
    """Raises ConfigError on a line that is none, and for a file that was emptied. A last line that a kill left half
    written is cut off.
    """
    path = folder / FILE_NAME
    (folder / LOCK_NAME).unlink(missing_ok=True)
    text = path.read_bytes() if path.exists() else b""
    whole = text.rfind(b"\n") + 1
    for number, line in enumerate(text[:whole].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        is_record = isinstance(record, dict) and isinstance(record.get("op_code"), int)
        if not is_record:
            raise ConfigError(f"{path}, line {number} is no record of a study's journal; {REMEDY}")
    if not whole and _has_trials(folder):
        raise ConfigError(f"{path} holds nothing, though there were trials; {REMEDY}")
    if whole < len(text):
        with path.open("r+b") as file:
            file.truncate(whole)
    return JournalStorage(JournalFileBackend(str(path)))
