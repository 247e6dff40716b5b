"""Everything that can go wrong before workers are taken, done and checked on the driver.

A run's folder is named by its identity, so the same command finds the same run again.
"""

import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow.compute as pc

from mac_ray import files
from mac_ray.config import Config, ConfigError, value_at
from mac_ray.config.file import to_yaml
from mac_ray.config.unused import unused_masks
from mac_ray.data.lexicon import count_words, save_words
from mac_ray.data.manifest import Manifest
from mac_ray.data.sets import Progress
from mac_ray.data.source import is_url
from mac_ray.data.text import CaptionTokenizer, save_tokenizer
from mac_ray.model.masking import seen_of
from mac_ray.objectives.costs import stage_costs
from mac_ray.retrieval.protocols import PROTOCOLS
from mac_ray.tracking.address import public
from mac_ray.tracking.journal import status_of
from mac_ray.training.first_weights import save_first_weights, source_fingerprints, with_found_weights
from mac_ray.training.folder import RunFolder, claimed
from mac_ray.training.hiding import counts_words
from mac_ray.training.inputs import RunData, open_data, reader, require_decodable
from mac_ray.training.plan import Leg, legs
from mac_ray.training.planned import forward_cost, training_flops
from mac_ray.training.truncation import truncation_notes

FEWEST_SCORED = 2  # samples
CODE = (":(top)*.py", ":(top)*.yaml")  # what may change a run; manifests and shards lie in checkouts too
MOST_SAMPLES = 4_000_000  # of a set, whose captions are read: a minute or two
RECORDED_PACKAGES = ("torch", "ray", "transformers", "tokenizers", "timm", "mlflow", "decord", "av", "numpy")


@dataclass(frozen=True)
class PreparedRun:
    config: Config  # with absolute folders
    identity: str
    folder: RunFolder
    plan: list[Leg]
    data: RunData
    sources: dict[str, str]  # fingerprints of weights and tokeniser that are read, by dotted path
    notes: list[str]  # what is no mistake, but should not go unseen

    @property
    def name(self) -> str:
        return self.folder.path.name


def prepare(
    config: Config, read_from: Path, write_below: Path, progress: Progress, planned: str | None = None
) -> PreparedRun:
    """Make or open the data, check the config against it, and lay out the run's folder.

    Relative paths of what is read and of what is written are taken from the two folders. `planned` is the identity that
    the run had where it was planned, if that was elsewhere or earlier.

    Raises ConfigError or ManifestError.
    """
    config = with_absolute_folders(config, read_from, write_below)
    require_storage(config)
    data = open_data(config, progress)
    plan = legs(config, data.train_sizes)
    require_sound(config, data)
    config, sources, identity = identify(config, data)
    if planned not in (None, identity):
        seen = [*data.fingerprints, *(name for name in ("model", "video", "text") if name in sources)]
        raise ConfigError(
            f"{socket.gethostname()} would train another run than was planned: {', '.join(seen)} or mac_ray itself has "
            "changed meanwhile, or is another on this node; let all nodes see the same, and start the command again"
        )
    for split, manifest in data.splits:
        require_decodable(reader(manifest, split, config, progress), split)
    folder = claimed(Path(config.storage.runs), {identity: config.name})[identity]
    if not folder.tokenizer.exists():
        save_tokenizer(config.model.text, captions_of_training(data), folder.tokenizer)
    tokenizer = CaptionTokenizer(folder.tokenizer, config.data.max_caption_tokens)
    if status_of(folder.path) != "FINISHED":
        save_first_weights(config, folder, tokenizer)
    if counts_words(config) and not folder.words.exists():
        save_words(count_words(captions_of_training(data), tokenizer), folder.words)
    if not folder.config.exists():
        save_config(config, folder)
    notes = [
        *unused_masks(config),
        *_idle_ratios(config),
        *_cut_groups(config),
        *truncation_notes(config, data, tokenizer),
    ]
    return PreparedRun(config, identity, folder, plan, data, sources, notes)


def require_storage(config: Config) -> None:
    """Raises ConfigError where a folder that is written to, an absolute one, cannot be."""
    _require_writable(Path(config.storage.runs), "storage.runs")
    _require_writable(Path(config.storage.cache), "storage.cache")


def require_sound(config: Config, data: RunData) -> None:
    """The evaluation fits its data, as far as can be told without decoding any. Raises ConfigError."""
    for split, manifest in data.scored:
        if len(manifest) < FEWEST_SCORED:
            raise ConfigError(
                f"data.sets.{config.evaluation.data}: {manifest.path} has {len(manifest)} {split} sample, among which "
                f"nothing can be searched; give it at least {FEWEST_SCORED}"
            )
    _require_views(config, data.val)
    _require_benchmark(config, data.test)


def identify(
    config: Config, data: RunData, sources: dict[str, str] | None = None
) -> tuple[Config, dict[str, str], str]:
    """The config with the weights it starts from found, their fingerprints, and what identifies the run.

    Folders are absolute. `sources` are the fingerprints, where they are known of another config of this model: all
    weights are read for them. Raises ConfigError.
    """
    config = with_found_weights(config)
    sources = source_fingerprints(config) if sources is None else sources
    return config, sources, config.identity(data.fingerprints, sources)


def captions_of_training(data: RunData) -> Iterator[str]:
    """What the tokeniser and the counts of words are made of: all captions of the training sets.

    Of a set of more than MOST_SAMPLES, every second, third … sample's: words are as frequent in them.
    """
    for manifest in data.train.values():
        every = -(-len(manifest) // MOST_SAMPLES)
        for captions in islice(manifest.captions(), 0, None, every):
            yield from captions


def with_absolute_folders(config: Config, read_from: Path, write_below: Path) -> Config:
    """Ray Train changes the directory of its workers, so relative paths are resolved on the driver.

    Data and checkpoints to read are looked for from one folder, runs and caches are written below another.
    """

    def absolute(path: str, base: Path) -> str:
        return str((base / Path(path).expanduser()).resolve())

    def where_local(source: str | None) -> str | None:
        """A hub name stays what it is."""
        return (
            absolute(source, read_from) if source and Path(absolute(source, read_from)).exists() else source
        )

    def where_on_disk(place: str) -> str:
        """A URL stays what it is."""
        return place if is_url(place) else absolute(place, read_from)

    sets = {
        name: section.model_copy(
            update={
                "path": where_on_disk(section.path),
                "root": section.root and where_on_disk(section.root),
            }
        )
        if section.kind == "manifest"
        else section
        for name, section in config.data.sets.items()
    }
    model = config.model
    video = model.video.model_copy(update={"pretrained": where_local(model.video.pretrained)})
    text = model.text.model_copy(
        update={
            "pretrained": where_local(model.text.pretrained),
            "tokenizer": where_local(model.text.tokenizer),
        }
    )
    whole = model.pretrained and absolute(model.pretrained, read_from)  # always a path
    storage = config.storage.model_copy(
        update={
            "runs": absolute(config.storage.runs, write_below),
            "cache": absolute(config.storage.cache, write_below),
        }
    )
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"sets": sets}),
            "model": model.model_copy(update={"pretrained": whole, "video": video, "text": text}),
            "storage": storage,
        }
    )


def parameters(run: PreparedRun) -> dict[str, str]:
    """Every value of what is trained, and what follows from it."""
    flat = _flattened(run.config.trained(run.data.fingerprints, run.sources))
    tokenizer = CaptionTokenizer(run.folder.tokenizer, run.config.data.max_caption_tokens)
    longest = run.config.data.max_caption_tokens
    flat["derived.gflops_at_text_tokens"] = str(longest)  # without padding: no caption is longer
    side = run.config.data.image_size // run.config.model.video.patch_size
    for leg in run.plan:
        ends = [forward_cost(run.config, leg.stage, longest, progress) for progress in (0.0, 1.0)]
        gflops = [f"{(cost.flops + cost.guidance_flops) / 1e9:.4g}" for cost in ends]
        flat |= {
            f"derived.{leg.stage.name}.steps": str(leg.num_steps),
            f"derived.{leg.stage.name}.samples": str(leg.num_samples),
            f"derived.{leg.stage.name}.visible_patches_per_frame": f"{_way(cost.visible for cost in ends)} "
            f"of {side**2}",
            f"derived.{leg.stage.name}.visible_frames": f"{_way(cost.frames for cost in ends)} "
            f"of {leg.stage.frames}",
            f"derived.{leg.stage.name}.forward_gflops": _way(gflops),
        }
        flat |= {
            f"derived.{leg.stage.name}.samples_per_epoch.{name}": str(count)
            for name, count in leg.drawn_per_epoch.items()
        }
        for name, extra in stage_costs(run.config, leg.stage, longest, tokenizer.vocabulary_size).items():
            flat |= {
                f"derived.{leg.stage.name}.{name}.parameters": str(extra.parameters),
                f"derived.{leg.stage.name}.{name}.teacher_parameters": str(extra.teacher_parameters),
                f"derived.{leg.stage.name}.{name}.training_gflops": f"{extra.training_flops / 1e9:.4g}",
            }
    return flat


def _way(ends: Iterable[object]) -> str:
    return " to ".join(dict.fromkeys(map(str, ends)))


def step_flops(run: PreparedRun) -> list[float]:
    """Of a step of each stage, forward and backward, were all captions as long as may be: what steps of different
    stages weigh against each other, without reading any caption."""
    tokenizer = CaptionTokenizer(run.folder.tokenizer, run.config.data.max_caption_tokens)
    return [
        leg.stage.batch_size
        * training_flops(run.config, leg.stage, run.config.data.max_caption_tokens, tokenizer.vocabulary_size)
        for leg in run.plan
    ]


def tags(run: PreparedRun) -> dict[str, str]:
    """Data fingerprints, where weights came from, versions, machine and git state."""
    found = {f"data.{name}": fingerprint for name, fingerprint in run.data.fingerprints.items()}
    model = run.config.model
    places = {"model": model.pretrained, "video": model.video.pretrained, "text": model.text.pretrained}
    found |= {f"weights.{name}": place for name, place in places.items() if place}
    for package in RECORDED_PACKAGES:
        try:
            found[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            found[f"version.{package}"] = "not installed"
    found["version.python"] = platform.python_version()
    found["machine"] = machine()
    return found | git_state()


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


def git_state(package: Path = Path(__file__).parents[1]) -> dict[str, str]:
    """Commit, the last that changed the package, whether code differs from it, and a hash of what differs within the
    package, where it is run from a git checkout; or else the commit that GIT_COMMIT gives, as for a Ray job, which runs
    in a copy without .git."""

    def git(*arguments: str) -> str | None:
        try:
            asked = subprocess.run(
                ["git", "-C", str(package), *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:  # git is not installed
            return None
        return asked.stdout.strip() if asked.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", *CODE)
    if commit is None or changes is None:
        # all, or a run that began in a checkout would keep what was true there
        given = os.environ.get("GIT_COMMIT", "not a git checkout")
        return {"git.commit": given, "git.code": given, "git.dirty": "unknown"}
    code = git("log", "-1", "--format=%H", "--", ".") or commit
    differing = [git("diff", "HEAD", "--", ".") or ""]
    for name in (git("ls-files", "--others", "--exclude-standard", "--", "*.py") or "").splitlines():
        differing.append(f"{name}\n{(package / name).read_text(errors='replace')}")
    differs = hashlib.sha256("\n".join(differing).encode()).hexdigest()[:10] if any(differing) else ""
    return {
        "git.commit": commit,
        "git.code": code,
        "git.dirty": str(bool(changes)).lower(),
        "git.changes": differs,
    }


def save_config(config: Config, folder: RunFolder) -> None:
    """For whoever reads the run's folder; while nobody drives the run, others may be reading it."""
    files.write(folder.config, to_yaml(_without_password(config)))


def _without_password(config: Config) -> Config:
    """As others may read it, who see a run's files in MLflow."""
    if config.tracking.uri is None:
        return config
    tracking = config.tracking.model_copy(update={"uri": public(config.tracking.uri)})
    return config.model_copy(update={"tracking": tracking})


def _idle_ratios(config: Config) -> Iterator[str]:
    """A sentence for each ratio that is too small to hide anything of so few frames or patches."""
    side = config.data.image_size // config.model.video.patch_size
    for number, stage in enumerate(config.stages):
        section = config.stage_masking(stage).video
        whole = (stage.frames, side**2)
        seen = [
            seen_of(section, value_at(section.ratio, progress), stage.frames, (side, side))
            for progress in (0.0, 1.0)
        ]
        if not section.hides_nothing and all((each.frames, each.visible) == whole for each in seen):
            yield (
                f"stages.{number}.masking.video: {section.strategy} at this ratio hides nothing of {stage.frames} "
                f"frames of {side**2} patches; raise masking.video.ratio, or set masking.video.strategy=none"
            )


def _cut_groups(config: Config) -> Iterator[str]:
    """A sentence for each stage in which passes do not take whole groups of neighbours for hard wrong captions."""
    for number, stage in enumerate(config.stages):
        matching, passes = (
            config.stage_objectives(stage).matching,
            config.cluster.most_workers * stage.accumulate,
        )
        if matching is not None and passes > 1 and stage.batch_size % (passes * matching.group_size):
            yield (
                f"stages.{number}: {passes} passes (cluster.workers times stages.{number}.accumulate) share "
                f"{stage.batch_size} samples and cut groups of {matching.group_size}, so objectives.matching draws "
                "hard wrong captions from fewer neighbours than one pass would, and its loss is another; let "
                f"objectives.matching.group_size divide {stage.batch_size / passes:g}"
            )


def _require_views(config: Config, val: Manifest | None) -> None:
    section = config.evaluation.masked_views
    if section is not None and val is not None and section.videos > len(val):
        raise ConfigError(
            f"evaluation.masked_views.videos is {section.videos}, but the val split of {config.evaluation.data} has "
            f"only {len(val)} samples; lower it"
        )


def _require_benchmark(config: Config, test: Manifest) -> None:
    section = config.evaluation
    benchmark = PROTOCOLS[section.protocol].benchmark
    if benchmark is not None:
        num_captions = benchmark.counted(pc.list_value_length(test.table["captions"]).to_numpy())
        if reason := benchmark.refusal(len(test), num_captions, section.allow_missing):
            raise ConfigError(
                f"evaluation.protocol is {section.protocol}, but data.sets.{section.data} is another gallery: {reason}"
            )


def _require_writable(folder: Path, place: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{place} is {folder}, which cannot be written to ({error.strerror}); set another folder"
        ) from error


def _flattened(tree: Any, prefix: str = "") -> dict[str, str]:
    """By dotted path; of a masking that hides nothing, its strategy alone, or runs would be compared by its ratio."""
    if isinstance(tree, dict) and tree.get("strategy") == "none":
        tree = {"strategy": "none"}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None or (isinstance(tree, list) and not any(isinstance(item, dict) for item in tree)):
        return {prefix.rstrip("."): str(tree)}
    flat: dict[str, str] = {}
    for name, value in items:
        flat |= _flattened(value, f"{prefix}{name}.")
    return flat
