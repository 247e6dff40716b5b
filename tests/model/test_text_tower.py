"""The caption encoder from sizes and from checkpoints in transformers' own format."""

import socket
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertForMaskedLM, DistilBertModel

from mac_ray.config import ConfigError, TextTower
from mac_ray.data.text import load_tokenizer
from mac_ray.model.text import build_text_tower, encode

SIZES = {"width": 8, "depth": 2, "num_heads": 2}
VOCABULARY, POSITIONS = 40, 16


def checkpoint(folder: Path, **config: Any) -> str:
    """A DistilBERT with its language head, as the public checkpoints are, in `folder`."""
    sizes = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 32} | config
    torch.manual_seed(0)
    DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, **sizes)
    ).save_pretrained(folder)
    return str(folder)


def bert_checkpoint(folder: Path, **others: Any) -> str:
    config = BertConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        **others,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return str(folder)


def tokens_of(batch: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(5, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(0))


def test_text_tower_from_sizes_has_those_sizes():
    section = TextTower(**SIZES, dropout=0.1)
    tower = build_text_tower(section, VOCABULARY, POSITIONS, pad_token=3)
    assert tower.embeddings.word_embeddings.weight.shape == (VOCABULARY, 8)
    assert tower.embeddings.word_embeddings.padding_idx == 3
    assert tower.embeddings.position_embeddings.weight.shape == (POSITIONS, 8)
    assert len(tower.transformer.layer) == 2
    tokens = tokens_of(length=POSITIONS)
    assert encode(tower, tokens, torch.ones_like(tokens, dtype=torch.bool)).shape == (3, POSITIONS, 8)


def test_text_tower_of_a_checkpoint_computes_what_transformers_does(tmp_path: Path):
    path = checkpoint(tmp_path)
    tower = build_text_tower(TextTower(pretrained=path, **SIZES), VOCABULARY, POSITIONS, pad_token=0).eval()
    reference = DistilBertForMaskedLM.from_pretrained(path).distilbert.eval()
    tokens = tokens_of()
    attended = torch.arange(7) < torch.tensor([[7], [4], [2]])
    expected = reference(input_ids=tokens, attention_mask=attended.long()).last_hidden_state
    found = encode(tower, tokens, attended)
    torch.testing.assert_close(found[attended], expected[attended], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pretrained", [False, True])
def test_dropout_of_the_config_is_at_work_while_training_and_only_then(tmp_path: Path, pretrained: bool):
    source = checkpoint(tmp_path) if pretrained else None
    section = TextTower(pretrained=source, **SIZES, dropout=0.5)
    tower = build_text_tower(section, VOCABULARY, POSITIONS, pad_token=0)
    tokens = tokens_of()
    attended = torch.ones_like(tokens, dtype=torch.bool)
    assert not torch.equal(encode(tower, tokens, attended), encode(tower, tokens, attended))
    tower.eval()
    assert torch.equal(encode(tower, tokens, attended), encode(tower, tokens, attended))


def test_text_tower_of_a_checkpoint_without_dropout_has_none_while_training(tmp_path: Path):
    section = TextTower(pretrained=checkpoint(tmp_path, dropout=0.5, attention_dropout=0.5), **SIZES)
    tower = build_text_tower(section, VOCABULARY, POSITIONS, pad_token=0)
    tokens = tokens_of()
    attended = torch.ones_like(tokens, dtype=torch.bool)
    assert torch.equal(encode(tower, tokens, attended), encode(tower, tokens, attended))


@pytest.mark.parametrize(
    ("name", "value", "only"),
    [("type_vocab_size", 1, 2), ("layer_norm_eps", 1e-3, 1e-12), ("is_decoder", True, False)],
)
def test_bert_that_a_worker_would_rebuild_as_another_is_refused(
    tmp_path: Path, name: str, value: Any, only: Any
):
    source = bert_checkpoint(tmp_path, **{name: value})
    section = TextTower(architecture="bert", pretrained=source, **SIZES)
    with pytest.raises(ConfigError, match=rf"has {name} {value}, but only {only} is known of a bert"):
        build_text_tower(section, VOCABULARY, POSITIONS, pad_token=0)


def test_text_tower_of_a_half_precision_checkpoint_holds_single_precision(tmp_path: Path):
    model = DistilBertModel(
        DistilBertConfig(vocab_size=VOCABULARY, dim=8, n_layers=2, n_heads=2, hidden_dim=32)
    )
    model.half().save_pretrained(tmp_path)
    section = TextTower(pretrained=str(tmp_path), **SIZES)
    tower = build_text_tower(section, VOCABULARY, POSITIONS, pad_token=0)
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}


def test_padding_does_not_change_the_embeddings_of_a_caption():
    tower = build_text_tower(TextTower(**SIZES), VOCABULARY, POSITIONS, pad_token=0).eval()
    tokens = tokens_of()
    attended = torch.ones_like(tokens, dtype=torch.bool)
    padding = torch.zeros(3, 5, dtype=tokens.dtype)
    alone = encode(tower, tokens, attended)
    padded = encode(tower, torch.cat([tokens, padding], 1), torch.cat([attended, padding.bool()], 1))
    torch.testing.assert_close(padded[:, :7], alone, rtol=1e-5, atol=1e-6)


def test_fused_and_written_out_attention_agree_on_padded_captions():
    tower = build_text_tower(TextTower(**SIZES), VOCABULARY, POSITIONS, pad_token=0).eval()
    tokens = tokens_of()
    attended = torch.arange(7) < torch.tensor([[7], [4], [2]])
    written_out = encode(tower, tokens, attended)
    tower.set_attn_implementation("sdpa")
    # by sample, as transformers' users give masks, and by query and key, as a GPU is given them
    for mask in (attended.long(), attended[:, None, None, :]):
        fused = tower(input_ids=tokens, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(fused[attended], written_out[attended], rtol=1e-5, atol=1e-6)


@pytest.fixture
def asked_hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of machines that anything in this process asks the network for, and does not get."""
    asked: list[str] = []

    def refuse(host: str, *_: Any, **__: Any) -> None:
        asked.append(host)
        raise socket.gaierror(f"{host} is not to be asked for")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.mark.parametrize("pickled", [False, True])
def test_local_checkpoint_and_tokeniser_are_read_without_asking_the_network(
    tmp_path: Path, asked_hosts: list[str], pickled: bool
) -> None:
    path = checkpoint(tmp_path / "model")
    if pickled:  # transformers offers to have these converted by a service
        file = Path(path) / "model.safetensors"
        torch.save(load_file(file), Path(path) / "pytorch_model.bin")
        file.unlink()
    (Path(path) / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red"]))
    build_text_tower(TextTower(pretrained=path, **SIZES), VOCABULARY, POSITIONS, pad_token=0)
    assert load_tokenizer(path).encode("red").tokens == ["[CLS]", "red", "[SEP]"]
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(timeout=5)
    assert asked_hosts == []


def test_bert_of_a_checkpoint_computes_what_transformers_does(tmp_path: Path) -> None:
    path = bert_checkpoint(tmp_path)
    section = TextTower(architecture="bert", pretrained=path, **SIZES)
    tower = build_text_tower(section, VOCABULARY, POSITIONS, pad_token=0).eval()
    tokens = tokens_of()
    attended = torch.arange(7) < torch.tensor([[7], [4], [2]])
    reference = BertModel.from_pretrained(path).eval()
    expected = reference(input_ids=tokens, attention_mask=attended.long()).last_hidden_state
    torch.testing.assert_close(encode(tower, tokens, attended), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["distilbert", "bert"])
def test_every_weight_of_a_text_tower_reaches_the_class_token(architecture: str) -> None:
    """DistributedDataParallel waits for gradients of all."""
    section = TextTower(architecture=architecture, **SIZES)
    tower = build_text_tower(section, VOCABULARY, POSITIONS, pad_token=0)
    tokens = tokens_of()
    encode(tower, tokens, torch.ones_like(tokens, dtype=torch.bool))[:, 0].sum().backward()
    assert [name for name, parameter in tower.named_parameters() if parameter.grad is None] == []


# ---------------------------------------------------------------- checkpoints that do not fit


@pytest.mark.parametrize(
    ("config", "said"),
    [({"activation": "relu"}, "computes with relu"), ({"hidden_dim": 24}, "hidden layers of 24")],
)
def test_checkpoint_that_a_config_cannot_rebuild_is_refused(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"model\.text\.pretrained = .*{said}"):
        build(checkpoint(tmp_path, **config))


def build(source: str, vocabulary: int = VOCABULARY, positions: int = POSITIONS, **sizes: int) -> None:
    section = TextTower(pretrained=source, **(SIZES | sizes))
    build_text_tower(section, vocabulary, positions, pad_token=0)


@pytest.mark.parametrize("sizes", [{"width": 16}, {"depth": 3}, {"num_heads": 4}])
def test_checkpoint_of_other_sizes_is_refused_with_both_sizes(tmp_path: Path, sizes: dict[str, int]):
    (name, value), *_ = sizes.items()
    with pytest.raises(ConfigError, match=f"'{name}': {value}.*'{name}': {SIZES[name]}"):
        build(checkpoint(tmp_path), **sizes)


def test_checkpoint_with_fewer_positions_than_captions_have_tokens_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"max_caption_tokens is 17.* 16 positions"):
        build(checkpoint(tmp_path), positions=17)


def test_checkpoint_that_embeds_fewer_entries_than_the_tokeniser_has_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"41 entries.*only 40"):
        build(checkpoint(tmp_path), vocabulary=41)


def test_folder_without_a_checkpoint_is_refused_by_its_path(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"model\.text\.pretrained = .*no distilbert checkpoint") as refused:
        build(str(tmp_path))
    assert str(tmp_path) in str(refused.value)


def test_damaged_checkpoint_is_refused_by_its_path(tmp_path: Path):
    path = checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5])
    with pytest.raises(ConfigError, match=r"model\.text\.pretrained"):
        build(path)


def test_checkpoint_of_another_architecture_is_refused_rather_than_filled_with_random_weights(tmp_path: Path):
    bert_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks .* of a distilbert.*model\.text\.architecture"):
        build(str(tmp_path))
