"""The trials of a search on Ray Tune, which asks for the next one whenever there is room.

Ray's own OptunaSearch tells a pruned trial as complete with its early value, and after a restart no longer knows
which trials were under way. So Tune has a searcher that hands out `Proposals` and says when one has ended, no more.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from rich.console import Console

from mac_ray.ablation.execute import (
    EXIT_BUSY,
    WAIT_FOR_ANOTHER_S,
    Job,
    Site,
    fit,
    launch_of,
    run_or_retry,
)
from mac_ray.ablation.proposals import PRUNED, Proposal, Proposals
from mac_ray.config import Config
from mac_ray.pretrain import Launch, opened_journal
from mac_ray.tracking.journal import PRUNED_TAG
from mac_ray.training.loop import Outcome
from mac_ray.training.start import PreparedRun

JUDGE_EVERY_S = 1.0


class ProposalSearcher(Searcher):  # type: ignore[misc]  # ray has no types
    """Tune's side of `Proposals`."""

    def __init__(self, proposals: Proposals, to_jobs: Callable[[Proposal], list[Job]]) -> None:
        super().__init__()
        self._proposals, self._to_jobs = proposals, to_jobs
        self._numbers: dict[str, int] = {}  # of trials under way, by Tune's name for them
        self.failed: Exception | None = (
            None  # the first of what was raised here, of which Tune makes a traceback
        )

    @property
    def is_training(self) -> bool:
        """Trials are under way, or were when Tune was interrupted."""
        return bool(self._numbers)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """FINISHED also where trials may yet come that wait for others: while Tune waits, it keeps an actor, with what
        those may be waiting for, and hears no interrupt."""
        with self._noted():
            proposal = self._proposals.next()
        if proposal is None:
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = proposal.number
        return {"jobs": self._to_jobs(proposal)}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Without a result, Tune itself is being stopped, and the trial is for the next driver to go on with; or it has
        ended in an error, which its journals do not have yet."""
        if result and result["exit_code"] == EXIT_BUSY:
            self._proposals.trained_elsewhere(self._numbers.pop(trial_id))
        elif result:
            self.ended(trial_id)

    def ended(self, trial_id: str) -> None:
        with self._noted():
            self._proposals.ended(self._numbers.pop(trial_id))

    def judge(self) -> None:
        with self._noted():
            self._proposals.judge()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failed = self.failed or error
            raise

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """The study is what is kept; nothing is restored from what Tune would keep."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # for Tune's own files, as above


class Judging(tune.Callback):  # type: ignore[misc]
    """Lets the pruner look at the trials every so often, in the thread that Tune asks and tells in; and says which have
    ended in an error once `Closing`, which is called before it, has written that down.
    """

    def __init__(self, searcher: ProposalSearcher) -> None:
        self._searcher = searcher
        self._looked = 0.0

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._looked > JUDGE_EVERY_S:
            self._searcher.judge()
            self._looked = time.monotonic()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.ended(trial.trial_id)


def execute_search(
    proposals: Proposals,
    tags: Callable[[Proposal], Sequence[Mapping[str, str]]],
    base: Config,
    folder: Path,
    uri: str | None,
    together: int,
) -> None:
    """Train all trials there are to be, so many at a time; `tags` are those of each run of a trial.

    Tune's own files go to `folder`. Ray must be initialised. Raises what telling the study raises, StorageInternalError
    or OSError where it cannot be written.
    """

    def to_jobs(proposal: Proposal) -> list[Job]:
        return [
            Job(run.point.config, run.identity, run.folder, own)
            for run, own in zip(proposal.runs, tags(proposal), strict=True)
        ]

    while True:
        searcher = ProposalSearcher(proposals, to_jobs)
        try:
            fit(
                tune.with_parameters(_train_proposal, site=Site.here(marking_pruned(launch_of([base])), uri)),
                [base],
                folder,
                tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,  # until the searcher has no more
                    max_concurrent_trials=together,
                    reuse_actors=True,
                ),
                itemgetter("jobs"),
                callbacks=[Judging(searcher)],
            )
        except Exception as error:
            if searcher.failed is None:
                raise
            raise searcher.failed from error
        if searcher.is_training:  # interrupted, which Tune keeps to itself
            return
        while not proposals.has_one_back():
            if not proposals.has_some_waiting:
                return
            time.sleep(WAIT_FOR_ANOTHER_S)


def _train_proposal(parameters: Mapping[str, Any], site: Site) -> None:
    """One run after the other, up to the first that does not finish."""
    site.enter()
    code = 0
    for job in parameters["jobs"]:
        code = run_or_retry(job, site)
        if code:
            break
    tune.report({"exit_code": code})


def marking_pruned(launch: Launch) -> Launch:
    """The same, with a tag on a run that stops because the pruner asked, before its status says KILLED."""

    def launch_and_mark(run: PreparedRun, console: Console) -> Outcome:
        outcome = launch(run, console)
        if outcome == "interrupted" and run.folder.stop_request.read_text() == PRUNED:
            with opened_journal(run) as journal:
                journal.tags({PRUNED_TAG: "true"})
        return outcome

    return launch_and_mark
