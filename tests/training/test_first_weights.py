"""Weights that a run starts from: resolved and refused on the driver, read by workers from the run's folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import build_model
from mac_ray.training import checkpoint
from mac_ray.training.distributed import Worker
from mac_ray.training.folder import RunFolder
from mac_ray.training.loop import train
from mac_ray.training.start import PreparedRun, parameters, prepare, tags
from tests.checkpoints import save_text_tower
from tests.runs import the_run
from tests.training.whole_runs import first_weights


def prepared(overrides: Sequence[str], folder: Path) -> PreparedRun:
    return prepare(config_file.load(None, overrides), folder, folder, lambda *_: None)


def image_vit(path: Path, seed: int = 0) -> None:
    """Of the size of the tiny run's tower."""
    torch.manual_seed(seed)
    model = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8
    )
    path.parent.mkdir(exist_ok=True)
    save_file(model.state_dict(), path)


# ---------------------------------------------------------------- what training starts from


def test_run_without_sources_starts_from_its_seed_alone(tiny: Config, tiny_overrides: list[str]) -> None:
    run = prepared(tiny_overrides, Path("/"))
    assert not run.folder.initial.exists()
    tokenizer = CaptionTokenizer(run.folder.tokenizer, tiny.data.max_caption_tokens)
    expected = build_model(tiny.model, tiny.data, tokenizer.vocabulary_size, tokenizer.pad_token, tiny.seed)
    assert all(torch.equal(first_weights(run)[name], value) for name, value in expected.state_dict().items())


def test_workers_start_from_the_imported_weights_though_their_source_is_gone(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    save_text_tower(tmp_path / "text", ["a", "red", "blue"])
    image, text = load_file(tmp_path / "vit.safetensors"), load_file(tmp_path / "text/model.safetensors")
    given = ["model.video.pretrained=vit.safetensors", "model.text.pretrained=text"]
    run = prepared([*tiny_overrides, *given], tmp_path)
    (tmp_path / "vit.safetensors").unlink()
    shutil.rmtree(tmp_path / "text")
    found = first_weights(run)
    for name in ("pos_embed", "blocks.1.mlp.fc2.weight"):
        assert torch.equal(found[f"video_model.{name}"], image[name])
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(found[f"text_model.{name}"], text[name])


def test_heads_and_time_of_a_run_from_an_image_vit_are_those_of_its_seed(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    given = [*tiny_overrides, "model.video.temporal_init=random"]
    from_seed = first_weights(prepared(given, tmp_path))
    imported = first_weights(prepared([*given, "model.video.pretrained=vit.safetensors"], tmp_path))
    for name in ("vid_proj.weight", "video_model.blocks.0.timeattn.qkv.weight"):
        assert torch.equal(from_seed[name], imported[name])
    assert not torch.equal(from_seed["video_model.pos_embed"], imported["video_model.pos_embed"])


def test_run_from_another_run_takes_its_newest_weights_and_tokeniser(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    first = prepared([*tiny_overrides, "seed=3"], tmp_path)
    trained = first_weights(first)
    checkpoint.save(first.folder.checkpoints, 2, trained, {"step": 2}, keep=2)
    run = prepared([*tiny_overrides, f"model.pretrained=runs/{first.name}"], tmp_path)
    found = first_weights(run)
    assert all(torch.equal(found[name], value) for name, value in trained.items())
    assert run.folder.tokenizer.read_bytes() == first.folder.tokenizer.read_bytes()


def test_training_from_an_image_vit_ends_and_can_be_continued_without_it(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    run = prepared([*tiny_overrides, "model.video.pretrained=vit.safetensors"], tmp_path)
    (tmp_path / "vit.safetensors").unlink()
    run.folder.stop_request.touch()
    assert train(run.config, run.folder, Worker(), None) == "interrupted"
    run.folder.stop_request.unlink()
    newest = checkpoint.latest(run.folder.checkpoints)
    assert newest is not None
    after_one_step = load_file(newest / "model.safetensors")
    moved = after_one_step["video_model.pos_embed"] - first_weights(run)["video_model.pos_embed"]
    assert 0 < moved.abs().max() < 0.02  # a step of AdamW moves a weight by about the learning rate


# ---------------------------------------------------------------- identity


def test_identity_is_of_the_content_of_sources_and_not_their_path(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))

    def identity(source: str) -> str:
        return prepared([*tiny_overrides, f"model.video.pretrained={source}"], tmp_path).identity

    here = identity("vit.safetensors")
    assert identity(str(tmp_path / "copy/vit.safetensors")) == here
    torch.save(load_file(tmp_path / "vit.safetensors"), tmp_path / "vit.pth")
    assert identity("vit.pth") == here
    image_vit(tmp_path / "vit.safetensors", seed=1)
    assert identity("vit.safetensors") != here
    assert prepared(tiny_overrides, tmp_path).identity != here


def test_identity_of_a_text_checkpoint_and_its_tokeniser_is_of_their_content(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        save_text_tower(tmp_path / name / "text", ["a", "red", "blue"])
    identities = [
        prepared([*tiny_overrides, f"model.text.pretrained={name}/text"], tmp_path).identity
        for name in ("one", "two")
    ]
    assert identities[0] == identities[1]
    file = tmp_path / "two/text/tokenizer.json"
    file.write_text(file.read_text().replace('"red"', '"green"'))
    changed = prepared([*tiny_overrides, "model.text.pretrained=two/text"], tmp_path)
    assert changed.identity != identities[0]


def test_where_weights_came_from_and_what_they_are_is_recorded(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    run = prepared([*tiny_overrides, "model.video.pretrained=vit.safetensors"], tmp_path)
    assert tags(run)["weights.video"] == str(tmp_path / "vit.safetensors")
    assert parameters(run)["model.video.pretrained"] == run.sources["model.video.pretrained"]
    assert parameters(run)["model.video.pixels"] == "imagenet"


# ---------------------------------------------------------------- what is refused before training


def test_missing_or_broken_source_is_refused_by_its_place(tiny_overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("not weights")
    for source, said in (("none.pth", "no such file"), ("notes.pth", "no checkpoint")):
        given = [*tiny_overrides, f"model.pretrained={source}", "model.text.tokenizer=t"]
        with pytest.raises(ConfigError, match=rf"model\.pretrained = '{tmp_path}/{source}'.*{said}"):
            prepared(given, tmp_path)


def test_image_vit_of_another_size_is_refused_before_training(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    given = [*tiny_overrides, "model.video.pretrained=vit.safetensors", "model.video.depth=3"]
    with pytest.raises(ConfigError, match=r"model\.video says .*'depth': 3"):
        prepared(given, tmp_path)


def test_checkpoint_file_without_a_tokeniser_is_refused_with_the_remedy(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    with pytest.raises(ConfigError, match=r"brings no tokeniser; give model\.text\.tokenizer"):
        prepared([*tiny_overrides, "model.pretrained=vit.safetensors"], tmp_path)


def test_folder_that_is_no_run_is_refused(tiny_overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty is no encoder"):
        prepared([*tiny_overrides, "model.pretrained=empty"], tmp_path)


@pytest.mark.parametrize(
    "change", ["model.video.residual=timesformer", "model.video.num_heads=4", "model.video.pixels=half"]
)
def test_run_whose_weights_would_compute_something_else_is_refused(
    tiny_overrides: list[str], tmp_path: Path, change: str
) -> None:
    first = prepared(tiny_overrides, tmp_path)
    checkpoint.save(first.folder.checkpoints, 2, first_weights(first), {"step": 2}, keep=2)
    place, _, value = change.partition("=")
    run = f"runs/{first.name}"
    for source in (
        run,
        f"{run}/checkpoints/step_00000002",
        f"{run}/checkpoints/step_00000002/model.safetensors",
    ):
        with pytest.raises(ConfigError, match=rf"{place} is '?{value}'?, but .* was trained with"):
            prepared([*tiny_overrides, f"model.pretrained={source}", change], tmp_path)


def test_run_folder_is_left_without_initial_weights_when_they_do_not_fit(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    image_vit(tmp_path / "vit.safetensors")
    given = [*tiny_overrides, "model.video.pretrained=vit.safetensors", "model.video.width=64"]
    with pytest.raises(ConfigError):
        prepared(given, tmp_path)
    assert not RunFolder(the_run(tmp_path / "runs")).initial.exists()
