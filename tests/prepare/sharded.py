"""Shards made in this process, one after the other, as no number of workers may make them differently."""

from pathlib import Path

from mac_ray.data.manifest import Manifest
from mac_ray.data.manifest_writer import write
from mac_ray.prepare.destination import Destination
from mac_ray.prepare.shards import Job, convert, finished, read_index, rows_of, samples_per_shard, shards_of
from mac_ray.prepare.transcode import Options


def planned(source: Manifest, out: Path, options: Options, shard_mb: float, cache: Path) -> Job:
    destination = Destination.of(str(out))
    number = samples_per_shard(source, destination, options, shard_mb)
    return Job(str(source.path), source.fingerprint, source.root, cache, destination, options, number)


def converted(manifest: Path, out: Path, options: Options, shard_mb: float = 0.02) -> Manifest:
    """All shards of a manifest beside its media, and their manifest."""
    cache = out.with_name(f"{out.name}.cache")
    source = Manifest.open(manifest, manifest.parent, cache)
    job = planned(source, out, options, shard_mb, cache)
    shards = shards_of(source, job.samples_per_shard)
    for shard in shards:
        convert(job, shard)
    assert finished(shards, job.destination) == shards
    rows = [row for shard in shards for row in rows_of(shard, read_index(shard, job.destination)[1])]
    return write(out / "manifest.parquet", rows, "converted", out)
