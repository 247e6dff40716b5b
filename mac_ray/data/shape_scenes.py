"""What the moving-shapes set shows and says: scenes, their splits and takes, their captions. No pixels.

A scene is a few objects, each with size, colour, shape and place. One scene in four is filmed twice, and the
two takes differ in nothing but how the objects move: they share background, drawing order, and every word of
their captions that is not about motion. So two clips in five can only be told from another by time: who knows
all of space and nothing of time scores at most 80 at rank 1.

The split of a scene follows from a hash of the scene itself, so no scene is in two splits, whatever the seed
and the number of clips; within a split none is drawn twice, so each caption of a clip tells it apart from
every other clip.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from mac_ray.config import ConfigError

VERSION = 2  # of everything drawn or said; raise it whenever one of these changes
ENCODING = 2  # of how what is drawn becomes files; raise it when that changes, and scenes stay what they are

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of all possible scenes, not of the clips

# what an object can be, and the words for it
SIZES = {"large": ("large", "big", "huge"), "small": ("small", "little", "tiny")}
COLOURS = {
    "red": ("red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "white": ("white",),
}
SHAPES = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
}
PLACES = {
    f"{height} {side}": (
        f"at the {height} {side}",
        f"in the {height} {side}",
        f"in the {other} {side} corner",
    )
    for height, other in (("top", "upper"), ("bottom", "lower"))
    for side in ("left", "right")
}
MOTIONS = {
    "left": ("left", "to the left", "leftwards"),
    "right": ("right", "to the right", "rightwards"),
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
    "still": (),
}
# a verb as the clause has it: "... moves", "... moving"
FINITE, PARTICIPLE = 0, 1
MOVING = (("moves", "moving"), ("slides", "sliding"), ("drifts", "drifting"), ("glides", "gliding"))
RESTING = (
    ("stays still", "staying still"),
    ("stands still", "standing still"),
    ("rests", "resting"),
    ("does not move", "not moving"),
)


WordT = TypeVar("WordT")


class Template(NamedTuple):
    opening: str
    clause: str  # said of every object
    verb: int
    joiner: str


TEMPLATES = (
    Template("", "a {size} {colour} {shape} {place} {motion}", FINITE, " and "),
    Template("", "{place} a {size} {colour} {shape} {motion}", FINITE, " while "),
    Template("a video of ", "a {size} {colour} {shape} {motion} {place}", PARTICIPLE, " and "),
    Template("", "the {colour} {shape} {place} is {size} and {motion}", FINITE, ", "),
    Template("we see ", "a {size} {shape} in {colour} {motion} {place}", PARTICIPLE, " and "),
)

FILMED_TWICE = 4  # the last of so many scenes

# what a stream of random numbers is for
SCENES, TAKES, WORDS, LOOK = range(4)


@dataclass(frozen=True)
class Thing:
    """One object, in keys of SIZES, COLOURS, SHAPES and PLACES."""

    size: str
    colour: str
    shape: str
    place: str


Scene = tuple[Thing, ...]  # sorted by place: a scene has one spelling


@dataclass(frozen=True)
class Clip:
    """One take of a scene. The two takes of a scene have adjacent numbers, 5k + 3 and 5k + 4."""

    seed: int
    split: str
    number: int  # within its split
    scene_number: int  # likewise
    scene: Scene
    motions: tuple[str, ...]  # of the things of the scene, in their order

    @property
    def name(self) -> str:
        return f"{self.split}/{self.number:06d}"

    def generator(self, purpose: int) -> np.random.Generator:
        """A fresh stream of random numbers, the same for both takes of the scene."""
        return _generator(self.seed, self.split, purpose, self.scene_number)


def clips(split: str, count: int, num_objects: int, seed: int) -> list[Clip]:
    """The first `count` clips of a split. A larger set of the same seed starts with the smaller one.

    Raises ConfigError if there are not enough different scenes.
    """
    num_possible = (
        math.comb(len(PLACES), num_objects)
        * math.perm(len(COLOURS), num_objects)
        * (len(SHAPES) * len(SIZES)) ** num_objects
    )
    limit = int(num_possible * SHARES[split] / 2)  # beyond half of them, most draws would be repetitions
    num_scenes = _place(count - 1)[0] + 1
    if num_scenes > limit:
        raise ConfigError(
            f"the moving-shapes set cannot have {count} {split} clips: scenes of {num_objects} objects "
            f"suffice for {limit + limit // FILMED_TWICE}; lower {split}, or raise objects"
        )
    found: list[Clip] = []
    names = tuple(MOTIONS)
    scenes = _scenes(split, num_scenes, num_objects, seed)
    for number in range(count):
        index, take = _place(number)
        # two different ways for all objects to move, each written as a number of base len(MOTIONS)
        codes = _generator(seed, split, TAKES, index).choice(len(names) ** num_objects, size=2, replace=False)
        motions = tuple(
            names[codes[take] // len(names) ** thing % len(names)] for thing in range(num_objects)
        )
        found.append(Clip(seed, split, number, index, scenes[index], motions))
    return found


def _place(number: int) -> tuple[int, int]:
    """The scene of a clip, and which of its takes the clip is."""
    group, position = divmod(number, FILMED_TWICE + 1)
    take = position // FILMED_TWICE
    return group * FILMED_TWICE + position - take, take


def split_of(scene: Scene) -> str:
    """The one split a scene can be in."""
    spelling = "; ".join(f"{thing.size} {thing.colour} {thing.shape} {thing.place}" for thing in scene)
    position = int.from_bytes(hashlib.sha256(spelling.encode()).digest()[:8]) / 2**64
    for split, share in SHARES.items():
        if position < share:
            return split
        position -= share
    return split  # the shares' sum may be rounded to a little less than 1


def captions(clip: Clip) -> tuple[str, ...]:
    """One caption per template, each naming size, colour, shape, place and motion of every object."""
    # words are chosen by fractions, so that a choice among 4 takes as much of the stream as one among 3 and
    # both takes of a scene get the same words for what they share
    generator = clip.generator(WORDS)
    told: list[str] = []
    for number, template in enumerate(TEMPLATES):
        clauses = []
        for thing, motion in zip(clip.scene, clip.motions, strict=True):
            size, colour, shape, place, verb, direction = generator.random(6)
            words = {
                "size": _pick(SIZES[thing.size], size),
                "colour": _pick(COLOURS[thing.colour], colour),
                "shape": _pick(SHAPES[thing.shape], shape),
                "place": _pick(PLACES[thing.place], place),
            }
            if motion == "still":
                words["motion"] = _pick(RESTING, verb)[template.verb]
            else:
                words["motion"] = f"{_pick(MOVING, verb)[template.verb]} {_pick(MOTIONS[motion], direction)}"
            clauses.append(template.clause.format(**words))
        first = number % len(clauses)  # another object is named first in every paraphrase
        told.append(template.opening + template.joiner.join(clauses[first:] + clauses[:first]))
    return tuple(told)


def _pick(words: Sequence[WordT], fraction: float) -> WordT:
    return words[int(fraction * len(words))]


def _scenes(split: str, count: int, num_objects: int, seed: int) -> list[Scene]:
    """`count` different scenes of one split, by drawing until that many have turned up."""
    generator = _generator(seed, split, SCENES, 0)
    found: dict[Scene, None] = {}
    while len(found) < count:
        places = sorted(generator.permutation(len(PLACES))[:num_objects])
        colours = generator.permutation(len(COLOURS))[:num_objects]
        shapes = generator.integers(len(SHAPES), size=num_objects)
        sizes = generator.integers(len(SIZES), size=num_objects)
        scene = tuple(
            Thing(tuple(SIZES)[size], tuple(COLOURS)[colour], tuple(SHAPES)[shape], tuple(PLACES)[place])
            for size, colour, shape, place in zip(sizes, colours, shapes, places, strict=True)
        )
        if split_of(scene) == split:
            found[scene] = None
    return list(found)


def _generator(seed: int, split: str, purpose: int, index: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, seed, tuple(SHARES).index(split), purpose, index])
