"""Weights scored as they are: the same scores as at the end of training, and other ones where asked for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mac_ray import pretrain
from mac_ray.ablation import Sweep
from mac_ray.ablation.plan import expand
from mac_ray.bench.__main__ import main as bench
from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data import manifest_writer
from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.sets import open_set
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED
from mac_ray.evaluate import main
from mac_ray.export import main as export
from mac_ray.tracking.journal import read, status_of
from tests.runs import TINY, UNTRACKED
from tests.training.whole_runs import trained


@pytest.fixture(scope="module")
def run(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that has finished, and keeps its checkpoints of several steps."""
    folder = tmp_path_factory.mktemp("trained")
    options = [*TINY, f"storage.cache={shared_cache}", "storage.keep_checkpoints=9"]
    return trained(config_file.load(None, options), folder).folder.path


@pytest.fixture
def here(tmp_path: Path, shared_cache: Path) -> list[str]:
    """Options by which what is left goes to tmp_path, to no MLflow, and is computed by one thread."""
    return [
        "--without-ray",
        f"storage.runs={tmp_path / 'runs'}",
        f"storage.cache={shared_cache}",
        UNTRACKED,
        "cluster.threads=1",
    ]


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "scores.json").read_text())
    return found


def evaluated(name: str, runs: Path) -> Path:
    (folder,) = runs.glob(f"{name}-??????????")
    return folder


def test_scores_are_those_of_the_end_of_training(run: Path, here: Sequence[str], tmp_path: Path) -> None:
    assert main([str(run), *here]) == 0
    folder = evaluated("tiny-on-shapes_one_caption", tmp_path / "runs")
    assert summary_of(folder) == summary_of(run)
    assert (folder / "ranks.parquet").read_bytes() == (run / "ranks.parquet").read_bytes()
    assert status_of(folder) == "FINISHED"
    pictures = [path.name for path in (folder / "pictures").iterdir()]
    assert pictures == ["retrieved.png"]  # nothing was hidden of which there could be another
    assert not (folder / "initial.safetensors").exists()
    tags: dict[str, str] = {}
    for record in read(folder / "journal.jsonl"):
        if record["kind"] == "tags":
            tags |= record["values"]
    assert tags["evaluated"] == f"{run.name}/step_00000011"


def test_same_command_again_shows_the_scores_and_scores_nothing(
    run: Path, here: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), *here]) == 0
    journal = evaluated("tiny-on-shapes_one_caption", tmp_path / "runs") / "journal.jsonl"
    first, before = capsys.readouterr().out, journal.read_bytes()
    assert main([str(run), *here, "cluster.decoder=pyav"]) == 0
    again = capsys.readouterr().out
    assert journal.read_bytes() == before
    assert not (journal.parent / "initial.safetensors").exists()
    assert "has already finished; its scores are these" in again
    assert [line for line in first.splitlines() if "│" in line] == [
        line for line in again.splitlines() if "│" in line
    ]


def test_other_frames_another_protocol_and_an_older_checkpoint_are_runs_of_their_own(
    run: Path, here: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert main([str(run), *here, "evaluation.frames=2", "evaluation.also=[{frames: 4}]"]) == 0
    two, own = summary_of(evaluated("tiny-on-shapes_one_caption-2_frames", runs)), summary_of(run)
    assert two["metrics"] != own["metrics"] == two["also"][0]["metrics"]
    assert main([str(run), *here, "evaluation.protocol=paragraph"]) == 0
    assert summary_of(evaluated("tiny-on-shapes_paragraph", runs))["scored"] == "shapes_paragraph"
    assert main([str(run), *here, "evaluation.frames=8", "model.video.inflate=linear"]) == 0
    eight = evaluated("tiny-on-shapes_one_caption-8_frames", runs)
    assert summary_of(eight)["metrics"] != own["metrics"]
    assert "is not the last of its run" not in capsys.readouterr().out
    assert main([str(run / "checkpoints/step_00000003"), *here, "name=older"]) == 0
    assert f"{run.name}/step_00000003 is not the last of its run" in capsys.readouterr().out
    assert summary_of(evaluated("older", runs))["metrics"] != own["metrics"]


def test_set_of_a_test_split_alone_is_scored_by_an_export_whose_run_is_gone(
    run: Path, tiny: Config, here: Sequence[str], shared_cache: Path, tmp_path: Path
) -> None:
    made = open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None)
    rows = [
        Row(sample.id, sample.source.place, sample.kind, sample.split, sample.captions)
        for sample in Manifest.open(made.path, made.root)
        if sample.split == "test"
    ]
    own = tmp_path / "own.parquet"
    manifest_writer.write(own, rows, "own", made.root)
    assert export([str(run), str(tmp_path / "taken")]) == 0
    for number, path in enumerate(sorted((tmp_path / "taken").iterdir())):
        path.rename(tmp_path / f"blob{number}")  # as Hugging Face keeps what it has fetched
        path.symlink_to(tmp_path / f"blob{number}")
    options = {"kind": "manifest", "path": own, "root": made.root}
    own_set = [f"data.sets.my own.{key}={value}" for key, value in options.items()]
    given = [str(tmp_path / "taken"), *here, *own_set, "evaluation.data=my own"]
    assert main(given) == 0
    folder = evaluated("tiny-on-my_own_one_caption", tmp_path / "runs")
    assert config_file.load(folder / "config.yaml").name == "tiny-on-my_own_one_caption"
    assert summary_of(folder)["metrics"] == summary_of(run)["metrics"]


def test_pretrain_of_no_stages_scores_the_weights_it_is_given(
    run: Path, here: Sequence[str], tiny_overrides: Sequence[str], tmp_path: Path
) -> None:
    sizes = [option for option in tiny_overrides if not option.startswith(("stages.", "name="))]
    assert pretrain.main([*sizes, *here, "stages=[]", f"model.pretrained={run}", "name=given"]) == 0
    assert summary_of(evaluated("given", tmp_path / "runs"))["metrics"] == summary_of(run)["metrics"]


def test_weights_that_compute_nothing_finite_are_said_to_and_may_be_scored_again(
    run: Path, here: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(run), str(tmp_path / "taken")]) == 0
    weights = load_file(tmp_path / "taken/model.safetensors")
    weights["vid_proj.weight"] = torch.full_like(weights["vid_proj.weight"], torch.inf)
    save_file(weights, tmp_path / "taken/model.safetensors")
    assert main([str(tmp_path / "taken"), *here]) == EXIT_FAILED
    said = " ".join(capsys.readouterr().out.split())
    assert "after step 0 the model's embeddings are not finite; set precision=fp32" in said
    assert "the same command scores it again" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is neither a folder nor the id of a run in MLflow"),
        (["."], ". is no encoder: it is neither the folder of a run that has saved a checkpoint"),
        (
            ["{run}", "stages.0.epochs=2"],
            "'stages.0.epochs=2' is about training, of which there is none here",
        ),
        (["{run}", "masking.video.ratio=0.5"], "'masking.video.ratio=0.5' is about training"),
        (
            ["{run}", "model.pretrained=a.pth"],
            "'model.pretrained=a.pth' gives other weights than {run}/check",
        ),
        (["{run}", "model.video.num_heads=4"], "model.video.num_heads is 4, but {run}/checkpoints/"),
        (["{run}", "evaluation.data=movies"], "evaluation.data names 'movies', but data.sets has 'shapes'"),
        (["{run}", "evaluation.frames=8"], "evaluation.frames is 8, but model.video.max_frames is 4"),
        (["{run}", "model.video.max_frames=8"], "model.video.max_frames is 8, but {run}/checkpoints/"),
        (
            ["{run}", "evaluation.protocol=msvd"],
            "evaluation.protocol is msvd, but data.sets.shapes is another",
        ),
        (
            ["{run}", "evaluation.masked_views={{}}"],
            "evaluation.masked_views follows training, but stages is",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_sentence_and_nothing_is_left(
    arguments: Sequence[str],
    sentence: str,
    run: Path,
    here: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*(argument.format(run=run) for argument in arguments), *here]) == EXIT_BAD_INPUT
    said = capsys.readouterr().out
    assert said.lstrip().startswith("error: ")
    assert sentence.format(run=run) in said
    assert list(tmp_path.glob("runs/*/journal.jsonl")) == []


def test_dry_run_prints_the_config_that_scores_the_same(
    run: Path, here: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), *here, "--dry-run"]) == 0
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    assert not (tmp_path / "runs").exists()
    assert pretrain.main([str(tmp_path / "config.yaml"), "--without-ray"]) == 0
    folder = evaluated("tiny-on-shapes_one_caption", tmp_path / "runs")
    assert summary_of(folder) == summary_of(run)


NO_STAGES = ("stages=[]", "model.pretrained=weights.pth")


@pytest.mark.parametrize("bench_of", ["flops", "step", "data"])
def test_bench_of_what_trains_nothing_is_refused(bench_of: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([bench_of, *NO_STAGES]) == EXIT_BAD_INPUT
    assert "stages is empty, so nothing is trained, but benchmarks are of training" in capsys.readouterr().out


def test_sweep_of_what_trains_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"stages is empty, so nothing is trained, but a sweep compares what is"
    ):
        expand(
            Sweep(
                name="s",
                question="?",
                base="configs/ablation.yaml",
                variants=[("a", dict(config_file.parsed_override(option) for option in NO_STAGES))],
            )
        )
