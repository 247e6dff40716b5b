"""Exports: loaded again elsewhere, they compute what the run computes."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.data.shape_clips import encode
from mac_ray.encoder import load_encoder
from mac_ray.export import main, portable
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.model import PACKAGES
from mac_ray.training.folder import RunFolder
from tests.test_encoder import CAPTIONS, clips_of, saved_run

REPOSITORY = str(Path(__file__).parents[1])


def without_repository() -> dict[str, str]:
    """The environment of a process that does not know where this package lies."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")
    }
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def test_exported_folder_computes_what_the_run_computes_though_that_is_gone(
    tiny: Config, tmp_path: Path
) -> None:
    run, _ = saved_run(tiny, tmp_path / "run", steps=(3, 7))
    encoder = load_encoder(run.path)
    expected = encoder.embed_clips(clips_of(tiny)), encoder.embed_texts(CAPTIONS)
    assert main([str(run.path), str(tmp_path / "out")]) == 0
    run.path.rename(tmp_path / "gone")
    (tmp_path / "out").rename(tmp_path / "taken elsewhere")
    exported = load_encoder(tmp_path / "taken elsewhere")
    assert torch.equal(exported.embed_clips(clips_of(tiny)), expected[0])
    assert torch.equal(exported.embed_texts(CAPTIONS), expected[1])


def test_export_of_an_older_checkpoint_has_its_weights(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run", steps=(3, 7))
    older = run.checkpoints / "step_00000003"
    assert main([str(older), str(tmp_path / "out")]) == 0
    expected = load_encoder(older).embed_clips(clips_of(tiny))
    assert torch.equal(load_encoder(tmp_path / "out").embed_clips(clips_of(tiny)), expected)


def test_export_names_no_folder_of_the_machine_that_trained(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    sets = {"kind": "manifest", "path": f"{tmp_path}/data/set.parquet", "root": f"{tmp_path}/media"}
    given = [f"data.sets.own.{key}={value}" for key, value in sets.items()]
    given += [
        "stages.0.data=[own]",
        f"model.text.tokenizer={tmp_path}/tokeniser",
        "model.pretrained=/a/b.pth",
    ]
    config = portable(config_file.load(None, [*tiny_overrides, *given]))
    assert str(tmp_path) not in config_file.to_yaml(config)
    assert config.data.sets["own"].path == "set.parquet"
    assert (config.model.text.tokenizer, config.model.pretrained) == ("tokeniser", "b.pth")
    in_store = ["data.sets.own.path=s3://key:sesame@bucket/set.parquet"]
    config = portable(config_file.load(None, [*tiny_overrides, *given, *in_store]))
    assert config.data.sets["own"].path == "s3://***@bucket/set.parquet"


def test_note_of_a_finished_run_has_its_scores_and_that_of_an_older_checkpoint_has_not(
    tiny: Config, tmp_path: Path
) -> None:
    run, _ = saved_run(tiny, tmp_path / "run", steps=(3, 7))
    run.scores.write_text(json.dumps({"scored": "shapes_one_caption", "metrics": {"t2v/R1": 41.25}}))
    assert main([str(run.path), str(tmp_path / "newest")]) == 0
    assert main([str(run.checkpoints / "step_00000003"), str(tmp_path / "older")]) == 0
    assert "| shapes_one_caption/t2v/R1 | 41.2 |" in (tmp_path / "newest/README.md").read_text()
    older = (tmp_path / "older/README.md").read_text()
    assert "R1" not in older
    assert "step_00000003" in older


def printed_by(script: str) -> str:
    """In a fresh process."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_encoder_is_loaded_without_ray_or_mlflow() -> None:
    script = (
        "import sys, mac_ray.encoder, mac_ray.training.first_weights\n"
        "print([name for name in ('ray', 'mlflow', 'timm') if name in sys.modules])"
    )
    assert printed_by(script).strip() == "[]"


# ---------------------------------------------------------------- in MLflow


def imported_by(file: Path) -> Iterator[str]:
    """The packages that a module imports as soon as it is imported itself."""
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield str(statement.module).partition(".")[0]


def requirements_of(packages: Iterable[str]) -> set[str]:
    """They and all that they require, without extras; normalised names."""
    found: set[str] = set()
    left = [canonicalize_name(package) for package in packages]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            needed = (Requirement(text) for text in requires(name) or ())
            left += [
                canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})
            ]
    return found


def test_what_the_encoder_imports_is_required_of_whoever_loads_the_model() -> None:
    script = (
        "import sys, mac_ray.encoder, mac_ray.tracking.pyfunc\n"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('mac_ray')))"
    )
    owners = packages_distributions()
    names = {name for file in printed_by(script).split() for name in imported_by(Path(file))}
    imported = {canonicalize_name(owners[name][0]) for name in names if name in owners}
    assert {"torch", "psutil"} <= imported
    assert imported - {"mac-ray"} <= requirements_of([*PACKAGES, "mlflow"])


def journalled(run: RunFolder) -> None:
    with Journal.open_or_create(run.path, name="tiny", experiment="team", identity="1d" * 32) as journal:
        journal.status("RUNNING")
        journal.metrics(1, {"train/loss": 2.0})
        journal.status("FINISHED")


LOAD = """
import sys, mlflow, numpy, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
rows = pandas.DataFrame({"video": [sys.argv[3], "", None], "text": [None, "a blue box", "two things"]})
numpy.savez(sys.argv[4], rows=model.predict(rows), texts=model.predict(rows[1:][["text"]]))
place = sys.modules["mac_ray"].__file__
assert place.startswith(sys.argv[5]), place
example = model.input_example
assert model.predict(example).shape[0] == len(example)
try: model.predict(pandas.DataFrame({"video": ["a.mp4"], "text": ["both"]}))
except ValueError as error: print(error)
"""


def exported(run: RunFolder, folder: Path, uri: str, cwd: Path) -> None:
    """Export in a process of its own: to log a model makes the address that of all that its process starts."""
    subprocess.run(
        [sys.executable, "-m", "mac_ray.export", run.path, folder, "--mlflow", "--uri", uri],
        env=without_repository() | {"PYTHONPATH": REPOSITORY},
        cwd=cwd,
        check=True,
    )


def test_model_in_mlflow_embeds_videos_and_texts_in_a_process_elsewhere(tiny: Config, tmp_path: Path) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    journalled(run)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    video = tmp_path / "clip.mp4"
    video.write_bytes(encode(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    exported(run, tmp_path / "out", uri, elsewhere)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("team")
    (tracked,) = client.search_runs([experiment.experiment_id])
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.source_run_id == tracked.info.run_id
    assert (tracked.info.status, tracked.data.metrics["train/loss"]) == ("FINISHED", 2.0)
    assert list(elsewhere.iterdir()) == []  # MLflow would put files below the working directory

    # of somebody else's run, of which nothing is missing, there is nothing to note in its folder
    (run.path / "mlflow.json.new").mkdir()
    exported(run, tmp_path / "again", uri, elsewhere)
    assert len(client.search_logged_models([experiment.experiment_id])) == 2

    expected = load_encoder(run.path)
    for folder in (run.path, tmp_path / "out"):
        folder.rename(folder.with_suffix(".gone"))
    arguments = [uri, model.model_uri, str(video), str(tmp_path / "found.npz"), str(tmp_path)]
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments],
        env=without_repository(),
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "row 0 has to have either a video or a text" in loaded.stdout
    found = np.load(tmp_path / "found.npz")
    texts = expected.embed_texts(["a blue box", "two things"]).numpy()
    np.testing.assert_allclose(found["rows"][0], expected.embed_videos([video])[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found["rows"][1:], texts, atol=1e-5)
    np.testing.assert_allclose(found["texts"], texts, atol=1e-5)


# ---------------------------------------------------------------- what is refused


def test_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "is no encoder" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_folder_that_exists_is_not_written_over(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    (tmp_path / "out").mkdir()
    assert main([str(run.path), str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().out
    assert list((tmp_path / "out").iterdir()) == []


def test_place_that_cannot_be_written_is_refused_by_its_name(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    (tmp_path / "file").write_text("")
    assert main([str(run.path), str(tmp_path / "file/out")]) == 2
    assert "cannot be written to" in capsys.readouterr().out


def test_model_of_no_tracked_run_is_refused_before_anything_is_written(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = saved_run(tiny, tmp_path / "run")
    assert main([str(run.path), str(tmp_path / "out"), "--mlflow"]) == 2
    assert "not of a run with a journal" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
