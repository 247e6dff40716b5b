"""How many of the texts are too long for the text tower, said before training starts.

Counting means tokenising, so of a large split it is an evenly spaced part: what matters is whether it is a few
texts or most. What is scored is counted in full when it is embedded.
"""

from mac_ray.config import Config
from mac_ray.data.loader import TRAINING_TEXTS
from mac_ray.data.manifest import Manifest
from mac_ray.data.pool import midpoints
from mac_ray.data.text import CaptionTokenizer, Texts
from mac_ray.retrieval.protocols import PROTOCOLS
from mac_ray.training.evaluation import scored_texts
from mac_ray.training.inputs import RunData

COUNTED_SAMPLES = 5_000  # of a split; a second or two with 20 captions each
TEXTS_AT_ONCE = 1_000


def truncation_notes(config: Config, data: RunData, tokenizer: CaptionTokenizer) -> list[str]:
    """A sentence for each split that is trained on or scored and has texts above data.max_caption_tokens."""
    trained = TRAINING_TEXTS[config.data.captions]
    scored = scored_texts(PROTOCOLS[config.evaluation.protocol])
    splits = [(f"{name} train", manifest, trained) for name, manifest in data.train.items()]
    splits += [(f"{config.evaluation.data} {split}", manifest, scored) for split, manifest in data.scored]
    notes = []
    for split, manifest, texts in splits:
        if share := truncated_share(manifest, texts, tokenizer):
            notes.append(
                f"{100 * share:.3g}% of the texts of {split} are longer than data.max_caption_tokens "
                f"{config.data.max_caption_tokens} and lose their end; raise it to keep them whole"
            )
    return notes


def truncated_share(manifest: Manifest, texts: Texts, tokenizer: CaptionTokenizer) -> float:
    """Of the texts of at most COUNTED_SAMPLES samples, those that are cut off."""
    numbers = midpoints(len(manifest), min(COUNTED_SAMPLES, len(manifest)))
    found = [text for number in numbers for text in texts(manifest[int(number)].captions)]
    truncated = 0
    for first in range(0, len(found), TEXTS_AT_ONCE):
        truncated += int(tokenizer(found[first : first + TEXTS_AT_ONCE]).truncated.sum())
    return truncated / len(found)
