"""Masking within whole runs: schedules step by step, words counted, and no dependence on the number of ranks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from mac_ray.config import Config, TextMasking
from mac_ray.config import file as config_file
from mac_ray.data.lexicon import Lexicon
from mac_ray.data.loader import Batch, TrainingBatches
from mac_ray.data.order import share_of
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.masking import TEXT_STRATEGIES, VIDEO_STRATEGIES
from mac_ray.model.views import Inputs
from mac_ray.tracking.journal import Journal
from mac_ray.training.distributed import Worker
from mac_ray.training.hiding import Hiding, open_lexicon, read_words
from mac_ray.training.inputs import reader
from mac_ray.training.loop import train
from mac_ray.training.results import _cut, picture_masked_clips
from mac_ray.training.start import PreparedRun, parameters, prepare
from tests.runs import TINY_STEPS, metrics_of
from tests.training import whole_runs


def prepared(overrides: list[str]) -> PreparedRun:
    return prepare(config_file.load(None, overrides), Path.cwd(), Path.cwd(), lambda *_: None)


class Bench:
    """The first stage of a prepared run, as a rank sees it."""

    def __init__(self, run: PreparedRun) -> None:
        self.run, self.config = run, run.config
        self.tokenizer = CaptionTokenizer(run.folder.tokenizer, self.config.data.max_caption_tokens)
        self.model: DualEncoder = build_model(
            self.config.model, self.config.data, self.tokenizer.vocabulary_size, self.tokenizer.pad_token, 0
        )
        self.lexicon: Lexicon = open_lexicon(self.config, run.folder, self.tokenizer)
        (manifest,) = run.data.train.values()
        self.reader = reader(manifest, "train", self.config, lambda *_: None)

    def batch(self, step: int, rank: int, num_ranks: int) -> tuple[Batch, slice]:
        leg = self.run.plan[0]
        batches = TrainingBatches(
            [self.reader], self.tokenizer, self.config, leg.number, leg.num_steps, rank, num_ranks
        )
        return batches[step], batches.rows

    def seen(self, step: int, rank: int = 0, num_ranks: int = 1) -> Inputs:
        hide = Hiding(self.config, self.run.plan[0], self.model, self.tokenizer, self.lexicon, Worker())
        return hide(*self.batch(step, rank, num_ranks), step)


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_clips_hidden_on_ranks_are_those_hidden_on_one(tiny_overrides: list[str], strategy: str) -> None:
    bench = Bench(prepared([*tiny_overrides, f"masking.video.strategy={strategy}"]))
    seen = bench.seen(step=1)
    for rank in range(3):
        rows = share_of(8, rank, 3)
        own = bench.seen(step=1, rank=rank, num_ranks=3)
        for name in ("clips", "visible", "draws", "samples"):
            assert torch.equal(getattr(own, name), getattr(seen, name)[rows.start : rows.stop])


@pytest.mark.parametrize("strategy", TEXT_STRATEGIES)
def test_words_hidden_on_ranks_are_those_hidden_on_one(tiny_overrides: list[str], strategy: str) -> None:
    overrides = [f"masking.text.strategy={strategy}", "masking.text.ratio=0.4"]
    bench = Bench(prepared([*tiny_overrides, *overrides]))
    seen = bench.seen(step=1)
    for rank in range(3):
        own = bench.seen(step=1, rank=rank, num_ranks=3)
        for here, row in enumerate(share_of(8, rank, 3)):
            left = own.tokens[here][own.attended[here]]
            assert left.tolist() == seen.tokens[row][seen.attended[row]].tolist()
            whole = own.caption[here][own.caption_attended[here]]
            assert whole.tolist() == seen.caption[row][seen.caption_attended[row]].tolist()


def test_masks_of_another_step_are_others(tiny_overrides: list[str]) -> None:
    bench = Bench(prepared(tiny_overrides))
    first, second = (bench.seen(step).visible for step in (0, 1))
    assert not torch.equal(first, second)


def test_words_and_draws_are_of_each_sample_and_step(tiny_overrides: list[str]) -> None:
    bench = Bench(prepared([*tiny_overrides, "masking.text.ratio=0.5"]))
    hide = Hiding(bench.config, bench.run.plan[0], bench.model, bench.tokenizer, bench.lexicon, Worker())
    batch, rows = bench.batch(0, rank=0, num_ranks=1)
    first, later = hide(batch, rows, 0), hide(batch, rows, 1)
    assert not torch.equal(first.tokens, later.tokens)
    places = first.tokens == bench.tokenizer.mask_token
    lengths = first.attended.sum(dim=1).tolist()
    alike = [places[[own == length for own in lengths]] for length in set(lengths)]
    assert any(len(own.unique(dim=0)) > 1 for own in alike)
    assert len(first.draws.unique(dim=0)) == len(first.draws)


def test_rows_that_differ_in_what_they_hide_of_clips_hide_the_same_words_and_the_other_way_round(
    tiny_overrides: list[str],
) -> None:
    def seen(*overrides: str) -> Inputs:
        return Bench(prepared([*tiny_overrides, "masking.text.ratio=0.4", *overrides])).seen(step=1)

    plain, tubes, other_words = (
        seen(),
        seen("masking.video.strategy=tube", "masking.video.ratio=0.9"),
        seen("masking.text.strategy=token"),
    )
    assert torch.equal(plain.tokens, tubes.tokens)
    assert torch.equal(plain.draws, tubes.draws)
    assert torch.equal(plain.visible, other_words.visible)


def test_schedules_of_both_modalities_follow_the_share_of_the_stage_s_steps(
    tiny_overrides: list[str],
) -> None:
    schedules = [
        "masking.video.ratio={shape: linear, start: 0.75, end: 0.25}",
        "masking.text.ratio={shape: step, start: 0.0, end: 0.9, at: 0.5}",
    ]
    bench = Bench(prepared([*tiny_overrides, *schedules]))
    mask = bench.tokenizer.mask_token
    for step in range(8):  # of the stage's 8
        seen = bench.seen(step)
        assert seen.visible.shape[2] == 16 - int((0.75 - 0.5 * step / 8) * 16)
        assert (mask in seen.tokens) == (step >= 4)


def test_frequency_goes_by_words_that_are_counted_once_and_kept(tiny_overrides: list[str]) -> None:
    run = prepared([*tiny_overrides, "stages.0.masking.text.strategy=frequency"])
    counts = json.loads(run.folder.words.read_text())
    captions = [sample.captions for manifest in run.data.train.values() for sample in manifest]
    given = " ".join(caption for own in captions for caption in own).lower().split()
    assert counts["a"] == given.count("a") > 0
    run.folder.words.write_text(json.dumps({"a": 1, "red": 1}))
    again = prepared([*tiny_overrides, "stages.0.masking.text.strategy=frequency"])
    assert json.loads(again.folder.words.read_text()) == {"a": 1, "red": 1}
    assert not prepared(tiny_overrides).folder.words.exists()


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize(
    ("video", "text"),
    [
        ("frame", "drop"),
        ("resize", "frequency"),
        ("attention_keep_high", "word_class"),
        ("motion", "truncate"),
    ],
)
def test_run_with_what_changes_shapes_or_needs_more_trains_and_counts_its_cost(
    tiny_overrides: list[str], video: str, text: str
) -> None:
    overrides = [f"masking.video.strategy={video}", f"masking.text.strategy={text}", "stages.0.accumulate=2"]
    run = prepared([*tiny_overrides, *overrides])
    with Journal.open_or_create(run.folder.path, name="run", experiment="test", identity="1") as journal:
        assert train(run.config, run.folder, Worker(), journal) == "finished"
    points = metrics_of(run.folder.path)
    tokens = {"frame": 2 * 16, "resize": 4 * 9, "attention_keep_high": 4 * 7, "motion": 4 * 7}[video]
    assert points["cost/visible_tokens", TINY_STEPS] == 8 * (8 * tokens + 3 * 4 * 16)


def test_parameters_say_what_is_seen_of_frames_and_along_a_schedule(tiny_overrides: list[str]) -> None:
    found = parameters(prepared([*tiny_overrides, "masking.video.strategy=frame"]))
    assert found["derived.masked.visible_frames"] == "2 of 4"
    assert found["derived.masked.visible_patches_per_frame"] == "16 of 16"
    assert found["derived.unmasked.visible_frames"] == "4 of 4"
    scheduled = "stages.0.masking.video.ratio={shape: cosine, start: 0.75, end: 0.0}"
    found = parameters(prepared([*tiny_overrides, scheduled]))
    assert found["derived.masked.visible_patches_per_frame"] == "4 to 16 of 16"
    start, end = map(float, found["derived.masked.forward_gflops"].split(" to "))
    assert 1.5 * start < end


def test_guidance_is_part_of_the_cost_that_is_recorded(tiny_overrides: list[str]) -> None:
    costs = []
    for strategy in ("motion", "attention_hide_low"):
        run = prepared([*tiny_overrides, f"masking.video.strategy={strategy}"])
        costs.append(float(parameters(run)["derived.masked.forward_gflops"]))
    assert costs[1] > 1.5 * costs[0]


# ---------------------------------------------------------------- pictures


def picture(bench: Bench) -> Image.Image | None:
    return picture_masked_clips(bench.reader, bench.model, bench.config, bench.tokenizer, bench.lexicon)


def test_captions_are_read_as_the_tower_reads_them(tiny_overrides: list[str]) -> None:
    bench = Bench(prepared(tiny_overrides))
    captions = [sample.captions[0] for sample in map(bench.reader.manifest.__getitem__, range(3))]
    noise = torch.tensor([0.0, 0.9]).repeat(3, 20)  # every second word is hidden
    read = {
        strategy: read_words(
            TextMasking(strategy=strategy, ratio=0.5), captions, noise, bench.tokenizer, bench.lexicon
        )
        for strategy in ("none", "whole_word", "drop")
    }
    for caption, none, masked, dropped in zip(captions, *read.values(), strict=True):
        words = caption.lower().split()
        assert none.split() == words
        assert [word for word in masked.split() if word != "[MASK]"] == dropped.split() == words[1::2]
        assert masked.startswith("[MASK]")


def test_picture_of_hidden_words_differs_above_the_clips_alone(tiny_overrides: list[str]) -> None:
    """Of two ways of hiding that are called the same."""
    exact, drawn = (
        np.asarray(picture(Bench(prepared([*tiny_overrides, "masking.text.ratio=0.5", way]))))
        for way in ("masking.text.exact=true", "masking.text.exact=false")
    )
    rows = np.arange(len(exact)) % 130 < 14
    assert (exact[rows] != drawn[rows]).any()
    assert (exact[~rows] == drawn[~rows]).all()


def test_clips_that_are_away_by_now_make_no_picture(
    tmp_path: Path, copied_set: Callable[[Path], Config]
) -> None:
    config = copied_set(tmp_path / "set")
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"cache_budget_gb": 0.0})})
    bench = Bench(whole_runs.prepared(config, tmp_path / "runs"))
    assert picture(bench) is not None
    shutil.rmtree(tmp_path / "set" / "train")
    assert picture(bench) is None


def test_line_above_clips_is_cut_where_the_picture_ends() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (300, 20), "white"))
    long = "a red circle slides to the right [MASK] a green square that stays where it is, and a triangle"
    for width in (60, 200, 1000):
        line = _cut(long, width, draw)
        assert draw.textlength(line) <= width
        if width < 1000:
            assert line.endswith("...")
            assert draw.textlength(long[: len(line)]) > width - 20  # not much earlier
        else:
            assert line == long


@pytest.mark.parametrize("strategy", VIDEO_STRATEGIES)
def test_picture_is_grey_where_patches_are_hidden(tiny_overrides: list[str], strategy: str) -> None:
    overrides = [f"masking.video.strategy={strategy}", "masking.video.ratio=0.5"]
    bench = Bench(prepared([*tiny_overrides, *overrides]))
    sheet = picture(bench)
    assert sheet is not None
    grey = [
        sheet.getpixel(((4 + frame) * 116 + 28 * x + 14, row * 130 + 14 + 28 * y + 14)) == (110, 110, 110)
        for row in range(6)  # clips, on tiles of 112 pixels with 4 between them under 14 of text
        for frame in range(4)
        for y in range(4)
        for x in range(4)
    ]
    assert sum(grey) / len(grey) == (0.0 if strategy in ("none", "resize") else 0.5)


def test_seeds_hide_differently_in_every_pair_of_them(tiny_overrides: list[str]) -> None:
    run = prepared(tiny_overrides)
    configs = [run.config.model_copy(update={"seed": seed}) for seed in range(4)]
    seen = [Bench(replace(run, config=config)).seen(step=5) for config in configs]
    for first, second in combinations(seen, 2):
        assert not torch.equal(first.visible, second.visible)
        assert not torch.equal(first.draws, second.draws)
