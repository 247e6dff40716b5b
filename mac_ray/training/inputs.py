"""The data of a run, opened: manifests, frame caches, and a reader per set and split."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mac_ray.config import Config, ConfigError
from mac_ray.data.clips import ClipReader
from mac_ray.data.decode import DecodeError, unusable
from mac_ray.data.frame_cache import ensure_cache
from mac_ray.data.manifest import Manifest
from mac_ray.data.pool import midpoints
from mac_ray.data.quarantine import Quarantine
from mac_ray.data.sets import Progress, open_sets

TRIED_SAMPLES = 16


@dataclass(frozen=True)
class RunData:
    manifests: Mapping[str, Manifest]
    train: Mapping[str, Manifest]  # the train split of every set that a stage draws from
    val: Manifest | None  # None where nothing is trained
    test: Manifest

    @property
    def splits(self) -> list[tuple[str, Manifest]]:
        """All that a run reads, each with the name of its split."""
        train = [("train", manifest) for manifest in self.train.values()]
        return [*train, *self.scored]

    @property
    def scored(self) -> list[tuple[str, Manifest]]:
        """Val and test, or test alone."""
        return [("test", self.test)] if self.val is None else [("val", self.val), ("test", self.test)]

    @property
    def fingerprints(self) -> dict[str, str]:
        return {name: manifest.fingerprint for name, manifest in self.manifests.items()}

    @property
    def train_sizes(self) -> dict[str, int]:
        return {name: len(manifest) for name, manifest in self.train.items()}


def require_decoder(config: Config) -> None:
    """Raises ConfigError for one that this machine has not."""
    if reason := unusable(config.cluster.decoder):
        raise ConfigError(
            f"cluster.decoder is {config.cluster.decoder}, {reason}; or set cluster.decoder=pyav"
        )


def open_data(config: Config, progress: Progress) -> RunData:
    """Open, or make, every set that the config uses.

    Raises ConfigError for a set without the split it needs, or a decoder that this machine has not.
    """
    require_decoder(config)
    used = {name for stage in config.stages for name in stage.data} | {config.evaluation.data}
    sets = {name: section for name, section in config.data.sets.items() if name in used}
    manifests = open_sets(sets, Path(config.storage.cache), progress)

    def split(name: str, which: str) -> Manifest:
        sizes = manifests[name].split_sizes()
        if not sizes.get(which):
            raise ConfigError(
                f"data.sets.{name}: {manifests[name].path} has no {which} samples (it has {sizes}); "
                f"write it again with a {which} split: by the official lists, a column `split`, or, of your own folder "
                "or table, `python -m mac_ray.prepare manifest … --val 0.1 --test 0.1`"
            )
        return manifests[name].split(which)

    return RunData(
        manifests=manifests,
        train={
            name: split(name, "train")
            for name in sorted({name for stage in config.stages for name in stage.data})
        },
        val=split(config.evaluation.data, "val") if config.stages else None,
        test=split(config.evaluation.data, "test"),
    )


def reader(
    manifest: Manifest, split: str, config: Config, progress: Progress, quarantine: Quarantine | None = None
) -> ClipReader:
    """Clips of one split, from its frame cache when that fits cluster.cache_budget_gb.

    Raises ConfigError when the cache cannot be written.
    """
    cache = ensure_cache(
        manifest,
        split,
        config.data,
        config.cluster.decoder,
        Path(config.storage.cache),
        config.cluster.cache_budget_gb,
        lambda done, total: progress(f"decoding {manifest.name} {split}", done, total),
        config.cluster.decode_timeout_s,
    )
    return ClipReader(
        manifest, config.data, config.cluster.decoder, cache, config.cluster.decode_timeout_s, quarantine
    )


def require_media(config: Config, data: RunData) -> None:
    """As `require_decodable` for all that a run reads, without making caches of frames. Raises ConfigError."""
    for split, manifest in data.splits:
        clips = ClipReader(
            manifest, config.data, config.cluster.decoder, None, config.cluster.decode_timeout_s
        )
        require_decodable(clips, split)


def require_decodable(clips: ClipReader, split: str) -> None:
    """Raises ConfigError if not one of some samples can be decoded: usually the media lie elsewhere."""
    reasons: list[str] = []
    for number in midpoints(len(clips.manifest), min(TRIED_SAMPLES, len(clips.manifest))):
        try:
            clips.read(clips.manifest[int(number)], lambda _: [0])
        except DecodeError as error:
            reasons.append(str(error))
        else:
            return
    raise ConfigError(
        f"{clips.manifest.path}: none of the {len(reasons)} {split} samples tried can be decoded "
        f"({reasons[0]}); if the media moved, set the root of this set in data.sets"
    )
