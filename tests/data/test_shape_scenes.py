"""Scenes, splits, takes and captions, checked by a reader of captions with a vocabulary of its own."""

import re

import pytest

from mac_ray.config import ConfigError
from mac_ray.data import shape_scenes

MEANINGS = {
    "size": {"large": "large", "big": "large", "huge": "large"}
    | {"small": "small", "little": "small", "tiny": "small"},
    "colour": {"red": "red", "scarlet": "red", "orange": "orange", "yellow": "yellow", "green": "green"}
    | {"cyan": "cyan", "turquoise": "cyan", "blue": "blue", "purple": "purple", "violet": "purple"}
    | {"white": "white"},
    "shape": {"circle": "circle", "disc": "circle", "square": "square", "box": "square", "ring": "ring"}
    | {"hoop": "ring", "triangle": "triangle", "diamond": "diamond", "rhombus": "diamond"}
    | {"cross": "cross", "plus": "cross"},
    "motion": {"left": "left", "leftwards": "left", "right": "right", "rightwards": "right"}
    | {"up": "up", "upwards": "up", "down": "down", "downwards": "down"}
    | {"still": "still", "rests": "still", "resting": "still", "not": "still"},
}
PLACE = re.compile(r"(?:at|in) the (top|upper|bottom|lower) (left|right)(?: corner)?")
MOTION = re.compile(
    r"(moves|moving|slides|sliding|drifts|drifting|glides|gliding) "
    r"(to the (left|right)|left(wards)?|right(wards)?|up(wards)?|down(wards)?)"
    r"|(stays|staying|stands|standing) still|rests|resting|does not move|not moving"
)


def read(caption: str) -> set[tuple[str, ...]]:
    """What a caption says: (size, colour, shape, place, motion) of every object."""
    clauses = re.split(r" while | and (?=a )|, (?=the )", caption)
    return {read_clause(clause) for clause in clauses}


def read_clause(clause: str) -> tuple[str, ...]:
    (place,) = PLACE.finditer(clause)
    height = "top" if place[1] in ("top", "upper") else "bottom"
    words = PLACE.sub("", clause).split()
    said = {}
    for attribute, meanings in MEANINGS.items():
        (said[attribute],) = (meanings[word] for word in words if word in meanings)
    return said["size"], said["colour"], said["shape"], f"{height} {place[2]}", said["motion"]


def meaning(clip: shape_scenes.Clip) -> set[tuple[str, ...]]:
    return {
        (thing.size, thing.colour, thing.shape, thing.place, motion)
        for thing, motion in zip(clip.scene, clip.motions, strict=True)
    }


@pytest.mark.parametrize("num_objects", [2, 3, 4])
def test_captions_of_any_clip_name_size_colour_shape_place_and_motion(num_objects: int) -> None:
    clips = shape_scenes.clips("train", 200, num_objects, seed=1)
    for clip in clips:
        assert len(clip.scene) == num_objects
        for caption in shape_scenes.captions(clip):
            assert read(caption) == meaning(clip), caption
    seen = {word for clip in clips for word in " ".join(shape_scenes.captions(clip)).split()}
    assert seen >= {word for meanings in MEANINGS.values() for word in meanings}


def test_captions_of_one_clip_are_short_and_name_each_object_first_somewhere() -> None:
    for clip in shape_scenes.clips("val", 50, 2, seed=0):
        captions = shape_scenes.captions(clip)
        assert len(set(captions)) == 5
        assert all(caption == caption.lower() and len(caption.split()) <= 32 for caption in captions)
        opening_colours = {
            next(MEANINGS["colour"][word] for word in caption.split() if word in MEANINGS["colour"])
            for caption in captions
        }
        assert opening_colours == {thing.colour for thing in clip.scene}


def test_captions_of_two_takes_differ_in_the_words_for_motion_alone() -> None:
    clips = shape_scenes.clips("test", 100, 2, seed=0)
    for first, second in zip(clips[3::5], clips[4::5], strict=True):
        assert first.scene == second.scene
        assert first.motions != second.motions
        for one, other in zip(shape_scenes.captions(first), shape_scenes.captions(second), strict=True):
            assert one != other
            assert MOTION.sub("*", one) == MOTION.sub("*", other)


def test_captions_of_a_split_never_fit_two_clips() -> None:
    clips = shape_scenes.clips("test", 500, 2, seed=0)
    assert len({frozenset(meaning(clip)) for clip in clips}) == 500
    captions = [caption for clip in clips for caption in shape_scenes.captions(clip)]
    assert len(set(captions)) == len(captions)


def test_splits_of_different_sets_share_no_scene() -> None:
    scenes = {
        split: {
            clip.scene
            for seed, count in ((0, 1600), (7, 800))
            for clip in shape_scenes.clips(split, count, 2, seed)
        }
        for split in ("train", "val", "test")
    }
    assert all(len(members) > 1000 for members in scenes.values())
    assert scenes["train"].isdisjoint(scenes["val"])
    assert scenes["train"].isdisjoint(scenes["test"])
    assert scenes["val"].isdisjoint(scenes["test"])


def test_scenes_have_objects_in_different_places_and_colours() -> None:
    for clip in shape_scenes.clips("train", 100, 3, seed=0):
        assert len({thing.place for thing in clip.scene}) == 3
        assert len({thing.colour for thing in clip.scene}) == 3


def test_clips_of_a_larger_set_start_with_the_smaller_one() -> None:
    small, large = (shape_scenes.clips("train", count, 2, seed=3) for count in (5, 60))
    assert small == large[:5]


def test_clips_of_other_seed_or_split_show_other_scenes() -> None:
    scenes = [
        tuple(clip.scene for clip in shape_scenes.clips(split, 20, 2, seed))
        for split, seed in (("val", 0), ("val", 1), ("test", 0))
    ]
    assert len(set(scenes)) == 3


def test_clips_beyond_the_scenes_there_are_raise_the_limit() -> None:
    with pytest.raises(ConfigError, match=r"cannot have 60000 val clips.*2 objects suffice for 3023"):
        shape_scenes.clips("val", 60000, 2, seed=0)


def test_captions_of_version_2_stay_what_they_were() -> None:
    assert shape_scenes.VERSION == 2  # a change of what is drawn or said is a new version, with a new cache
    clips = shape_scenes.clips("test", 5, 2, seed=0)
    assert shape_scenes.captions(clips[0])[0] == (
        "a big orange triangle in the top left stays still "
        "and a small turquoise square in the top right glides down"
    )
    assert shape_scenes.captions(clips[4])[3] == (
        "the orange ring at the bottom left is tiny and drifts up, "
        "the green disc in the top right is little and glides downwards"
    )
