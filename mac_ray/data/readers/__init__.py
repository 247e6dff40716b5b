"""Readers: official annotation files in, manifest rows out; one file per dataset.

A reader is a generator, so that a set of millions of samples is never in memory as rows, and it opens no media: which
files exist is for `prepare` to say. (`table` has them inside, and writes them out.)

To add one: a module with a generator `read`, and its line in READERS. `prepare manifest` makes the sub-command from
the signature (Path, Literal, numbers; `Annotated[Path, "help"]`) and from the module's first paragraph; paths of
samples are relative to the last Path it is given.
"""

from collections.abc import Callable, Iterator

from mac_ray.data.manifest import Row
from mac_ray.data.readers import (
    activitynet,
    cc3m,
    cc12m,
    coco,
    didemo,
    flickr8k,
    flickr30k,
    folder,
    lsmdc,
    msrvtt,
    msvd,
    table,
    webvid,
)

READERS: dict[str, Callable[..., Iterator[Row]]] = {
    "folder": folder.read,
    "table": table.read,
    "flickr8k": flickr8k.read,
    "flickr30k": flickr30k.read,
    "coco": coco.read,
    "cc3m": cc3m.read,
    "cc12m": cc12m.read,
    "webvid": webvid.read,
    "msrvtt": msrvtt.read,
    "msvd": msvd.read,
    "didemo": didemo.read,
    "activitynet": activitynet.read,
    "lsmdc": lsmdc.read,
}
