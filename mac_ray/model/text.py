"""DistilBERT-type caption encoder, from a checkpoint by hub name or local path, or from sizes.

B captions, L tokens, D width.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import DistilBertConfig, DistilBertModel

from mac_ray.config import ConfigError, TextTower


def build_text_tower(
    section: TextTower, vocabulary_size: int, max_tokens: int, pad_token: int
) -> DistilBertModel:
    """The encoder; its output width is `.config.dim`. Raises ConfigError when a checkpoint cannot be loaded."""
    if section.pretrained is None:
        return DistilBertModel(
            DistilBertConfig(
                vocab_size=vocabulary_size,
                max_position_embeddings=max_tokens,
                dim=section.width,
                n_layers=section.depth,
                n_heads=section.num_heads,
                hidden_dim=4 * section.width,
                dropout=section.dropout,
                attention_dropout=section.dropout,
                pad_token_id=pad_token,
                initializer_range=section.width**-0.5,  # the usual 0.02 is for width 768 and long training
            ),
        )
    try:
        tower, loading = DistilBertModel.from_pretrained(
            section.pretrained,
            dropout=section.dropout,
            attention_dropout=section.dropout,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"model.text.pretrained = {section.pretrained!r}: no DistilBERT checkpoint at this path or "
            f"hub name ({error})"
        ) from error
    if missing := sorted(loading["missing_keys"]):  # transformers fills them with random weights
        raise ConfigError(
            f"model.text.pretrained = {section.pretrained!r} lacks {len(missing)} weights of a DistilBERT, "
            f"such as {missing[0]}; give the checkpoint of a DistilBERT"
        )
    given = {"width": section.width, "depth": section.depth, "num_heads": section.num_heads}
    found = {"width": tower.config.dim, "depth": tower.config.n_layers, "num_heads": tower.config.n_heads}
    if given != found:  # costs are counted from the config, so it has to be true
        raise ConfigError(
            f"model.text says {given}, but {section.pretrained} has {found}; write these into the config"
        )
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
    tower.train()  # it comes in evaluation mode, without dropout
    return tower


def text_capacity(weights: Mapping[str, Tensor], prefix: str) -> tuple[int, int]:
    """How many vocabulary entries and positions the tower of these weights embeds. Raises KeyError."""
    embeddings = (f"{prefix}embeddings.{name}_embeddings.weight" for name in ("word", "position"))
    vocabulary, positions = (len(weights[name]) for name in embeddings)
    return vocabulary, positions


def encode(tower: DistilBertModel, tokens: Tensor, attended: Tensor) -> Tensor:
    """tokens, attended: (B, L) -> the last hidden states (B, L, D), the class token first."""
    # short sequences on a CPU are faster with attention written out; CUDA has fused kernels
    tower.set_attn_implementation("sdpa" if tokens.is_cuda else "eager")
    states: Tensor = tower(input_ids=tokens, attention_mask=attended.to(torch.long)).last_hidden_state
    return states


def word_embeddings(tower: DistilBertModel) -> Tensor:
    """(U, D): the vectors that words enter the tower as."""
    weight = tower.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight
