"""A mask that nothing of a stage gets to see is said to be so, and no other."""

import pytest

from mac_ray.config.file import load
from mac_ray.config.unused import unused_masks

ONE_STAGE = "stages=[{name: only, data: [shapes], epochs: 1}]"
# with nothing but these, whether a mask of each modality is seen
SEEN = {
    "contrastive: {}": (True, True),
    "sigmoid: {}": (True, True),
    "matching: {}": (True, True),
    "reconstruction: {}": (True, False),
    "language: {}": (True, False),
    "reconstruction: {}, language: {}": (True, False),
    "masked_language: {}": (False, True),
    "masked_language: {context: video}": (True, True),
    "masked_language: {}, language: {}": (True, True),
    "masked_language: {}, contrastive: {}": (True, True),
}


@pytest.mark.parametrize("objectives", SEEN)
def test_masks_that_no_objective_sees_are_named(objectives: str) -> None:
    off = "" if "contrastive" in objectives else "contrastive: null, "
    notes = unused_masks(load(None, [ONE_STAGE, f"objectives={{{off}{objectives}}}"]))
    for modality, seen in zip(("video", "text"), SEEN[objectives], strict=True):
        assert any(f"masking.{modality}.strategy" in note for note in notes) == (not seen)
    assert len(notes) == SEEN[objectives].count(False)


def test_note_names_the_stage_the_mask_the_objectives_and_the_remedy() -> None:
    objectives = "objectives={contrastive: null, reconstruction: {}, language: {}}"
    (note,) = unused_masks(load(None, [ONE_STAGE, objectives]))
    assert note == (
        "stages.0 hides words (masking.text.strategy whole_word), but what it trains with, reconstruction and "
        "language, does not see them hidden; set stages.0.masking.text.strategy=none, or add an objective that does"
    )


def test_mask_that_is_off_is_not_called_unused() -> None:
    objectives = "objectives={contrastive: null, reconstruction: {}}"
    assert unused_masks(load(None, [ONE_STAGE, objectives, "masking.text.strategy=none"])) == []


def test_only_the_stage_that_does_not_see_its_mask_is_named() -> None:
    given = ["stages.1.masking.text.strategy=whole_word", "stages.1.objectives.contrastive=null"]
    (note,) = unused_masks(load(None, [*given, "objectives.language={}", "stages.1.objectives.language={}"]))
    assert note.startswith("stages.1 hides words")


def test_default_has_no_unused_mask() -> None:
    assert unused_masks(load()) == []
