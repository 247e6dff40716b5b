"""The model that a config trains, with random weights in place of a checkpoint's: for counting and for benchmarks.

Nothing is downloaded: a text tower from a hub name is taken to have its architecture's own vocabulary and positions.
"""

from pathlib import Path

from mac_ray.config import Data, Model
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.text import ARCHITECTURES


def untrained_model(section: Model, data: Data, vocabulary_size: int, seed: int) -> DualEncoder:
    """`vocabulary_size` is the tokeniser's; a checkpoint has its own, and a local folder says which."""
    text = section.text
    if text.pretrained is not None:
        folder = Path(text.pretrained)
        kind = ARCHITECTURES[text.architecture].config
        sizes = kind.from_pretrained(folder) if folder.is_dir() else kind()
        vocabulary_size = sizes.vocab_size
        data = data.model_copy(update={"max_caption_tokens": sizes.max_position_embeddings})
    section = section.model_copy(update={"text": text.model_copy(update={"pretrained": None})})
    return build_model(section, data, vocabulary_size, pad_token=0, seed=seed)
