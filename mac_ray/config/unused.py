"""What a config says to no effect: no mistake, but worth a sentence before hours are spent on it."""

from mac_ray.config.experiment import Config
from mac_ray.config.objectives import Objectives


def unused_masks(config: Config) -> list[str]:
    """A sentence for each mask of a stage that none of its objectives gets to see."""
    notes = []
    for number, stage in enumerate(config.stages):
        masking, objectives = config.stage_masking(stage), config.stage_objectives(stage)
        given = [name for name in type(objectives).model_fields if getattr(objectives, name) is not None]
        for modality, hidden, seen, what in (
            ("video", masking.video, _see_clips(objectives), "patches"),
            ("text", masking.text, _see_captions(objectives), "words"),
        ):
            if not hidden.hides_nothing and not seen:
                notes.append(
                    f"stages.{number} hides {what} (masking.{modality}.strategy {hidden.strategy}), but what it "
                    f"trains with, {' and '.join(given)}, does not see them hidden; set "
                    f"stages.{number}.masking.{modality}.strategy=none, or add an objective that does"
                )
    return notes


def _see_clips(objectives: Objectives) -> bool:
    """Whether any looks at clips as they are masked."""
    words = objectives.masked_language
    return (words is not None and words.context == "video") or any(
        (
            objectives.contrastive,
            objectives.sigmoid,
            objectives.reconstruction,
            objectives.language,
            objectives.matching,
        )
    )


def _see_captions(objectives: Objectives) -> bool:
    """Whether any looks at captions as they are masked; LM writes them whole, for one."""
    return any((objectives.contrastive, objectives.sigmoid, objectives.masked_language, objectives.matching))
