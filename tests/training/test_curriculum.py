"""Whole curricula in miniature: sets mixed, frames growing, an unmasked tail, fine-tuning, and what is scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.console import final_tables
from mac_ray.training.distributed import Worker
from mac_ray.training.loop import train
from mac_ray.training.results import read_summary
from mac_ray.training.start import parameters
from tests.pictures import write_pictures
from tests.runs import metrics_of
from tests.training.whole_runs import assert_same, final_weights, open_journal, prepared, trained

UNMASKED = {"video": {"strategy": "none"}, "text": {"strategy": "none"}}
STAGES: list[dict[str, Any]] = [
    {
        "name": "images",
        "data": ["shapes", "pictures"],
        "mix": {"shapes": 1, "pictures": 2},
        "frames": 1,
        "epochs": 1,
    },
    {"name": "videos", "data": ["shapes"], "frames": 2, "epochs": 1},
    {"name": "unmasked", "data": ["shapes"], "frames": 2, "epochs": 0.5, "masking": UNMASKED},
    {
        "name": "tuned",
        "data": ["own"],
        "frames": 4,
        "epochs": 1,
        "fresh_optimizer": True,
        "masking": UNMASKED,
    },
]
LASTS = [4, 7, 8, 11]  # steps after each stage: 36 / 8, 26 / 8, 13 / 8, 26 / 8


def plain(count: int) -> list[tuple[str, str]]:
    """Two captions of each picture."""
    return [(f"a plain picture number {n}", f"nothing but colour {n}") for n in range(count)]


@pytest.fixture
def curriculum(
    copied_set: Callable[[Path], Config], tiny_overrides: list[str], tmp_path: Path
) -> Callable[..., Config]:
    """The four stages, with overrides: a made set and pictures, then a set that came as a manifest."""
    sets = copied_set(tmp_path / "own").model_dump(mode="json")["data"]["sets"]
    pictures = write_pictures(tmp_path / "pictures", {"train": plain(10)})
    raw = {
        "data": {"sets": {**sets, "pictures": {"kind": "manifest", "path": str(pictures)}}},
        "stages": [{"batch_size": 8, **stage} for stage in STAGES],
    }
    (tmp_path / "curriculum.yaml").write_text(yaml.safe_dump(raw))
    own = [
        override
        for override in tiny_overrides
        if not override.startswith(("stages.", "data.sets.", "tracking."))
    ]
    settings = ["cluster.cache_budget_gb=0", "tracking.log_every=1", "evaluation.data=own"]

    def configured(*overrides: str) -> Config:
        return config_file.load(tmp_path / "curriculum.yaml", [*own, *settings, *overrides])

    return configured


def test_curriculum_runs_from_images_of_two_sets_to_fine_tuning_on_another(
    curriculum: Callable[..., Config], tmp_path: Path
) -> None:
    config = curriculum(
        "model.video.inflate=linear",
        "evaluation.also=[{frames: 8}, {frames: 2, windows: 3}]",
        "evaluation.every_epochs=100",
    )
    run = trained(config, tmp_path / "runs")
    assert [leg.last for leg in run.plan] == LASTS
    points = metrics_of(run.folder.path)
    assert {step for name, step in points if name == "val/t2v/R1"} == set(LASTS)  # one after each stage
    assert [points["train/stage", step] for step in (1, 5, 8, 11)] == [0, 1, 2, 3]
    assert int(final_weights(run)["video_model._extra_state"]) == 4
    found = parameters(run)
    assert found["derived.images.samples_per_epoch.pictures"] == "24"
    assert found["derived.images.samples_per_epoch.shapes"] == "12"

    names = ["own_one_caption", "own_one_caption-8x1", "own_one_caption-2x3"]
    summary = read_summary(run.folder.scores)
    assert [scored["scored"] for scored in (summary, *summary["also"])] == names
    for scored in (summary, *summary["also"]):
        assert scored["coverage"] == [8, 8]
        for name, value in scored["metrics"].items():
            assert points[f"{scored['scored']}/{name}", LASTS[-1]] == value
    console = Console(record=True, width=100)
    console.print(final_tables(summary))
    shown = console.export_text()
    for words in ("own_one_caption: test split", "8x1: 8 frames", "2x3: 3 windows of 2 frames"):
        assert words in shown
    assert shown.count("Rsum") == 3


LATENT = [f"stages.{n}.objectives={{reconstruction: {{target: latent, depth: 1}}}}" for n in (0, 1)]


@pytest.mark.parametrize(
    "overrides", [["model.video.inflate=keep"], ["model.video.inflate=nearest", *LATENT]]
)
def test_curriculum_stopped_after_every_step_ends_as_if_untouched(
    curriculum: Callable[..., Config], tmp_path: Path, overrides: list[str]
) -> None:
    """At the border of a stage the new frames' rows are made from the trained ones once, before or after a stop."""
    config = curriculum("model.text.dropout=0.1", *overrides)
    stopped = prepared(config, tmp_path / "stopped")
    attempts = 1
    stopped.folder.stop_request.touch()
    with open_journal(stopped) as journal:
        while train(stopped.config, stopped.folder, Worker(), journal) == "interrupted":
            attempts += 1
    assert attempts == LASTS[-1] + 1
    assert_same(stopped, trained(config, tmp_path / "whole"))


def test_inflation_changes_training_only_from_where_frames_grow(
    curriculum: Callable[..., Config], tmp_path: Path
) -> None:
    losses = {}
    for how in ("keep", "zeros", "nearest"):
        run = trained(curriculum(f"model.video.inflate={how}"), tmp_path / how)
        points = metrics_of(run.folder.path)
        losses[how] = [points["train/loss", step] for step in range(1, LASTS[-1] + 1)]
    first = LASTS[0]
    assert losses["keep"][:first] == losses["zeros"][:first] == losses["nearest"][:first]
    assert len({values[first] for values in losses.values()}) == 3


def test_images_alone_are_trained_and_retrieved_by_the_same_path(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    pictures = write_pictures(tmp_path / "pictures", {"train": plain(20), "val": plain(6), "test": plain(6)})
    config = config_file.load(
        None,
        [
            *tiny_overrides,
            f"data.sets={{pictures: {{kind: manifest, path: {pictures}}}}}",
            *(f"stages.{number}.{key}" for number in (0, 1) for key in ("data=[pictures]", "frames=1")),
            "model.video.max_frames=1",
            "evaluation.data=pictures",
            "evaluation.frames=1",
            "evaluation.protocol=every_caption",
        ],
    )
    run = trained(config, tmp_path / "runs")
    summary = read_summary(run.folder.scores)
    assert summary["scored"] == "pictures_every_caption"
    assert summary["coverage"] == [6, 6]
    assert summary["chance"]["t2v/R1"] == pytest.approx(100 / 6)


# ---------------------------------------------------------------- paragraphs


def test_paragraphs_are_trained_on_scored_and_what_is_cut_off_is_reported(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    paragraphs = ["data.captions=paragraph", "evaluation.protocol=paragraph"]
    config = config_file.load(None, [*tiny_overrides, *paragraphs, "data.max_caption_tokens=20"])
    run = prepared(config, tmp_path / "runs")
    splits = ("shapes train", "shapes val", "shapes test")
    assert len(run.notes) == 3
    for note, split in zip(run.notes, splits, strict=True):
        assert note.startswith(f"100% of the texts of {split} are longer than data.max_caption_tokens 20")
    with open_journal(run) as journal:
        train(run.config, run.folder, Worker(), journal)
    last = run.plan[-1].last
    points = metrics_of(run.folder.path)
    assert points["shapes_paragraph/truncated", last] == points["val/truncated", last] == 1.0
    summary = read_summary(run.folder.scores)
    assert (summary["truncated"], summary["coverage"]) == (1.0, [8, 8])
    assert len(run.data.test[0].captions) > 1


def test_texts_that_fit_are_not_remarked_on(tiny: Config, tmp_path: Path) -> None:
    assert prepared(tiny, tmp_path).notes == []
