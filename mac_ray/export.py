"""A trained encoder as a folder to take anywhere, and as a model in MLflow.

    python -m mac_ray.export RUN_OR_CHECKPOINT OUT
    python -m mac_ray.export RUN_OR_CHECKPOINT OUT --mlflow

    from mac_ray.encoder import load_encoder
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
        shutil.rmtree(folder.path, ignore_errors=True)
        raise ConfigError(
            f"the export cannot be written to {out} ({error.strerror}); give another folder"
        ) from error
    return encoder


def portable(config: Config) -> Config:
    """The config without the folders of the machine that trained: what was read there is called by its last name."""

    def last_name(source: str | None) -> str | None:
        return Path(source).name if source and Path(source).is_absolute() else source

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


def log_to_mlflow(
    folder: Path, embedding_size: int, run: Path, uri: str | None, console: Console
) -> None:
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
    except (ValueError, UnavailableError, RefusedError) as error:
        raise ConfigError(f"{folder} is written, but the model was not logged: {error}") from error


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
