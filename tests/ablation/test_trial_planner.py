"""What lays out the trials of a search tells values that do not go together from a machine that lacks something."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mac_ray.ablation.proposals import UntrainableError
from mac_ray.ablation.reuse import Archive
from mac_ray.ablation.search import TrialPlanner
from mac_ray.ablation.sweep import Budget, Knob, Range, Search
from mac_ray.config import ConfigError
from mac_ray.config.file import parsed_override
from mac_ray.tracking.journal import status_of
from mac_ray.tracking.sender import replay
from tests.ablation.made import finished_run
from tests.ablation.trials import RATIO, SPACE, STRATEGY, sweep_of
from tests.checkpoints import save_text_tower
from tests.tracking.mlflow_server import Server


def test_values_that_the_budget_is_not_enough_for_are_a_fault_of_the_trial(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    """Or it would end the search, and each time it is started again."""
    share = "stages.1.epochs"
    search = Search(space={share: Knob(domain=Range(low=1e-9, high=1, log=True))})
    overrides = dict(parsed_override(each) for each in tiny_overrides)
    sweep = sweep_of(search, overrides=overrides, budget=Budget(equal="flops"))
    planner = TrialPlanner.of(sweep, tmp_path, Archive(None, "e", Console(file=StringIO())), lambda *_: None)
    assert len(planner(0, {share: 1.0})) == 1
    with pytest.raises(UntrainableError, match="too little for a step of each stage"):
        planner(1, {share: 1e-9})


def test_weights_that_are_gone_are_no_fault_of_a_trial(tiny_overrides: list[str], tmp_path: Path) -> None:
    source = save_text_tower(tmp_path / "share" / "distilbert", ["a", "red", "circle", "square"])
    given = [*tiny_overrides, f"model.text.tokenizer={source}"]
    sweep = sweep_of(Search(space=SPACE), overrides=dict(parsed_override(each) for each in given))
    archive = Archive(None, "e", Console(file=StringIO()))
    planner = TrialPlanner.of(sweep, tmp_path, archive, lambda *_: None)
    values = {STRATEGY: "random", RATIO: 0.5}
    assert len(planner(0, values)) == 1
    with pytest.raises(UntrainableError, match="below 1"):
        planner(1, {STRATEGY: "random", RATIO: 1.5})
    (tmp_path / "share").rename(tmp_path / "unmounted")
    with pytest.raises(ConfigError, match="distilbert") as caught:
        planner(2, values)
    assert not isinstance(caught.value, UntrainableError)
    (tmp_path / "unmounted").rename(tmp_path / "share")
    assert len(planner(2, values)) == 1


def test_trials_are_trained_here_once_mlflow_does_not_give_what_it_has_finished(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To stop the search would stop what is under way; each trial waiting for MLflow would leave the cluster idle."""
    monkeypatch.setattr("mac_ray.ablation.reuse.PAUSES_S", (0.1, 0.1))
    sweep = sweep_of(Search(space=SPACE), overrides=dict(parsed_override(each) for each in tiny_overrides))
    values = {STRATEGY: "random", RATIO: 0.5}

    def planner(archive: Archive) -> TrialPlanner:
        return TrialPlanner.of(sweep, tmp_path, archive, lambda *_: None)

    (run,) = planner(Archive(None, "made", Console(file=StringIO())))(0, values)
    elsewhere = tmp_path / "elsewhere" / run.identity
    finished_run(elsewhere, 0, 0.6)
    server = Server(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    server.start()
    try:
        replay(elsewhere, server.uri)
        said = StringIO()
        archive = Archive(server.uri, "made", Console(file=said, width=300))
        assert list(archive.look_up()) == [run.identity]
    finally:
        server.kill()
    tried = planner(archive)
    assert [found.folder for found in tried(0, values)] == [run.folder]
    assert status_of(run.folder) is None
    assert said.getvalue().count("trying again") == 1
    assert "until then, it and others are trained here" in " ".join(said.getvalue().split())
    assert archive.look_up() == {}
