"""Encoders loaded from what runs and exports leave."""

from pathlib import Path

import pytest
import torch

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data.text import CaptionTokenizer, save_tokenizer
from mac_ray.encoder import load_encoder
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.training import checkpoint
from mac_ray.training.distributed import Worker
from mac_ray.training.evaluation import embed_split
from mac_ray.training.first_weights import first_model
from mac_ray.training.folder import RunFolder
from mac_ray.training.inputs import reader
from mac_ray.training.start import prepare
from tests.checkpoints import save_text_tower

CAPTIONS = ["a red ball rolls left", "a blue box", "two things"]


def clips_of(config: Config, frames: int = 4, batch: int = 3) -> torch.Tensor:
    size = config.data.image_size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, frames, 3, size, size), dtype=torch.uint8, generator=generator)


def saved_run(config: Config, folder: Path, steps: tuple[int, ...] = (3,)) -> tuple[RunFolder, DualEncoder]:
    """A run as training lays it out, with a model of other random weights at each of its steps."""
    run = RunFolder(folder)
    folder.mkdir()
    run.config.write_text(config_file.to_yaml(config))
    save_tokenizer(config.model.text, CAPTIONS, run.tokenizer)
    tokenizer = CaptionTokenizer(run.tokenizer, config.data.max_caption_tokens)
    for step in steps:
        model = build_model(
            config.model, config.data, tokenizer.vocabulary_size, tokenizer.pad_token, seed=step
        )
        checkpoint.save(run.checkpoints, step, model.state_dict(), {"step": step}, keep=len(steps))
    return run, model.eval()


def test_encoder_of_a_run_gives_the_vectors_of_its_newest_checkpoint(tiny: Config, tmp_path: Path) -> None:
    run, model = saved_run(tiny, tmp_path / "run", steps=(3, 7))
    encoder = load_encoder(run.path)
    clips = clips_of(tiny)
    tokens = encoder.tokenizer(CAPTIONS)
    with torch.no_grad():
        video = model.encode_video(clips)
        text = model.encode_text(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.attended))
    torch.testing.assert_close(encoder.embed_clips(clips), video)
    torch.testing.assert_close(encoder.embed_texts(CAPTIONS), text)
    torch.testing.assert_close(encoder.embed_texts(CAPTIONS).norm(dim=1), torch.ones(3))


def test_encoder_of_an_older_checkpoint_is_not_that_of_the_newest(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run", steps=(3, 7))
    older, newer = sorted(run.checkpoints.iterdir())
    clips = clips_of(tiny)
    assert torch.equal(load_encoder(newer).embed_clips(clips), load_encoder(run.path).embed_clips(clips))
    assert not torch.equal(load_encoder(older).embed_clips(clips), load_encoder(newer).embed_clips(clips))


def test_videos_by_path_have_the_vectors_that_evaluation_scores(tiny: Config, tmp_path: Path) -> None:
    run = prepare(tiny, tmp_path, tmp_path, lambda *_: None)
    tokenizer = CaptionTokenizer(run.folder.tokenizer, tiny.data.max_caption_tokens)
    model = first_model(run.config, run.folder, tokenizer)
    checkpoint.save(run.folder.checkpoints, 1, model.state_dict(), {"step": 1}, keep=1)
    test = reader(run.data.test, "test", run.config, lambda *_: None)
    expected = embed_split(model, test, tokenizer, run.config, Worker())
    encoder = load_encoder(run.folder.path)
    found = encoder.embed_videos([sample.source.place for sample in run.data.test])
    torch.testing.assert_close(found, expected.video, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.embed_texts(expected.captions), expected.text, rtol=1e-4, atol=1e-5)


def test_no_captions_give_no_rows(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    assert load_encoder(str(run.path)).embed_texts([]).shape == (0, tiny.model.embedding_size)


def test_captions_beyond_one_chunk_are_the_captions_one_by_one(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    encoder = load_encoder(run.path)
    many = [CAPTIONS[number % 3] for number in range(300)]
    alone = torch.cat([encoder.embed_texts([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(encoder.embed_texts(many), alone.repeat(100, 1), rtol=1e-4, atol=1e-6)


def test_encoder_needs_no_text_checkpoint_any_more(tiny_overrides: list[str], tmp_path: Path) -> None:
    source = save_text_tower(tmp_path / "distilbert", ["a", "red"], vocab_size=11)
    config = config_file.load(None, [*tiny_overrides, f"model.text.pretrained={source}"])
    run, _ = saved_run(config, tmp_path / "run")
    expected = load_encoder(run.path).embed_texts(CAPTIONS)
    source.rename(tmp_path / "gone")
    assert torch.equal(load_encoder(run.path).embed_texts(CAPTIONS), expected)


# ---------------------------------------------------------------- what is refused


def test_folder_that_is_no_encoder_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no encoder: .*mac_ray\.export") as refused:
        load_encoder(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_checkpoint_taken_out_of_its_run_is_refused_with_the_remedy(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    (run.checkpoints / "step_00000003").rename(tmp_path / "step_00000003")
    with pytest.raises(ConfigError, match=r"config\.yaml is missing; .*mac_ray\.export"):
        load_encoder(tmp_path / "step_00000003")


def test_weights_of_another_model_are_refused_by_their_file(
    tiny_overrides: list[str], tiny: Config, tmp_path: Path
) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    run.config.write_text(
        config_file.to_yaml(config_file.load(None, [*tiny_overrides, "model.video.depth=3"]))
    )
    with pytest.raises(ConfigError, match=r"model\.safetensors are damaged, or not of the model in .*config"):
        load_encoder(run.path)


def test_damaged_weights_are_refused_by_their_file(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    weights = run.checkpoints / "step_00000003/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(
        ConfigError, match=r"model\.safetensors are damaged.*; give another .* in .*/checkpoints$"
    ):
        load_encoder(run.path)
