"""A trained dual encoder as one object: clips and captions in, unit vectors out.

    encoder = load_encoder("runs/shapes-0123456789")
    similarity = encoder.embed_texts(["a red ball rolls left"]) @ encoder.embed_clips(clips).T

What is loaded is enough by itself: the towers are built from the config's sizes and the shapes of the weights,
so neither a checkpoint that training began from nor its training data has to be there any more.

b clips, F frames, S the config's data.image_size, c captions, E embedding size.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.data.kinds import kind_of
from mac_ray.data.manifest import Sample
from mac_ray.data.pool import midpoints, read_pool
from mac_ray.data.sizes import centre_crop
from mac_ray.data.source import SLOWEST_READ, Source
from mac_ray.data.text import CaptionTokenizer
from mac_ray.model.dual import DualEncoder, restore_model
from mac_ray.training.folder import EncoderFiles, find_encoder

TEXTS_AT_ONCE = 256
LONGEST_REASON = 200  # characters of torch's account of all that does not fit
DECODER = "pyav"  # the frame asked for, of every codec, on every machine
GIVEN_UP_AFTER_S = 120.0  # or one file that hangs its decoder would hang whoever asks


@dataclass(frozen=True)
class Encoder:
    config: Config
    model: DualEncoder  # in evaluation mode, on `device`
    tokenizer: CaptionTokenizer
    device: torch.device

    def embed_clips(self, clips: Tensor) -> Tensor:
        """clips (b, F, 3, S, S) uint8, F at most model.video.max_frames -> (b, E) unit vectors on the CPU."""
        with torch.inference_mode():
            return self.model.encode_video(clips.to(self.device)).cpu()

    def embed_videos(self, paths: Sequence[str | Path]) -> Tensor:
        """Videos and images by path, as evaluation sees them -> (b, E) unit vectors on the CPU. Raises DecodeError."""
        parts = [torch.zeros(0, self.config.model.embedding_size)]
        for path in paths:
            parts.append(self.embed_clips(read_clip(Path(path), self.config)[None]))
        return torch.cat(parts)

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """Any number of captions -> (c, E) unit vectors on the CPU; what exceeds data.max_caption_tokens is cut."""
        parts = [torch.zeros(0, self.config.model.embedding_size)]
        with torch.inference_mode():
            for first in range(0, len(captions), TEXTS_AT_ONCE):
                tokens = self.tokenizer(captions[first : first + TEXTS_AT_ONCE])
                ids, attended = (
                    torch.from_numpy(array).to(self.device) for array in (tokens.ids, tokens.attended)
                )
                parts.append(self.model.encode_text(ids, attended).cpu())
            return torch.cat(parts)


def read_clip(path: Path, config: Config) -> Tensor:
    """The frames that evaluation takes of a whole file, (F, 3, S, S) uint8. Raises DecodeError."""
    kind = kind_of(str(path)) or "video"  # the decoder tells what is neither
    sample = Sample(0, str(path), Source.of(path), kind, split="test", start=None, end=None, captions=())
    frames = config.evaluation.frames
    pixels = read_pool(
        sample, config.data, DECODER, lambda length: midpoints(length, frames), patience_with(path)
    )
    square = np.ascontiguousarray(centre_crop(pixels, config.data.image_size))
    return torch.from_numpy(square).permute(0, 3, 1, 2)


def patience_with(path: Path) -> float:
    """Seconds for decoding some of a file, all of whose packets are looked at first."""
    size = 0
    with suppress(OSError):  # which the decoder tells
        size = path.stat().st_size
    return GIVEN_UP_AFTER_S + size / SLOWEST_READ


def load_encoder(source: str | Path, device: str = "cpu") -> Encoder:
    """The encoder of a run folder (its newest checkpoint), of one checkpoint in it, or of an exported folder.

    Raises ConfigError for anything else, and for weights that are damaged or not those of the config beside them.
    """
    return open_encoder(find_encoder(source), device)


def open_encoder(files: EncoderFiles, device: str = "cpu") -> Encoder:
    """Raises ConfigError for weights that are damaged or not those of the config."""
    config = config_file.load(files.config)
    tokenizer = CaptionTokenizer(files.tokenizer, config.data.max_caption_tokens)
    try:
        model = restore_model(config.model, config.data, tokenizer.pad_token, load_file(files.weights))
    except (SafetensorError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise ConfigError(
            f"the weights in {files.weights} are damaged, or not of the model in {files.config} ({reason}); "
            f"{files.otherwise}"
        ) from error
    place = torch.device(device)
    return Encoder(config, model.to(place).eval(), tokenizer, place)
