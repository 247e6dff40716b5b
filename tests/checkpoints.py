"""Checkpoints in the formats of other projects, of the size of the tiny run's towers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_text_tower(folder: Path, words: Sequence[str], vocab_size: int | None = None) -> Path:
    """A DistilBERT and its tokeniser, which may have fewer entries than the tower embeds."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [*SPECIAL, *words]
    vocabulary = folder.parent / "vocab.txt"
    vocabulary.write_text("\n".join(entries))
    DistilBertTokenizerFast(str(vocabulary)).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 128, "max_position_embeddings": 80}
    config = DistilBertConfig(vocab_size=vocab_size or len(entries), **sizes)
    DistilBertModel(config).save_pretrained(folder)
    return folder
