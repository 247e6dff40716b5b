"""The weights a run starts from, on the driver: found, checked, known by content, and laid into the run's folder.

Workers read what lies in the run's folder. They need neither the files that weights came from, nor a network,
and what is wrong with those files is said before workers are taken.
"""

import hashlib
from pathlib import Path

from safetensors.torch import load_file, save_file

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data.text import CaptionTokenizer, load_tokenizer
from mac_ray.files import replaced
from mac_ray.model.dual import DualEncoder, build_model, restore_model
from mac_ray.model.imported import imports_weights, initial_model, weight_fingerprints
from mac_ray.training.folder import EncoderFiles, RunFolder, find_encoder

# what is not seen in the shapes of weights, but changes what they compute
UNSEEN = ("video.pixels", "video.num_heads", "video.residual", "text.architecture", "text.num_heads")


def with_found_weights(config: Config) -> Config:
    """model.pretrained as a file: of a run, a checkpoint or an export, its weights, with its tokeniser.

    Raises ConfigError for a folder that is none of these, for a config that would compute other things from the
    weights than they were trained for, and when no tokeniser is known.
    """
    source = config.model.pretrained
    if source is None:
        return config
    tokenizer = config.model.text.tokenizer
    if (files := _files_of(source)) is not None:
        _require_same_model(config, files)
        source, tokenizer = str(files.weights), tokenizer or str(files.tokenizer)
    if tokenizer is None:
        raise ConfigError(
            f"model.pretrained = {source!r} brings no tokeniser; give model.text.tokenizer the one it was trained "
            "with, distilbert-base-uncased for Frozen in Time"
        )
    text = config.model.text.model_copy(update={"tokenizer": tokenizer})
    model = config.model.model_copy(update={"pretrained": source, "text": text})
    return config.model_copy(update={"model": model})


def _files_of(source: str) -> EncoderFiles | None:
    """Of a folder, or of the weights in one of ours; None for a file from elsewhere, which stands alone.

    Raises ConfigError for a folder that is none of ours.
    """
    path = Path(source)
    if path.is_dir():
        return find_encoder(source)
    try:
        around = find_encoder(path.parent)
    except ConfigError:
        return None
    return around if around.weights == path.absolute() else None


def source_fingerprints(config: Config) -> dict[str, str]:
    """Content of the weights and the tokeniser that a run reads, by dotted path of the config.

    Raises ConfigError for what cannot be read.
    """
    found = weight_fingerprints(config.model)
    if tokenizer := config.model.text.tokenizer or config.model.text.pretrained:
        content = load_tokenizer(tokenizer).to_str()
        found["model.text.tokenizer"] = hashlib.sha256(content.encode()).hexdigest()
    return found


def save_first_weights(config: Config, folder: RunFolder, tokenizer: CaptionTokenizer) -> None:
    """Import the weights that the config names, if any, into the run's folder. Raises ConfigError."""
    if not imports_weights(config.model) or folder.initial.exists():
        return
    model = initial_model(
        config.model, config.data, tokenizer.vocabulary_size, tokenizer.pad_token, config.seed
    )
    with replaced(folder.initial) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)


def first_model(config: Config, folder: RunFolder, tokenizer: CaptionTokenizer) -> DualEncoder:
    """The model that training starts from: of the imported weights, else of the seed."""
    if not imports_weights(config.model):
        return build_model(
            config.model, config.data, tokenizer.vocabulary_size, tokenizer.pad_token, config.seed
        )
    return restore_model(config.model, config.data, tokenizer.pad_token, load_file(folder.initial))


def _require_same_model(config: Config, files: EncoderFiles) -> None:
    theirs = config_file.load(files.config).model

    def value(model: object, path: str) -> object:
        for name in path.split("."):
            model = getattr(model, name)
        return model

    for path in UNSEEN:
        if (own := value(config.model, path)) != (trained := value(theirs, path)):
            raise ConfigError(
                f"model.{path} is {own!r}, but {files.weights} was trained with {trained!r} and would compute other "
                f"things; set model.{path}={trained}"
            )
