"""Two small towers and a batch for them, of clips with hidden patches and captions of several lengths."""

import torch
from torch import Tensor

from mac_ray.config import Data, Model, TextTower, VideoTower
from mac_ray.model.dual import DualEncoder, build_model
from mac_ray.model.views import Inputs, Views

VOCABULARY, PAD, CLASS, SEPARATOR, MASK, FIRST_WORD = 60, 0, 1, 2, 3, 4
IMAGE, PATCH, PATCHES = 32, 8, 16
MODEL = Model(
    video=VideoTower(patch_size=PATCH, width=32, depth=2, num_heads=2, max_frames=3),
    text=TextTower(width=24, depth=1, num_heads=2),
    embedding_size=10,
)
DATA = Data(image_size=IMAGE, max_caption_tokens=12)


def towers(seed: int = 0) -> DualEncoder:
    return build_model(MODEL, DATA, VOCABULARY, pad_token=PAD, seed=seed)


def batch(
    size: int = 5, frames: int = 3, visible: int = 6, hidden_words: float = 0.4, seed: int = 0
) -> Inputs:
    """Captions of 4 to 9 words between two special tokens, then padding; every sample another."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 10, (size, 1), generator=generator)
    places = torch.arange(11)
    caption = torch.randint(FIRST_WORD, VOCABULARY, (size, 11), generator=generator)
    caption[:, 0] = CLASS
    caption = caption.where(places != lengths + 1, SEPARATOR).where(places <= lengths + 1, PAD)
    chance = torch.rand(size, 11, generator=generator)
    attended = places <= lengths + 1
    clips = torch.randint(0, 256, (size, frames, 3, IMAGE, IMAGE), generator=generator, dtype=torch.uint8)
    kept = torch.rand(size, frames, PATCHES, generator=generator).argsort(-1)[..., :visible]
    return Inputs(
        clips=clips,
        visible=kept + PATCHES * torch.arange(frames)[:, None],
        tokens=caption.masked_fill((caption >= FIRST_WORD) & (chance < hidden_words), MASK),
        attended=attended,
        caption=caption,
        caption_attended=attended,
        rows=torch.arange(size),
        samples=torch.arange(size),
        draws=torch.rand(size, 2, generator=generator),
    )


def views_of(inputs: Inputs, seed: int = 1) -> Views:
    """Made-up views of the right shapes, as if the towers had given them; a gradient can be asked of each."""
    generator = torch.Generator().manual_seed(seed)
    size, frames, visible = inputs.visible.shape

    def made(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    return Views(
        video=made(size, 10),
        text=made(size, 10),
        patches=made(size, 1 + frames * visible, MODEL.video.width),
        words=made(size, inputs.tokens.shape[1], MODEL.text.width),
    )
