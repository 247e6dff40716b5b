"""The model that a config trains, with random weights in place of a checkpoint's: for counting and for benchmarks.

Nothing is downloaded: a text tower from a hub name, or from a file that is not here, is taken to have its
architecture's own vocabulary and positions.
"""

from functools import lru_cache
from pathlib import Path

from mac_ray.config import ConfigError, Data, Model
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.text import ARCHITECTURES, text_capacity
from mac_ray.model.weights import read_weights


def untrained_model(section: Model, data: Data, vocabulary_size: int, seed: int) -> DualEncoder:
    """`vocabulary_size` is the tokeniser's; a checkpoint has its own, and a local one says which."""
    if (sizes := _text_sizes(section)) is not None:
        vocabulary_size, positions = sizes
        data = data.model_copy(update={"max_caption_tokens": positions})
    text = section.text.model_copy(update={"pretrained": None})
    section = section.model_copy(update={"pretrained": None, "text": text})
    return build_model(section, data, vocabulary_size, pad_token=0, seed=seed)


def _text_sizes(section: Model) -> tuple[int, int] | None:
    """Vocabulary and positions of the checkpoint that the text tower comes from; None where the config decides.

    A folder as model.pretrained is a run or an export of ours, with the tokeniser that the caller knows.
    """
    kind = ARCHITECTURES[section.text.architecture].config
    whole, tower = section.pretrained, section.text.pretrained
    if whole is not None and Path(whole).is_file():
        return _capacity(Path(whole), Path(whole).stat().st_mtime_ns)
    if (whole is None and tower is None) or (whole is not None and Path(whole).is_dir()):
        return None
    local = tower is not None and Path(tower).is_dir()
    sizes = kind.from_pretrained(tower) if local else kind()
    return sizes.vocab_size, sizes.max_position_embeddings


@lru_cache
def _capacity(file: Path, _modified_ns: int) -> tuple[int, int]:
    """Asked for every stage, and at several places of a schedule, of a file that may be large. Raises ConfigError."""
    try:
        return text_capacity(read_weights(file, "model.pretrained"), "text_model.")
    except KeyError as error:
        raise ConfigError(
            f"model.pretrained = {str(file)!r} has no {error}, so it is no dual encoder; give an image or text "
            "tower as model.video.pretrained or model.text.pretrained"
        ) from error
