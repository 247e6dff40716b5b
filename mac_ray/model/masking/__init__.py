"""What is hidden from the towers, chosen by pure functions of a step's generator.

`video` chooses patches, `guidance` scores them where the choice goes by what they show, `view` does it to a
batch of clips, and `text` hides words. Everything is chosen for the global batch on every rank and then cut to
the rank's rows, so what is hidden does not depend on the number of ranks.
"""

from mac_ray.model.masking.guidance import guidance_flops
from mac_ray.model.masking.text import TEXT_STRATEGIES, Captions, MaskedText, masked_text
from mac_ray.model.masking.video import VIDEO_STRATEGIES, Seen, Subject, seen_of, visible_patches
from mac_ray.model.masking.view import ClipView, view_of_clips

__all__ = [
    "TEXT_STRATEGIES",
    "VIDEO_STRATEGIES",
    "Captions",
    "ClipView",
    "MaskedText",
    "Seen",
    "Subject",
    "guidance_flops",
    "masked_text",
    "seen_of",
    "view_of_clips",
    "visible_patches",
]
