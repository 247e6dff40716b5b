"""A trained encoder as a folder to take anywhere, and as a model in MLflow.

    python -m mac_ray.export RUN_OR_CHECKPOINT OUT
    python -m mac_ray.export RUN_OR_CHECKPOINT OUT --mlflow

    from mac_ray.encoder import load_encoder
    encoder = load_encoder("OUT")

The folder has the weights (safetensors), the config, the tokeniser and a note of where they come from. It names
no folder of the machine that made it.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from mac_ray.config import Cluster, Config, ConfigError, Storage, Tracking
from mac_ray.config.file import to_yaml
from mac_ray.encoder import Encoder, open_encoder
from mac_ray.errors import EXIT_BAD_INPUT, told
from mac_ray.model.weights import fingerprint
from mac_ray.passwords import without_passwords
from mac_ray.terminal import say, say_stopped
from mac_ray.tracking.address import public
from mac_ray.tracking.journal import FILE_NAME as JOURNAL
from mac_ray.training import checkpoint
from mac_ray.training.folder import EncoderFiles, ExportFolder, RunFolder, find_encoder

RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("source", type=Path, help="a run's folder (its newest checkpoint), or one checkpoint")
    parser.add_argument("out", type=Path, help="a folder to be made")
    parser.add_argument(
        "--mlflow", action="store_true", help="log it as a model of the run in MLflow as well"
    )
    parser.add_argument("--uri", help="that MLflow; without it, those that the run was sent to")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        if given.uri and not given.mlflow:
            raise ConfigError(
                "--uri says where MLflow is, but --mlflow is not given; give it too, or leave --uri out"
            )
        files = find_encoder(given.source)
        if given.mlflow and not (files.config.parent / JOURNAL).is_file():
            raise ConfigError(
                f"{given.source} is not of a run with a journal, so MLflow has no run that the model would belong "
                "to; give the run's folder, or leave --mlflow out"
            )
        embedding_size = export(files, given.out).config.model.embedding_size
        say(console, f"exported to {given.out}; load_encoder({str(given.out)!r}) of mac_ray.encoder loads it")
        if given.mlflow:
            log_to_mlflow(given.out.absolute(), embedding_size, files.config.parent, given.uri, console)
    except ConfigError as error:
        say(console, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except (OSError, KeyboardInterrupt) as error:
        return say_stopped(error, console, "start it again")
    return 0


def export(files: EncoderFiles, out: Path) -> Encoder:
    """Write an encoder into a new folder, complete or not at all, and return it.

    Raises ConfigError when the encoder cannot be loaded, or the folder exists or cannot be written.
    """
    encoder = open_encoder(files)
    if out.exists():
        raise ConfigError(f"{out} exists already; give the name of a folder that does not")
    folder = ExportFolder(out.with_name(f".{out.name}.{os.getpid()}"))
    try:
        folder.path.mkdir(parents=True)
        shutil.copyfile(files.weights, folder.weights)
        shutil.copyfile(files.tokenizer, folder.tokenizer)
        folder.config.write_text(to_yaml(portable(encoder.config)))
        folder.note.write_text(_note(encoder, files))
        folder.path.rename(out)
    except OSError as error:
        raise ConfigError(
            f"the export cannot be written to {out} ({error.strerror}); give another folder"
        ) from error
    finally:  # nothing is there where it was renamed
        shutil.rmtree(folder.path, ignore_errors=True)
    return encoder


def portable(config: Config) -> Config:
    """The config without the folders of the machine that trained: what was read there is called by its last name."""

    def last_name(source: str | None) -> str | None:
        if source is None:
            return None
        return Path(source).name if Path(source).is_absolute() else without_passwords(source)

    model = config.model
    video = model.video.model_copy(update={"pretrained": last_name(model.video.pretrained)})
    text = model.text.model_copy(
        update={
            "pretrained": last_name(model.text.pretrained),
            "tokenizer": last_name(model.text.tokenizer),
        }
    )
    whole = last_name(model.pretrained)
    sets = {
        name: section.model_copy(update={"path": last_name(section.path), "root": None})
        if section.kind == "manifest"
        else section
        for name, section in config.data.sets.items()
    }
    return config.model_copy(
        update={
            "model": model.model_copy(update={"pretrained": whole, "video": video, "text": text}),
            "data": config.data.model_copy(update={"sets": sets}),
            "cluster": Cluster(),
            "storage": Storage(),
            "tracking": Tracking(),
        }
    )


def log_to_mlflow(folder: Path, embedding_size: int, run: Path, uri: str | None, console: Console) -> None:
    """Log the exported encoder as a model of its run, to the given MLflow or all that the run was sent to.

    Raises ConfigError when MLflow cannot be reached or refuses.
    """
    from mac_ray.tracking.environment import tame_mlflow

    tame_mlflow()
    from mac_ray.tracking import sender  # mlflow reads the environment while it is imported
    from mac_ray.tracking.mlflow import RefusedError, UnavailableError
    from mac_ray.tracking.model import log_model

    try:
        for address in sender.destinations(run, uri):
            name = log_model(folder, embedding_size, run, address)
            say(console, f"in MLflow at {public(address)}: mlflow.pyfunc.load_model({name!r})")
    except (ValueError, UnavailableError, RefusedError, OSError) as error:
        raise ConfigError(
            f"{folder} is written, but the model was not logged: {told(error)}; when that is mended, delete the folder "
            "and give the same command"
        ) from error


def _note(encoder: Encoder, files: EncoderFiles) -> str:
    """README.md of the folder: what it is, how to load it, where it comes from, and how good it was."""
    config, section = encoder.config, encoder.config.model
    rows = {
        "run": files.config.parent.name,
        "checkpoint": files.weights.parent.name,
        "weights": f"sha256 of names and values {fingerprint(encoder.model.state_dict())}",
        "trained on": ", ".join(sorted({name for stage in config.stages for name in stage.data})),
        "started from": ", ".join(
            last
            for source in (section.pretrained, section.video.pretrained, section.text.pretrained)
            if source and (last := Path(source).name if Path(source).is_absolute() else source)
        )
        or f"seed {config.seed}",
        "frames": f"at most {section.video.max_frames}, of {config.data.image_size} pixels",
        "written with": ", ".join(f"{package} {version(package)}" for package in RECORDED_PACKAGES),
    }
    rows |= _scores(files)
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"# {files.config.parent.name}\n\nA video-text dual encoder of mac_ray.\n\n"
        "```python\nfrom mac_ray.encoder import load_encoder\n\n"
        'encoder = load_encoder("this folder")\n'
        'similarity = encoder.embed_texts(["a caption"]) @ encoder.embed_videos(["a_video.mp4"]).T\n```\n\n'
        f"| | |\n|---|---|\n{table}\n\n"
        "`config.yaml` is that of the run, without where it ran and where its data lay.\n"
    )


def _scores(files: EncoderFiles) -> dict[str, str]:
    """Test scores of a finished run, if these are the weights that were scored."""
    run = RunFolder(files.config.parent)
    if not run.scores.is_file() or checkpoint.latest(run.checkpoints) != files.weights.parent:
        return {}
    summary = json.loads(run.scores.read_text())
    named = {name: value for name, value in summary["metrics"].items() if name.endswith("R1")}
    return {f"{summary['scored']}/{name}": f"{value:.1f}" for name, value in named.items()}


if __name__ == "__main__":
    raise SystemExit(main())
