"""Caption encoders of transformers, from a checkpoint by hub name or local path, or from sizes.

A tower can be rebuilt from its sizes in the config and the shapes of its weights: what a checkpoint has beyond
that, another activation say, is refused when it is loaded.

B captions, L tokens, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from mac_ray.config import ConfigError, TextTower
from mac_ray.model.weights import require_sizes

PLACE = "model.text.pretrained"
TextModel: TypeAlias = DistilBertModel | BertModel


@dataclass(frozen=True)
class Architecture:
    """A family of transformers' encoders, and what its config calls things that others call otherwise."""

    model: type[DistilBertModel] | type[BertModel]
    options: dict[str, bool]  # of the model
    config: type[DistilBertConfig] | type[BertConfig]
    hidden: str
    activation: str
    dropout: tuple[str, str]  # after layers, and of attention
    assumed: tuple[str, ...] = ()  # what only the family's default is known of


ARCHITECTURES = {
    "distilbert": Architecture(
        DistilBertModel, {}, DistilBertConfig, "hidden_dim", "activation", ("dropout", "attention_dropout")
    ),
    "bert": Architecture(
        BertModel,
        {"add_pooling_layer": False},
        BertConfig,
        "intermediate_size",
        "hidden_act",
        ("hidden_dropout_prob", "attention_probs_dropout_prob"),
        ("type_vocab_size", "layer_norm_eps", "is_decoder"),
    ),
}


def build_text_tower(section: TextTower, vocabulary_size: int, max_tokens: int, pad_token: int) -> TextModel:
    """The encoder, of section.width. Raises ConfigError when a checkpoint cannot be loaded or is too small."""
    if section.pretrained is None:
        kind = ARCHITECTURES[section.architecture]
        return kind.model(
            kind.config(
                vocab_size=vocabulary_size,
                max_position_embeddings=max_tokens,
                hidden_size=section.width,
                num_hidden_layers=section.depth,
                num_attention_heads=section.num_heads,
                pad_token_id=pad_token,
                initializer_range=section.width**-0.5,  # the usual 0.02 is for width 768 and long training
                **{kind.hidden: 4 * section.width},
                **dict.fromkeys(kind.dropout, section.dropout),
            ),
            **kind.options,
        )
    tower = load_text_tower(section)
    if tower.config.max_position_embeddings < max_tokens:
        raise ConfigError(
            f"data.max_caption_tokens is {max_tokens}, but {section.pretrained} has "
            f"{tower.config.max_position_embeddings} positions; lower it"
        )
    if tower.config.vocab_size < vocabulary_size:
        raise ConfigError(
            f"the tokeniser has {vocabulary_size} entries, but {section.pretrained} embeds only "
            f"{tower.config.vocab_size}; give model.text.tokenizer the checkpoint's own"
        )
    return tower


def load_text_tower(section: TextTower) -> TextModel:
    """The encoder of section.pretrained, in single precision and training mode.

    A local path is read without asking the hub anything. Raises ConfigError when it cannot be loaded, is another
    architecture, or has other sizes than the section says.
    """
    kind = ARCHITECTURES[section.architecture]
    source = f"{PLACE} = {section.pretrained!r}"
    try:
        tower, loading = kind.model.from_pretrained(
            section.pretrained,
            dtype=torch.float32,
            local_files_only=Path(section.pretrained or "").exists(),
            output_loading_info=True,
            **dict.fromkeys(kind.dropout, section.dropout),
            **kind.options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"{source}: no {section.architecture} checkpoint at this path or hub name ({error})"
        ) from error
    if missing := sorted(loading["missing_keys"]):  # transformers fills them with random weights
        raise ConfigError(
            f"{source} lacks {len(missing)} weights of a {section.architecture}, such as {missing[0]}; give the "
            f"checkpoint of one, or model.text.architecture another of {', '.join(ARCHITECTURES)}"
        )

    config = tower.config
    given = {"width": section.width, "depth": section.depth, "num_heads": section.num_heads}
    found = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
    require_sizes("model.text", source, given, dict(zip(given, found, strict=True)))
    if (hidden := getattr(config, kind.hidden)) != 4 * section.width:
        raise ConfigError(
            f"{source} has hidden layers of {hidden}, but only those of 4 times the width are known; "
            "give another checkpoint"
        )
    if (activation := getattr(config, kind.activation)) != "gelu":
        raise ConfigError(
            f"{source} computes with {activation}, but only gelu is known; give another checkpoint"
        )
    usual = kind.config()
    for name in kind.assumed:
        if (value := getattr(config, name)) != (only := getattr(usual, name)):
            raise ConfigError(
                f"{source} has {name} {value}, but only {only} is known of a {section.architecture}; "
                "give another checkpoint"
            )
    tower.train()  # it comes in evaluation mode, without dropout
    return tower


def text_capacity(weights: Mapping[str, Tensor], prefix: str) -> tuple[int, int]:
    """How many vocabulary entries and positions the tower of these weights embeds. Raises KeyError."""
    embeddings = (f"{prefix}embeddings.{name}_embeddings.weight" for name in ("word", "position"))
    vocabulary, positions = (len(weights[name]) for name in embeddings)
    return vocabulary, positions


def encode(tower: TextModel, tokens: Tensor, attended: Tensor) -> Tensor:
    """tokens, attended: (B, L) -> the last hidden states (B, L, D), the class token first."""
    # short sequences on a CPU are faster with attention written out; CUDA has fused kernels
    tower.set_attn_implementation("sdpa" if tokens.is_cuda else "eager")
    # of a mask by sample alone, transformers asks whether it hides anything, for which the host waits for the GPU
    mask = attended[:, None, None, :] if tokens.is_cuda else attended.to(torch.long)
    states: Tensor = tower(input_ids=tokens, attention_mask=mask).last_hidden_state
    return states


def word_embeddings(tower: DistilBertModel) -> Tensor:
    """(U, D): the vectors that words enter the tower as."""
    weight = tower.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight
