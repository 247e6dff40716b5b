"""Score weights as they are: on other data, under another protocol, with other frames. Nothing is trained.

    python -m mac_ray.evaluate RUN [section.key=value …] [--dry-run] [--without-ray]
    python -m mac_ray.evaluate runs/RUN evaluation.frames=8 model.video.inflate=linear cluster.gpus_per_worker=1
    python -m mac_ray.evaluate runs/RUN/checkpoints/step_00000400 evaluation.protocol=every_caption

RUN is the folder of a run (its newest checkpoint), a checkpoint or an export, or a run's id in MLflow. What is not
said is as that run was scored, on all GPUs or on up to two workers of CPUs. The scores are a run of their own, of no
stages.
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mac_ray.config import Config, ConfigError
from mac_ray.config import file as config_file
from mac_ray.config.experiment import STAGE_SECTIONS
from mac_ray.data.manifest import ManifestError
from mac_ray.errors import EXIT_BAD_INPUT
from mac_ray.pretrain import pretrain, train_here, train_on_ray, working_directory
from mac_ray.terminal import say, say_stopped
from mac_ray.tracking.journal import JournalError
from mac_ray.tracking.lookup import RunNotFoundError, folder_given
from mac_ray.training import checkpoint
from mac_ray.training.folder import EncoderFiles, find_encoder
from mac_ray.training.results import scored_set

EVALUATED_TAG = "evaluated"


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one encoder; returns the exit code."""
    given = _parser().parse_intermixed_args(arguments)
    console = Console()
    try:
        overrides = [
            *given.overrides,
            *([f"tracking.uri={given.tracking_uri}"] if given.tracking_uri else []),
        ]
        uri = dict(map(config_file.parsed_override, overrides)).get("tracking.uri")
        here = working_directory(console)
        files = find_encoder(folder_given(given.run, uri, here))
        config = evaluation_of(files, overrides)
        if given.dry_run:
            print(config_file.to_yaml(config), end="")
            return 0
        newest = checkpoint.latest(files.weights.parent.parent)
        if newest not in (None, files.weights.parent):
            said = (
                "is not the last of its run; whoever chooses one by these scores chooses it on the test split"
            )
            say(console, f"{_name(files)} {said}", "yellow")
        launch = train_here if given.without_ray else train_on_ray
        return pretrain(config, console, launch, {EVALUATED_TAG: _name(files)}, here=here)
    except (ConfigError, ManifestError, JournalError, RunNotFoundError) as error:
        say(console, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except (OSError, KeyboardInterrupt) as error:
        return say_stopped(error, console)


def evaluation_of(files: EncoderFiles, overrides: Sequence[str]) -> Config:
    """The config of a run that scores an encoder and trains nothing: the encoder's own where the overrides, such as
    `evaluation.frames=8`, say nothing else.

    Raises ConfigError, also for an override of how to train.
    """
    given = [config_file.parsed_override(override) for override in overrides]
    for (path, _), override in zip(given, overrides, strict=True):
        if path.split(".")[0] in ("stages", *STAGE_SECTIONS):
            raise ConfigError(
                f"override {override!r} is about training, of which there is none here; leave it out"
            )
        if path in ("model", "model.pretrained"):
            raise ConfigError(
                f"override {override!r} gives other weights than {files.weights}; give them as RUN"
            )
    fixed: dict[str, Any] = {
        # read anywhere, without the checkpoint that training began from
        "model.video.pretrained": None,
        "model.text.pretrained": None,
        "model.text.tokenizer": str(files.tokenizer),
        # the folder, not the file, which may be a link to one of another name
        "model.pretrained": str(files.weights.parent),
        "stages": [],
        "evaluation.masked_views": None,
        # the cluster need not be as large as the one that trained, nor have its folders
        "cluster.workers": "auto",
        "cluster.threads": None,
        "storage": {},
        "tracking.uri": None,
        "tracking.enabled": True,
    }
    theirs = config_file.load(files.config)
    config = config_file.changed(files.config, [*fixed.items(), *given])
    own, frames = config.model.video, theirs.model.video.max_frames
    if own.max_frames > frames and own.inflate == "keep":
        raise ConfigError(
            f"model.video.max_frames is {own.max_frames}, but {files.weights} has places in time for {frames} frames; "
            "leave it out, and say with model.video.inflate=linear how these become more"
        )
    if "name" in dict(given):
        return config
    name = re.sub(r"[^\w.,=+-]+", "_", f"{config.name}-on-{_scored(config, theirs)}")
    return config_file.changed(files.config, [*fixed.items(), *given, ("name", name)])


def _scored(config: Config, theirs: Config) -> str:
    """The set and protocol, with the frames where they are others than those of the run."""
    section = config.evaluation
    scored = scored_set(config, section.sampling)
    return scored if section.frames == theirs.evaluation.frames else f"{scored}-{section.frames}_frames"


def _name(files: EncoderFiles) -> str:
    """The run and its checkpoint, or the export."""
    return "/".join(dict.fromkeys((files.config.parent.name, files.weights.parent.name)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN", help="folder of a run, of a checkpoint or of an export, or a run's id in MLflow"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="e.g. evaluation.protocol=every_caption"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument(
        "--without-ray",
        action="store_true",
        help="score in this process, on this machine alone, on its GPU if it has one",
    )
    parser.add_argument(
        "--tracking-uri",
        help="where MLflow is, which knows RUN's id and gets the scores (default: as for training)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
