"""Whole dual encoders: Frozen in Time checkpoints against its formulas, and our own at other sizes.

`FrozenInTime` below is written from the formulas and parameter names of the original (methods of Bain et al.
2021), in double precision, and shares nothing with the towers under test.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import DistilBertConfig, DistilBertModel

from mac_ray.config import ConfigError, Data, Model
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.imported import initial_model, weight_fingerprints
from mac_ray.model.positions import inflate_time, resize_grid
from mac_ray.model.video import PIXELS

WIDTH, HEADS, DEPTH, PATCH, SIZE, FRAMES, EMBEDDING = 12, 2, 2, 4, 12, 4, 6
PATCHES = (SIZE // PATCH) ** 2
TEXT = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
VOCABULARY, POSITIONS = 30, 16
DATA = Data(image_size=SIZE, max_caption_tokens=10)


def frozen_weights(frames: int = FRAMES, prefix: str = "") -> dict[str, Tensor]:
    """Random values under every name of a Frozen in Time checkpoint, tiny."""
    torch.manual_seed(0)
    sizes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + PATCHES, WIDTH),
        "temporal_embed": (1, frames, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for number in range(DEPTH):
        for norm in ("norm1", "norm2", "norm3"):
            sizes |= {f"blocks.{number}.{norm}.{part}": (WIDTH,) for part in ("weight", "bias")}
        for layer, rows, columns in (
            *(("attn.qkv", 3 * WIDTH, WIDTH), ("attn.proj", WIDTH, WIDTH)),
            *(("timeattn.qkv", 3 * WIDTH, WIDTH), ("timeattn.proj", WIDTH, WIDTH)),
            *(("mlp.fc1", 4 * WIDTH, WIDTH), ("mlp.fc2", WIDTH, 4 * WIDTH)),
        ):
            sizes[f"blocks.{number}.{layer}.weight"] = (rows, columns)
            sizes[f"blocks.{number}.{layer}.bias"] = (rows,)
    found = {f"video_model.{name}": 0.4 * torch.randn(size) for name, size in sizes.items()}
    text = DistilBertModel(DistilBertConfig(vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, **TEXT))
    found |= {f"text_model.{name}": torch.randn(value.shape) for name, value in text.state_dict().items()}
    found |= {"txt_proj.1.weight": torch.randn(EMBEDDING, 8), "txt_proj.1.bias": torch.randn(EMBEDDING)}
    found |= {"vid_proj.0.weight": torch.randn(EMBEDDING, WIDTH), "vid_proj.0.bias": torch.randn(EMBEDDING)}
    return {prefix + name: tensor for name, tensor in found.items()}


def checkpoint(folder: Path, weights: dict[str, Tensor]) -> str:
    """A file as the original's trainer writes it."""
    path = folder / "frozen.pth.tar"
    torch.save({"arch": "FrozenInTime", "epoch": 7, "state_dict": weights, "monitor_best": 0.5}, path)
    return str(path)


def section_of(source: str | None, **video: Any) -> Model:
    sizes = {"patch_size": PATCH, "width": WIDTH, "depth": DEPTH, "num_heads": HEADS, "max_frames": FRAMES}
    return Model.model_validate(
        {
            "pretrained": source,
            "video": sizes | video,
            "text": {"width": 8, "depth": 2, "num_heads": 2},
            "embedding_size": EMBEDDING,
        }
    )


def imported(section: Model, data: Data = DATA, vocabulary: int = VOCABULARY) -> DualEncoder:
    return initial_model(section, data, vocabulary, pad_token=0, seed=0).eval()


def clips_of(frames: int, batch: int = 2, size: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, frames, 3, size, size), dtype=torch.uint8, generator=generator)


class FrozenInTime:
    """The original's formulas over a checkpoint's own names."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = {name: tensor.double() for name, tensor in weights.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[f"video_model.{name}"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", x, self[f"{name}.weight"]) + self[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self[f"{name}.weight"], self[f"{name}.bias"], eps=1e-6)

    def attention(self, name: str, x: Tensor, groups: list[list[int]]) -> Tensor:
        """One clip (tokens, width). The class token asks all; a group's members ask it and each other."""
        query, key, value = self.linear(f"{name}.qkv", x).reshape(len(x), 3, HEADS, -1).unbind(1)
        scale = (WIDTH // HEADS) ** -0.5
        output = torch.empty(len(x), HEADS, WIDTH // HEADS, dtype=x.dtype)
        for asking, seen in [([0], list(range(len(x))))] + [(group, [0, *group]) for group in groups]:
            scores = scale * torch.einsum("qhe,khe->hqk", query[asking], key[seen])
            output[asking] = torch.einsum("hqk,khe->qhe", scores.softmax(-1), value[seen])
        return self.linear(f"{name}.proj", output.reshape(len(x), WIDTH))

    def video(self, clip: Tensor) -> Tensor:
        """clip (frames, 3, size, size), normalised -> class vector (width,)."""
        frames = len(clip)
        patches = F.conv2d(
            clip.double(), self["patch_embed.proj.weight"], self["patch_embed.proj.bias"], stride=PATCH
        )
        patches = patches.flatten(2).transpose(1, 2).reshape(frames * PATCHES, WIDTH)
        x = torch.cat([self["cls_token"][0], patches])
        spatial = self["pos_embed"][0]
        x = x + torch.cat([spatial[:1], spatial[1:].repeat(frames, 1)])
        x[1:] += self["temporal_embed"][0, :frames].repeat_interleave(PATCHES, 0)
        in_time = [[1 + f * PATCHES + n for f in range(frames)] for n in range(PATCHES)]
        in_space = [[1 + f * PATCHES + n for n in range(PATCHES)] for f in range(frames)]
        for number in range(DEPTH):
            block = f"blocks.{number}"
            timed = x + self.attention(f"{block}.timeattn", self.norm(f"{block}.norm3", x), in_time)
            spaced = x + self.attention(f"{block}.attn", self.norm(f"{block}.norm1", timed), in_space)
            hidden = F.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", spaced)))
            x = spaced + self.linear(f"{block}.mlp.fc2", hidden)
        return self.norm("norm", x)[0]

    def embed_video(self, clips: Tensor) -> Tensor:
        """uint8 (clips, frames, 3, size, size) -> the (clips, embedding) that go into its cosine."""
        mean, deviation = (torch.tensor(values).double()[:, None, None] for values in PIXELS["imagenet"])
        vectors = torch.stack([self.video((clip.double() / 255 - mean) / deviation) for clip in clips])
        return vectors @ self.weights["vid_proj.0.weight"].T + self.weights["vid_proj.0.bias"]

    def embed_text(self, tokens: Tensor) -> Tensor:
        model = DistilBertModel(
            DistilBertConfig(vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, **TEXT)
        ).double()
        prefix = "text_model."
        own = {name: value for name, value in self.weights.items() if name.startswith(prefix)}
        model.load_state_dict({name.removeprefix(prefix): value for name, value in own.items()})
        states = model.eval()(input_ids=tokens).last_hidden_state[:, 0]
        return states.relu() @ self.weights["txt_proj.1.weight"].T + self.weights["txt_proj.1.bias"]


# ---------------------------------------------------------------- Frozen in Time


@pytest.mark.parametrize("frames", [4, 3, 1])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_unmasked_tower_of_a_frozen_checkpoint_computes_what_the_original_does(
    tmp_path: Path, frames: int, prefix: str
) -> None:
    model = imported(section_of(checkpoint(tmp_path, frozen_weights(prefix=prefix))))
    mean, deviation = PIXELS["imagenet"]
    original = FrozenInTime(frozen_weights())
    clips = clips_of(frames)
    pixels = (clips / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    expected = torch.stack([original.video(clip) for clip in pixels])
    torch.testing.assert_close(model.video_model(pixels)[:, 0].double(), expected, rtol=1e-5, atol=1e-5)
    expected = F.normalize(original.embed_video(clips), dim=-1)
    torch.testing.assert_close(model.encode_video(clips).double(), expected, rtol=1e-5, atol=1e-5)


def test_text_of_a_frozen_checkpoint_is_embedded_as_the_original_does(tmp_path: Path) -> None:
    model = imported(section_of(checkpoint(tmp_path, frozen_weights())))
    tokens = torch.randint(0, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
    expected = F.normalize(FrozenInTime(frozen_weights()).embed_text(tokens), dim=-1)
    found = model.encode_text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_buffers_that_older_code_left_in_a_frozen_checkpoint_are_passed_over(tmp_path: Path) -> None:
    expected = imported(section_of(checkpoint(tmp_path, frozen_weights()))).state_dict()
    older = frozen_weights() | {
        "text_model.embeddings.position_ids": torch.arange(POSITIONS)[None],
        "video_model.head.weight": torch.zeros(1000, WIDTH),
    }
    found = imported(section_of(checkpoint(tmp_path, older))).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("inflate", ["zeros", "nearest", "linear"])
def test_frozen_checkpoint_of_fewer_frames_is_inflated_from_all_of_its_own(
    tmp_path: Path, inflate: Any
) -> None:
    weights = frozen_weights(frames=2)
    tower = imported(section_of(checkpoint(tmp_path, weights), max_frames=5, inflate=inflate)).video_model
    own = weights["video_model.temporal_embed"]
    assert torch.equal(tower.times(2), own)
    assert torch.equal(tower.times(5), inflate_time(own, 5, inflate))


def test_frozen_checkpoint_of_fewer_frames_keeps_them_before_zeros(tmp_path: Path) -> None:
    weights = frozen_weights(frames=2)
    tower = imported(section_of(checkpoint(tmp_path, weights), max_frames=5)).video_model
    assert torch.equal(tower.temporal_embed[:, :2], weights["video_model.temporal_embed"])
    assert torch.count_nonzero(tower.temporal_embed[:, 2:]) == 0


def test_own_weights_are_inflated_from_the_frames_they_were_trained_with(tmp_path: Path) -> None:
    trained = build_model(section_of(None), DATA, VOCABULARY, pad_token=0, seed=5)
    trained.video_model.grow(1)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    section = section_of(str(tmp_path / "model.safetensors"), inflate="nearest")
    times = imported(section).video_model.times(3)
    assert torch.equal(times, trained.video_model.temporal_embed[:, :1].expand(-1, 3, -1))


def test_frozen_checkpoint_at_another_input_size_has_its_positions_resized(tmp_path: Path) -> None:
    weights = frozen_weights()
    model = imported(section_of(checkpoint(tmp_path, weights)), DATA.model_copy(update={"image_size": 20}))
    assert torch.equal(model.video_model.pos_embed, resize_grid(weights["video_model.pos_embed"], (5, 5)))
    assert model.encode_video(clips_of(2, size=20)).shape == (2, EMBEDDING)


@pytest.mark.parametrize("zeroed", [(0, 1), (0,), ()])
def test_frozen_checkpoint_whose_time_is_uniform_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, zeroed: tuple[int, ...]
) -> None:
    """Queries and keys both: zero queries alone do not stay."""
    weights = frozen_weights()
    for name, tensor in weights.items():
        if "timeattn.qkv" in name:
            for part in zeroed:
                tensor.chunk(3)[part].zero_()
    with caplog.at_level(logging.WARNING):
        imported(section_of(checkpoint(tmp_path, weights)))
    warned = any(
        "temporal queries and keys that are all zero" in record.getMessage() for record in caplog.records
    )
    assert warned == (zeroed == (0, 1))


# ---------------------------------------------------------------- our own


@pytest.mark.parametrize("architecture", ["distilbert", "bert"])
def test_own_weights_are_imported_as_they_are(tmp_path: Path, architecture: str) -> None:
    section = section_of(None)
    text = section.text.model_copy(update={"architecture": architecture})
    section = section.model_copy(update={"text": text})
    trained = build_model(section, DATA, VOCABULARY, pad_token=0, seed=5)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    source = {"pretrained": str(tmp_path / "model.safetensors")}
    found = imported(section.model_copy(update=source)).state_dict()
    assert found.keys() == trained.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in trained.state_dict().items())


def test_own_weights_are_imported_at_other_frames_patches_and_input_size(tmp_path: Path) -> None:
    trained = build_model(section_of(None), DATA, VOCABULARY, pad_token=0, seed=5)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    section = section_of(str(tmp_path / "model.safetensors"), patch_size=6, max_frames=8)
    model = imported(section, DATA.model_copy(update={"image_size": 30}))
    assert model.video_model.patch_embed.weight.shape == (WIDTH, 3 * 6 * 6)
    assert torch.equal(model.video_model.temporal_embed[:, :4], trained.video_model.temporal_embed)
    assert model.encode_video(clips_of(8, size=30)).isfinite().all()


def test_fingerprint_of_a_source_is_of_its_content_and_not_its_path(tmp_path: Path) -> None:
    weights = frozen_weights()
    first = checkpoint(tmp_path, weights)
    (tmp_path / "elsewhere").mkdir()
    second = checkpoint(tmp_path / "elsewhere", weights)
    prints = [weight_fingerprints(section_of(source)) for source in (first, second)]
    assert prints[0] == prints[1]
    other = checkpoint(tmp_path, weights | {"txt_proj.1.bias": torch.zeros(EMBEDDING)})
    assert weight_fingerprints(section_of(other)) != prints[0]
    assert weight_fingerprints(section_of(None)) == {}


# ---------------------------------------------------------------- what is refused


def test_checkpoint_of_other_sizes_is_refused_with_both_sizes(tmp_path: Path) -> None:
    section = section_of(checkpoint(tmp_path, frozen_weights()), depth=5)
    with pytest.raises(ConfigError, match=r"model says .*'video\.depth': 5.*has .*'video\.depth': 2"):
        imported(section)


@pytest.mark.parametrize("change", [{"residual": "timesformer"}, {"pixels": "half"}])
def test_frozen_checkpoint_in_a_tower_that_computes_otherwise_is_refused(
    tmp_path: Path, change: dict[str, str]
) -> None:
    (name, value), *_ = change.items()
    with pytest.raises(ConfigError, match=rf"model\.video\.{name} is '{value}', but .* is a Frozen in Time"):
        imported(section_of(checkpoint(tmp_path, frozen_weights()), **change))


@pytest.mark.parametrize("tower", ["video", "text"])
def test_frozen_checkpoint_of_its_own_width_in_a_tower_of_other_heads_is_refused(
    tmp_path: Path, tower: str
) -> None:
    sizes = {"video": {"width": 768, "num_heads": 12}, "text": {"width": 768, "num_heads": 12}}
    sizes[tower]["num_heads"] = 4  # which divides the width as well
    section = Model.model_validate({"pretrained": checkpoint(tmp_path, frozen_weights()), **sizes})
    with pytest.raises(ConfigError, match=rf"model\.{tower}\.num_heads is 4, but .* trained with 12; set"):
        imported(section)


def test_checkpoint_with_fewer_entries_than_the_tokeniser_is_refused(tmp_path: Path) -> None:
    section = section_of(checkpoint(tmp_path, frozen_weights()))
    with pytest.raises(ConfigError, match=r"31 entries.*only 30.*model\.text\.tokenizer"):
        imported(section, vocabulary=31)


def test_checkpoint_with_fewer_positions_than_captions_is_refused(tmp_path: Path) -> None:
    section = section_of(checkpoint(tmp_path, frozen_weights()))
    with pytest.raises(ConfigError, match=r"max_caption_tokens is 17.* 16 positions"):
        imported(section, DATA.model_copy(update={"max_caption_tokens": 17}))


@pytest.mark.parametrize(
    "lost", ["video_model.temporal_embed", "vid_proj.0.weight", "video_model.patch_embed.proj.bias"]
)
def test_checkpoint_of_something_else_is_refused_by_what_it_lacks(tmp_path: Path, lost: str) -> None:
    weights = frozen_weights()
    del weights[lost]
    with pytest.raises(ConfigError, match=r"neither a Frozen in Time checkpoint nor one of mac_ray"):
        imported(section_of(checkpoint(tmp_path, weights)))


def test_checkpoint_with_a_part_that_the_model_has_no_place_for_is_refused(tmp_path: Path) -> None:
    weights = frozen_weights() | {"video_model.blocks.0.ls1.gamma": torch.ones(WIDTH)}
    with pytest.raises(ConfigError, match=r"no place for, such as video_model\.blocks\.0\.ls1\.gamma"):
        imported(section_of(checkpoint(tmp_path, weights)))


def test_two_sources_for_one_tower_are_refused() -> None:
    with pytest.raises(ValueError, match=r"brings both towers, but model\.text\.pretrained is 'bert'"):
        Model.model_validate({"pretrained": "frozen.pth.tar", "text": {"pretrained": "bert"}})
