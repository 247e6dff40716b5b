"""Whole small runs in this process: what they leave, and that nothing but the seed decides it."""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import distributed
from torch.multiprocessing import start_processes

from mac_ray.config import ClipSampling, Config
from mac_ray.config import file as config_file
from mac_ray.data import manifest_writer
from mac_ray.errors import NonFiniteLossError, RunError, TooManyFailuresError, UndecodableSamplesError
from mac_ray.tracking.journal import points, read
from mac_ray.training import checkpoint, loop
from mac_ray.training.distributed import Worker, with_agreed_precision
from mac_ray.training.folder import RunFolder
from mac_ray.training.loop import agreed_checkpoint, note_place, train
from mac_ray.training.optim import learning_rate
from mac_ray.training.start import PreparedRun
from tests.data.conftest import make_hanging
from tests.runs import TINY_STEPS, metrics_of, rows_of
from tests.training.whole_runs import (
    SMOOTH,
    Weights,
    assert_close,
    assert_same,
    final_weights,
    first_weights,
    open_journal,
    prepared,
    trained,
    trained_on,
)


def test_train_twice_is_bit_identical(tiny: Config, tmp_path: Path) -> None:
    assert_same(trained(tiny, tmp_path / "one"), trained(tiny, tmp_path / "two"))


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
def test_train_twice_with_threads_and_every_objective_is_bit_identical(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    """From 32,768 numbers on, torch divides among threads what it sums in an order that they then make up."""
    large = ["model.video.width=64", "stages.0.batch_size=24", "stages.1.batch_size=24", "stages.0.epochs=4"]
    objectives = [
        f"objectives.{name}={{}}" for name in ("reconstruction", "masked_language", "language", "matching")
    ]
    config = config_file.load(None, [*tiny_overrides, *large, *objectives, "cluster.threads=2"])
    assert_same(trained(config, tmp_path / "one"), trained(config, tmp_path / "two"))


def without_a_value(newest: Path) -> None:
    state = torch.load(newest / "state.pt", weights_only=True)
    del state["costs"]["samples"]
    torch.save(state | {"costs": state["costs"] | {"of_old": 1}}, newest / "state.pt")


def with_state_of_other_objectives(newest: Path) -> None:
    state = torch.load(newest / "state.pt", weights_only=True)
    state["objectives"]["pairs.of_old"] = torch.zeros(1)
    torch.save(state, newest / "state.pt")


def cut_short(newest: Path) -> None:
    os.truncate(newest / "state.pt", 1000)


def with_other_weights(newest: Path) -> None:
    save_file({"of_old": torch.zeros(1)}, newest / "model.safetensors")


@pytest.mark.parametrize(
    "change", [without_a_value, with_state_of_other_objectives, cut_short, with_other_weights]
)
def test_checkpoint_that_does_not_fit_is_one_sentence_and_the_one_before_ends_the_same(
    tiny: Config, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    run = trained(tiny, tmp_path / "runs")
    expected = final_weights(run)
    newest = checkpoint.latest(run.folder.checkpoints)
    assert newest is not None
    change(newest)
    with (
        open_journal(run) as journal,
        pytest.raises(
            RunError, match=rf"cannot go on from {newest}: it is damaged, or another version .*; delete it"
        ),
    ):
        train(run.config, run.folder, Worker(), journal)
    shutil.rmtree(newest)
    assert checkpoint.latest(run.folder.checkpoints) is not None
    with open_journal(run) as journal:
        assert train(run.config, run.folder, Worker(), journal) == "finished"
    for name, tensor in final_weights(run).items():
        assert torch.equal(tensor, expected[name]), name


def test_train_with_another_seed_differs(tiny: Config, tmp_path: Path) -> None:
    one = final_weights(trained(tiny, tmp_path / "one"))
    other = final_weights(trained(tiny.model_copy(update={"seed": 1}), tmp_path / "two"))
    assert not torch.equal(one["vid_proj.weight"], other["vid_proj.weight"])


def test_train_leaves_scores_ranks_pictures_and_metrics(tiny: Config, tmp_path: Path) -> None:
    run = trained(tiny, tmp_path)
    for path in (run.folder.scores, run.folder.ranks, *run.folder.pictures.iterdir()):
        assert path.stat().st_size > 0
    assert len(list(run.folder.pictures.iterdir())) == 2
    points = metrics_of(run.folder.path)
    assert {step for name, step in points if name == "shapes_one_caption/t2v/R1"} == {TINY_STEPS}
    assert {step for name, step in points if name == "train/loss"} == {2, 4, 6, 8, 10, TINY_STEPS}
    # evaluated once an epoch (3 steps) within each stage, and at the end of each
    assert {step for name, step in points if name == "val/t2v/R1"} == {3, 6, 8, TINY_STEPS}
    assert points["cost/samples", TINY_STEPS] == TINY_STEPS * 8


def test_train_logs_its_costs_wherever_it_logs_losses_or_scores(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    config = config_file.load(None, [*tiny_overrides, "tracking.log_every=4"])
    run = trained(config, tmp_path)
    by_name = points(run.folder.path, "")
    logged = {step for name in ("train/loss", "val/t2v/R1") for step, _ in by_name[name]}
    assert logged == {3, 4, 6, 8, TINY_STEPS}
    for name in ("samples", "visible_tokens", "flops", "seconds"):
        steps, values = zip(*by_name[f"cost/{name}"], strict=True)
        assert set(steps) == logged
        assert all(before < after for before, after in pairwise(values))
    assert [value / step for step, value in by_name["cost/samples"]] == [8] * 5


@pytest.fixture
def viewing(tiny_overrides: list[str]) -> Config:
    return config_file.load(None, [*tiny_overrides, "evaluation.masked_views={videos: 6, masks: 3}"])


def test_train_with_masked_views_measures_them_with_every_val_score_and_trains_no_different(
    tiny: Config, viewing: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = loop.masked_view_metrics

    def slowly(*given: Any) -> dict[str, float]:
        time.sleep(1)
        return measure(*given)

    monkeypatch.setattr(loop, "masked_view_metrics", slowly)
    plain, viewed = trained(tiny, tmp_path / "plain"), trained(viewing, tmp_path / "viewed")
    for name, tensor in final_weights(plain).items():
        assert torch.equal(tensor, final_weights(viewed)[name]), name
    one, other = metrics_of(plain.folder.path), metrics_of(viewed.folder.path)
    assert one.items() <= other.items()
    added = other.keys() - one.keys()
    of_views = {point for point in added if point[0].startswith("val/masked_views/")}
    assert added - of_views == {
        (f"cost/{name}", 0) for name in ("samples", "visible_tokens", "flops", "failures", "shortened")
    }
    for name in ("video", "text", "video_text", "full_video_text", "video_others", "text_spread"):
        measured = {step for metric, step in of_views if metric == f"val/masked_views/{name}"}
        assert measured == {0, 3, 6, 8, TINY_STEPS}
    # looking takes time that is not training's
    (step, seconds), *_ = points(viewed.folder.path, "cost/seconds")["cost/seconds"]
    assert step == 0
    assert seconds < 1
    picture = viewed.folder.pictures / "masked_views.png"
    sent = [record["path"] for record in read(viewed.folder.path / "journal.jsonl") if "path" in record]
    assert str(picture.relative_to(viewed.folder.path)) in sent
    assert Image.open(picture).width > 500


def test_train_with_masked_views_resumed_has_the_whole_curve(viewing: Config, tmp_path: Path) -> None:
    stopped = prepared(viewing, tmp_path / "stopped")
    for _ in range(4):
        stopped.folder.stop_request.touch()
        with open_journal(stopped) as journal:
            assert train(stopped.config, stopped.folder, Worker(), journal) == "interrupted"
    stopped.folder.stop_request.unlink()
    with open_journal(stopped) as journal:
        assert train(stopped.config, stopped.folder, Worker(), journal) == "finished"
    whole = trained(viewing, tmp_path / "whole")
    assert_same(stopped, whole)
    pictures = [run.folder.pictures / "masked_views.png" for run in (stopped, whole)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_train_after_a_stop_request_saves_and_continues_exactly(tiny: Config, tmp_path: Path) -> None:
    stopped = prepared(tiny, tmp_path / "stopped")
    attempts = 0
    while True:
        attempts += 1
        stopped.folder.stop_request.touch()  # so every attempt makes one step, also across the stages' border
        with open_journal(stopped) as journal:
            if train(stopped.config, stopped.folder, Worker(), journal) == "finished":
                break
    # the last step is followed by the test evaluation, which the attempt after it makes
    assert attempts == TINY_STEPS + 1
    assert_same(stopped, trained(tiny, tmp_path / "whole"))


def test_checkpoint_is_saved_when_it_is_time_and_changes_nothing(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    rare = [*tiny_overrides, "storage.checkpoint_every=1000"]
    hurried = [*rare, "storage.checkpoint_minutes=1e-9", f"storage.keep_checkpoints={TINY_STEPS}"]
    runs = [
        trained(config_file.load(None, given), tmp_path / name)
        for name, given in (("rare", rare), ("hurried", hurried))
    ]
    assert_same(*runs)
    assert len(list(runs[0].folder.checkpoints.iterdir())) == 2  # the ends of the stages
    assert len(list(runs[1].folder.checkpoints.iterdir())) == TINY_STEPS


def test_train_in_pieces_equals_train_at_once(tiny_overrides: list[str], tmp_path: Path) -> None:
    """Accumulation keeps the loss of the whole batch."""
    smooth = [*tiny_overrides, *SMOOTH]
    whole = trained(config_file.load(None, smooth), tmp_path / "whole")
    pieces = trained(
        config_file.load(None, [*smooth, "stages.0.accumulate=3", "stages.1.accumulate=2"]),
        tmp_path / "pieces",
    )
    assert_close(whole, pieces)
    costs = [metrics_of(run.folder.path)["cost/flops", TINY_STEPS] for run in (whole, pieces)]
    assert costs[1] == pytest.approx(costs[0] * 4 / 3)  # everything is encoded once more


def test_train_with_dropout_in_pieces_equals_train_with_dropout_resumed(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    config = config_file.load(None, [*tiny_overrides, "model.text.dropout=0.3", "stages.0.accumulate=2"])
    stopped = prepared(config, tmp_path / "stopped")
    stopped.folder.stop_request.touch()
    with open_journal(stopped) as journal:
        assert train(stopped.config, stopped.folder, Worker(), journal) == "interrupted"
        stopped.folder.stop_request.unlink()
        assert train(stopped.config, stopped.folder, Worker(), journal) == "finished"
    assert_same(stopped, trained(config, tmp_path / "whole"))


@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize(
    "overrides", [[], ["stages.0.accumulate=2", "objectives.contrastive.learn_temperature=true"]]
)
def test_train_on_several_ranks_equals_one(
    tiny_overrides: list[str], tmp_path: Path, num_ranks: int, overrides: list[str]
) -> None:
    """8 samples on 3 ranks are shares of 3, 3 and 2: losses, gradients and weights, to rounding."""
    config = config_file.load(None, [*tiny_overrides, *SMOOTH, *overrides])
    assert_close(trained(config, tmp_path / "alone"), trained_on(num_ranks, config, tmp_path / "together"))


def test_train_goes_on_with_other_workers_as_if_they_had_been_there_from_the_start(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    config = config_file.load(None, [*tiny_overrides, *SMOOTH])
    stopped = prepared(config, tmp_path / "two")
    stopped.folder.stop_request.touch()
    for _ in range(4):  # a step each
        with open_journal(stopped) as journal:
            assert train(stopped.config, stopped.folder, Worker(), journal) == "interrupted"
    stopped.folder.stop_request.unlink()
    assert_close(trained(config, tmp_path / "one"), trained_on(2, config, tmp_path / "two"))


ONE_STEP = [
    "stages=[{name: only, data: [shapes], epochs: 0.31, frames: 4, batch_size: 8}]",
    "evaluation.every_epochs=1",
    "optimizer={learning_rate: 0.5, eps: 1, weight_decay: 0, warmup: 0}",  # a step is the rate times the gradient
]


def steps_of(run: PreparedRun) -> Weights:
    """How far each weight has come in all steps."""
    before, after = first_weights(run), final_weights(run)
    # what else a tower keeps is how many frames it has seen
    return {name: after[name] - before[name] for name in after if not name.endswith("_extra_state")}


def test_gradients_are_clipped_before_the_step(tiny_overrides: list[str], tmp_path: Path) -> None:
    moved = []
    for clip in ("null", "0.001"):
        config = config_file.load(None, [*tiny_overrides, *ONE_STEP, f"optimizer.clip_norm={clip}"])
        run = trained(config, tmp_path / clip)
        moved.append(math.sqrt(sum(float(step.square().sum()) for step in steps_of(run).values())))
    assert moved[1] == pytest.approx(0.5 * 0.001, rel=0.05)
    assert moved[0] > 10 * moved[1]


def test_every_step_has_the_rate_of_its_place_in_its_stage(tiny_overrides: list[str], tmp_path: Path) -> None:
    section = "optimizer={schedule: cosine, warmup: 0.3, final: 0.1, tower_rates: {video: 0}}"
    config = config_file.load(None, [*tiny_overrides, section, "tracking.log_every=1"])
    run = trained(config, tmp_path)
    found = metrics_of(run.folder.path)
    for leg in run.plan:
        rates = config.stage_optimizer(leg.stage)
        for place in range(leg.num_steps):
            expected = learning_rate(rates, place, leg.num_steps)
            assert found["train/learning_rate", leg.first + place + 1] == pytest.approx(expected)
    moved = steps_of(run)
    stayed = {name for name, step in moved.items() if not step.any()}
    assert stayed == {name for name in moved if name.startswith("video_model.")}


def test_train_with_a_loss_that_overflows_names_step_and_parts(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    config = config_file.load(
        None, [*tiny_overrides, "optimizer.learning_rate=1e30", "optimizer.clip_norm=null"]
    )
    run = prepared(config, tmp_path)
    with open_journal(run) as journal, pytest.raises(NonFiniteLossError, match=r"step \d+ .*contrastive"):
        train(run.config, run.folder, Worker(), journal)


def test_train_whose_weights_overflow_before_an_evaluation_names_the_step_and_the_remedy(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    rare = ["tracking.log_every=1000", "storage.checkpoint_every=1000", "evaluation.every_epochs=0.3"]
    wild = ["optimizer.learning_rate=1e30", "optimizer.clip_norm=null"]
    run = prepared(config_file.load(None, [*tiny_overrides, *rare, *wild]), tmp_path)
    with open_journal(run) as journal, pytest.raises(NonFiniteLossError, match=r"step 1 .*learning_rate"):
        train(run.config, run.folder, Worker(), journal)


def test_train_on_other_samples_than_those_that_the_run_is_known_by_is_refused(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    """A manifest that is written anew while workers are started again would go on under the name of the old one."""
    config = copied_set(tmp_path / "set")
    run = prepared(config, tmp_path / "runs")
    own = run.data.manifests["own"]
    manifest_writer.write(own.path, rows_of(own)[:-1], own.name, own.root)
    with open_journal(run) as journal, pytest.raises(RunError, match=r"data\.sets\.own has other samples on"):
        train(run.config, run.folder, Worker(), journal, run.data.fingerprints)


def test_train_with_an_undecodable_test_clip_refuses_to_score(
    tiny: Config, tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    (tmp_path / "set" / "test" / "000003.mp4").write_bytes(b"not a video")
    run = prepared(config, tmp_path / "runs")
    with open_journal(run) as journal, pytest.raises(UndecodableSamplesError, match=r"1 of 8 .*000003\.mp4"):
        train(run.config, run.folder, Worker(), journal)


@pytest.mark.parametrize("split", ["val", "test"])
def test_all_that_keeps_a_split_from_being_scored_are_named_in_the_runs_folder(
    split: str, tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    """The sentence that ends the run has five; a person wants to mend them all at once."""
    config = copied_set(tmp_path / "set")
    for number in range(7):
        (tmp_path / "set" / split / f"00000{number}.mp4").write_bytes(b"not a video")
    run = prepared(config, tmp_path / "runs")
    with open_journal(run) as journal, pytest.raises(UndecodableSamplesError, match="7 of 8 samples"):
        train(run.config, run.folder, Worker(), journal)
    assert run.folder.failures(0).read_text().count(f"{split}/00000") == 7


def test_one_clip_alone_is_not_scored(tmp_path: Path, copied_set: Callable[[Path], Config]) -> None:
    config = copied_set(tmp_path / "set")
    section = config.evaluation.model_copy(update={"allow_missing": True})
    for number in range(7):
        (tmp_path / "set" / "test" / f"00000{number}.mp4").write_bytes(b"not a video")
    run = prepared(config.model_copy(update={"evaluation": section}), tmp_path / "runs")
    with (
        open_journal(run) as journal,
        pytest.raises(
            UndecodableSamplesError, match="1 of 8 samples to be scored can be decoded, and one alone"
        ),
    ):
        train(run.config, run.folder, Worker(), journal)


def test_clips_of_val_and_test_that_are_left_out_are_named_once(
    tiny: Config, tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    also = (ClipSampling(frames=2, windows=2),)
    section = config.evaluation.model_copy(update={"allow_missing": True, "also": also})
    for split in ("val", "test"):
        (tmp_path / "set" / split / "000003.mp4").write_bytes(b"not a video")
    run = trained(config.model_copy(update={"evaluation": section}), tmp_path / "runs")
    named = "".join(path.read_text() for path in run.folder.path.glob("undecodable_*.txt"))
    assert [named.count(f"{split}/000003.mp4: pyav") for split in ("val", "test")] == [1, 1]
    tags = [
        record["values"] for record in read(run.folder.path / "journal.jsonl") if record["kind"] == "tags"
    ]
    assert any(values.get("precision") == "fp32" for values in tags)


@pytest.mark.parametrize("split", ["val", "test"])
def test_scored_clip_that_hung_its_decoder_costs_no_step_and_is_tried_again_once_it_is_mended(
    split: str, tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    config = config.model_copy(
        update={
            "cluster": config.cluster.model_copy(update={"decode_timeout_s": 2.0}),
            "evaluation": config.evaluation.model_copy(update={"every_epochs": 100.0}),  # at ends of stages
        }
    )
    clip = tmp_path / "set" / split / "000003.mp4"
    sound = clip.read_bytes()
    clip.unlink()
    make_hanging(clip)
    run = prepared(config, tmp_path / "runs")
    with (
        open_journal(run) as journal,
        pytest.raises(
            UndecodableSamplesError, match=r"1 of 8 .*000003\.mp4: pyav: not done within 2 s.*goes on"
        ),
    ):
        train(run.config, run.folder, Worker(), journal)
    scored_first = run.plan[-1 if split == "test" else 0]
    assert checkpoint.latest(run.folder.checkpoints) == checkpoint.path_of(
        run.folder.checkpoints, scored_first.last
    )
    clip.write_bytes(sound)
    with open_journal(run) as journal:
        assert train(run.config, run.folder, Worker(), journal) == "finished"
    assert_same(run, trained(config, tmp_path / "whole"))


def test_train_with_an_undecodable_training_clip_goes_on_to_its_pictures(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    (tmp_path / "set" / "train" / "000001.mp4").write_bytes(b"not a video")
    data = config.data.model_copy(update={"max_bad_share": 0.5})
    run = trained(config.model_copy(update={"data": data}), tmp_path / "runs")
    assert run.folder.scores.is_file()
    assert (run.folder.pictures / "masked_clips.png").is_file()


def test_train_with_undecodable_clips_past_the_bound_stops_naming_them(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    for number in range(4):
        (tmp_path / "set" / "train" / f"00000{number}.mp4").write_bytes(b"")
    run = prepared(config, tmp_path / "runs")
    with open_journal(run) as journal, pytest.raises(TooManyFailuresError, match="could not be decoded"):
        train(run.config, run.folder, Worker(), journal)
    assert "000000.mp4" in "".join(path.read_text() for path in run.folder.path.glob("undecodable_*.txt"))


def test_set_of_a_later_stage_with_much_missing_stops_the_run_however_long_the_first_was(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    for number in range(4):  # of 26, of which one is allowed; of all that was drawn until then, 26 are
        (tmp_path / "set" / "train" / f"00000{number}.mp4").write_bytes(b"")
    first, second = config.stages
    stages = (first.model_copy(update={"data": ("shapes",), "epochs": 20.0}), second)
    data = config.data.model_copy(update={"max_bad_share": 0.05})
    run = prepared(config.model_copy(update={"data": data, "stages": stages}), tmp_path / "runs")
    with (
        open_journal(run) as journal,
        pytest.raises(TooManyFailuresError, match=rf"samples drawn in stage '{second.name}' up to step 6\d "),
    ):
        train(run.config, run.folder, Worker(), journal)


def test_share_that_may_be_missing_is_of_what_a_short_stage_draws(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    """And not of an epoch, of which it sees a third: of that it would be five of the eight."""
    config = copied_set(tmp_path / "set")
    for number in range(6):
        (tmp_path / "set" / "train" / f"{number:06d}.mp4").write_bytes(b"")
    short = [stage.model_copy(update={"epochs": 0.4}) for stage in config.stages]
    data = config.data.model_copy(update={"max_bad_share": 0.2})
    run = prepared(config.model_copy(update={"data": data, "stages": (*short,)}), tmp_path / "runs")
    said = rf"4 of the 8 samples drawn in stage '{short[0].name}' up to step 1 "
    with open_journal(run) as journal, pytest.raises(TooManyFailuresError, match=said):
        train(run.config, run.folder, Worker(), journal)


def test_failures_of_a_stage_are_counted_on_after_a_stop(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    for number in range(4):
        (tmp_path / "set" / "train" / f"00000{number}.mp4").write_bytes(b"")
    data = config.data.model_copy(update={"max_bad_share": 0.9})
    run = prepared(config.model_copy(update={"data": data}), tmp_path / "runs")
    run.folder.stop_request.touch()
    states = []
    with open_journal(run) as journal:
        while train(run.config, run.folder, Worker(), journal) == "interrupted":  # after every step
            newest = checkpoint.latest(run.folder.checkpoints)
            assert newest is not None
            states.append(torch.load(newest / "state.pt", weights_only=True))
    before = {state["failures_before"] for state in states[: TINY_STEPS - 4]}
    assert before == {0}
    (in_first,) = (state["costs"]["failures"] for state in states if state["step"] == TINY_STEPS - 3)
    assert in_first > 0
    assert {state["failures_before"] for state in states if state["step"] > TINY_STEPS - 3} == {in_first}


def test_places_of_a_run_are_told_apart_where_one_name_ends_with_another(
    tiny: Config, tmp_path: Path
) -> None:
    run = prepared(tiny, tmp_path)
    with open_journal(run) as journal:
        for workers in ("12 workers", "2 workers", "2 workers"):
            note_place(journal, {"workers": workers})
        assert journal.tag("workers") == "12 workers, then 2 workers"


def test_norm_of_gradients_is_watched_also_where_none_are_clipped(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    """A loss that is finite may have gradients that are not, and leave weights that nobody can go on from."""
    run = trained(config_file.load(None, [*tiny_overrides, "optimizer.clip_norm=null"]), tmp_path)
    assert ("train/loss/gradient_norm", TINY_STEPS) in metrics_of(run.folder.path)


def test_ranks_go_on_from_the_checkpoint_that_the_first_knows(tmp_path: Path) -> None:
    """Each has a view of its own of a shared file system, and the second has not heard of the last checkpoint."""
    for rank, steps in enumerate(((3, 6), (3,))):
        for step in steps:
            checkpoint.path_of(RunFolder(tmp_path / str(rank)).checkpoints, step).mkdir(parents=True)
    start_processes(_agree, (tmp_path,), 2, start_method="forkserver")
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["step_00000006"] * 2


def _agree(rank: int, folder: Path) -> None:
    with _group(rank, folder):
        agreed = agreed_checkpoint(RunFolder(folder / str(rank)), Worker(rank, 2))
    assert agreed is not None
    (folder / f"{rank}.txt").write_text(agreed.name)


@contextmanager
def _group(rank: int, folder: Path) -> Iterator[None]:
    """Of two ranks."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize(("able", "agreed"), [((True, True), "bf16"), ((True, False), "fp32")])
def test_ranks_compute_in_bf16_where_all_can(able: tuple[bool, bool], agreed: str, tmp_path: Path) -> None:
    start_processes(_agree_on_precision, (able, tmp_path), 2, start_method="forkserver")
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [agreed] * 2


def _agree_on_precision(rank: int, able: tuple[bool, bool], folder: Path) -> None:
    torch.backends.cpu.get_cpu_capability = lambda: "AVX512" if able[rank] else "DEFAULT"
    torch.cpu._is_avx512_bf16_supported = lambda: able[rank]
    with _group(rank, folder):
        config = with_agreed_precision(Config(precision="auto"), Worker(rank, 2))
    (folder / f"{rank}.txt").write_text(config.precision)
