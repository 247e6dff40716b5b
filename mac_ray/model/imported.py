"""The model as a run starts with it: weights from the seed, from towers, or from a whole dual encoder.

A whole dual encoder is a Frozen in Time checkpoint, by the names of its code, or one of our own; their names tell them
apart. Everything a checkpoint can get wrong is a ConfigError here, before anything is trained.
"""

import logging
from pathlib import Path

from mac_ray.config import ConfigError, Data, Model
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.imported_video import (
    depth_of,
    fitted,
    read_image_tower,
    start_from_image,
    time_is_uniform,
)
from mac_ray.model.text import load_text_tower, text_capacity
from mac_ray.model.weights import Weights, fill, fingerprint, read_weights, require_sizes

PLACE = "model.pretrained"
log = logging.getLogger(__name__)

FROZEN_HEAD = "vid_proj.0."  # of the video; that of the text has our name
FROZEN_SETTINGS = {"residual": "frozen", "pixels": "imagenet"}  # which its weights do not show
FROZEN_HEADS = {768: 12}  # by width, of both towers; nor do they show these
# what older code left behind in files: numbers of positions, an image classifier
NEVER_USED = ("text_model.embeddings.position_ids", "video_model.head.", "video_model.pre_logits.")


def imports_weights(section: Model) -> bool:
    return bool(section.pretrained or section.video.pretrained or section.text.pretrained)


def weight_fingerprints(section: Model) -> dict[str, str]:
    """By dotted path of the config, the content of the weights that the model starts from.

    Raises ConfigError for a source that cannot be read.
    """
    found: dict[str, str] = {}
    if section.pretrained:
        found["model.pretrained"] = fingerprint(read_weights(Path(section.pretrained), PLACE))
    if section.video.pretrained:
        found["model.video.pretrained"] = fingerprint(read_image_tower(section.video.pretrained).weights)
    if section.text.pretrained:
        found["model.text.pretrained"] = fingerprint(load_text_tower(section.text).state_dict())
    return found


def initial_model(section: Model, data: Data, vocabulary_size: int, pad_token: int, seed: int) -> DualEncoder:
    """The model with the weights that training starts from. What no source gives comes from the seed.

    Raises ConfigError for a source that cannot be read, or is of another model than the config's.
    """
    if section.pretrained:
        return _whole(section, section.pretrained, data, vocabulary_size, pad_token)
    model = build_model(section, data, vocabulary_size, pad_token, seed)
    if section.video.pretrained:
        image = read_image_tower(section.video.pretrained)
        start_from_image(model.video_model, section.video, image)
    return model


def _whole(section: Model, path: str, data: Data, vocabulary_size: int, pad_token: int) -> DualEncoder:
    source = f"{PLACE} = {path!r}"
    given_names = read_weights(Path(path), PLACE)
    if FROZEN_HEAD + "weight" in given_names:
        _require_frozen(section, source)
    weights = _own_names(given_names, source)
    video = {
        name.removeprefix("video_model."): tensor
        for name, tensor in weights.items()
        if name.startswith("video_model.")
    }
    text = {name for name in weights if name.startswith("text_model.transformer.layer.")}
    text |= {name for name in weights if name.startswith("text_model.encoder.layer.")}
    given = {
        "video.width": section.video.width,
        "video.depth": section.video.depth,
        "text.width": section.text.width,
        "text.depth": section.text.depth,
        "embedding_size": section.embedding_size,
    }
    found = {
        "video.width": video["cls_token"].shape[-1],
        "video.depth": depth_of(video),
        "text.width": weights["text_model.embeddings.word_embeddings.weight"].shape[1],
        "text.depth": len({name.split(".")[3] for name in text}),
        "embedding_size": len(weights["vid_proj.weight"]),
    }
    require_sizes("model", source, given, found)
    vocabulary, positions = text_capacity(weights, "text_model.")
    if vocabulary < vocabulary_size:
        raise ConfigError(
            f"the tokeniser has {vocabulary_size} entries, but {source} embeds only {vocabulary}; give "
            "model.text.tokenizer the checkpoint's own"
        )
    if positions < data.max_caption_tokens:
        raise ConfigError(
            f"data.max_caption_tokens is {data.max_caption_tokens}, but {source} has {positions} positions; lower it"
        )
    if time_is_uniform(video):
        log.warning(
            "%s has temporal queries and keys that are all zero: its temporal attention is a plain average, and "
            "training will leave it one; to let time learn, start the tower from an image ViT with "
            "model.video.temporal_init=copy_spatial instead",
            source,
        )
    model = build_model(
        section,
        data.model_copy(update={"max_caption_tokens": positions}),
        vocabulary,
        pad_token,
        seed=0,  # every weight is replaced
    )
    others = {name: tensor for name, tensor in weights.items() if not name.startswith("video_model.")}
    tower = fitted(video, section.video, model.grid, source)
    fill(model, others | {f"video_model.{name}": tensor for name, tensor in tower.items()}, source)
    return model


def _require_frozen(section: Model, source: str) -> None:
    for name, trained in FROZEN_SETTINGS.items():
        if (own := getattr(section.video, name)) != trained:
            raise ConfigError(
                f"model.video.{name} is {own!r}, but {source} is a Frozen in Time checkpoint, trained with "
                f"{trained!r}; set model.video.{name}={trained}"
            )
    for part, tower in (("video", section.video), ("text", section.text)):
        if tower.num_heads != (heads := FROZEN_HEADS.get(tower.width, tower.num_heads)):
            raise ConfigError(
                f"model.{part}.num_heads is {tower.num_heads}, but {source} is a Frozen in Time checkpoint, trained "
                f"with {heads}; set model.{part}.num_heads={heads}"
            )


def _own_names(weights: Weights, source: str) -> Weights:
    """Frozen's differ from ours in the video head, and in the patch embedding, which `fitted` takes by either."""
    named = {
        name.replace(FROZEN_HEAD, "vid_proj."): tensor
        for name, tensor in weights.items()
        if not name.startswith(NEVER_USED)
    }
    wanted = (
        *("video_model.cls_token", "video_model.pos_embed", "video_model.temporal_embed", "vid_proj.weight"),
        *("video_model.patch_embed.bias", "text_model.embeddings.word_embeddings.weight"),
        "text_model.embeddings.position_embeddings.weight",
    )
    for name in wanted:
        if name not in named and name.replace("patch_embed.", "patch_embed.proj.") not in named:
            raise ConfigError(
                f"{source} has no {name}, so it is neither a Frozen in Time checkpoint nor one of mac_ray; an image "
                "ViT goes to model.video.pretrained, a language model to model.text.pretrained"
            )
    return named
