"""How many samples a set should have: as published, where its name is that of a known benchmark.

A manifest does not say which variant of its benchmark it is, so it is taken for the one it differs least from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mac_ray.data.manifest import Manifest
from mac_ray.data.readers import (
    activitynet,
    coco,
    didemo,
    flickr8k,
    flickr30k,
    lsmdc,
    msrvtt,
    msvd,
)
from mac_ray.data.readers.published import Published

VARIANTS: dict[str, tuple[Published, ...]] = {
    "activitynet": tuple(activitynet.PUBLISHED.values()),
    "coco": (coco.PUBLISHED,),
    "didemo": (didemo.PUBLISHED,),
    "flickr8k": (flickr8k.PUBLISHED,),
    "flickr30k": (flickr30k.PUBLISHED,),
    "lsmdc": (lsmdc.PUBLISHED,),
    "msrvtt": tuple(msrvtt.PUBLISHED.values()),
    "msvd": (msvd.PUBLISHED,),
}


@dataclass(frozen=True)
class Expected:
    sizes: Mapping[str, int]  # samples by split; of others the manifest's are right
    source: str  # who says so


def expected_of(manifest: Manifest, told: Mapping[str, int]) -> Expected:
    """`told`, where anything is; else as published; else what the manifest has."""
    found = manifest.split_sizes()
    if told:
        return Expected(told, "--expect")
    if manifest.name not in VARIANTS:
        return Expected({}, "the manifest")

    def difference(published: Published) -> int:
        return sum(abs(size - found.get(split, 0)) for split, size in published.sizes.items())

    nearest = min(VARIANTS[manifest.name], key=difference)
    if not difference(nearest):
        return Expected(nearest.sizes, nearest.source)
    # of other lists, such as LAVIS', no sizes are published
    return Expected(nearest.sizes, f"{nearest.source}; the nearest that is published, --expect takes others")
