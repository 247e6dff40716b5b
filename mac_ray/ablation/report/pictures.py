"""Pictures of runs, small enough to travel inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mac_ray.ablation.outcome import Outcome
from mac_ray.training.folder import RunFolder

MOST_ROWS = 16  # with a picture of their masks
WIDEST = 1400  # pixels
WEBP_QUALITY = 72


@dataclass(frozen=True)
class Picture:
    title: str
    source: str  # data URI
    size: tuple[int, int]  # pixels


def mask_pictures(outcomes: Sequence[Outcome], rows: Sequence[str]) -> list[Picture]:
    """What the towers saw of the same clips, of the first finished seed of each row."""
    return _pictures(outcomes, rows, "masked_clips.png")


def retrieved_pictures(outcomes: Sequence[Outcome], rows: Sequence[str]) -> list[Picture]:
    """What they found for the same captions; a row that is named twice once."""
    return _pictures(outcomes, list(dict.fromkeys(rows)), "retrieved.png")


def _pictures(outcomes: Sequence[Outcome], rows: Sequence[str], name: str) -> list[Picture]:
    found = []
    for row in rows:
        paths = (
            (outcome.seed, RunFolder(outcome.folder).pictures / name)
            for outcome in outcomes
            if outcome.row == row and outcome.status == "FINISHED"
        )
        if first := next(((seed, path) for seed, path in paths if path.is_file()), None):
            with suppress(OSError):  # one that was cut short costs no report
                found.append(_embedded(f"{row}, seed {first[0]}", first[1]))
    return found


def _embedded(title: str, path: Path) -> Picture:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDEST, 4 * WIDEST))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=WEBP_QUALITY)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(title, source, image.size)
