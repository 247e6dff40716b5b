"""Logging an exported encoder as a model of its run in MLflow.

MLflow keeps a copy of this package with the model and loads it through `pyfunc.py` of that copy: nothing is
pickled, and a process that loads the model needs neither this repository nor its working directory.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

import mac_ray
from mac_ray.tracking import progress, pyfunc
from mac_ray.tracking.address import public
from mac_ray.tracking.mlflow import explained
from mac_ray.tracking.sender import replay

NAME = "encoder"
PACKAGES = (  # that the encoder imports
    *("torch", "einops", "numpy", "safetensors", "tokenizers", "transformers", "pandas"),
    *("av", "fsspec", "pillow", "psutil", "pyarrow", "pydantic", "PyYAML"),
)


def log_model(folder: Path, embedding_size: int, run: Path, uri: str) -> str:
    """Log an exported encoder as a model of its run on the MLflow at `uri`; returns the model's URI there.

    What MLflow lacks of the run is sent first. The address becomes that of the process and of all that it starts:
    MLflow logs models to no other. Raises UnavailableError, RefusedError, JournalError, and OSError where that cannot
    be noted, as in a folder of somebody else.
    """
    if public(uri) not in progress.load(run) or progress.is_behind(run, uri):
        replay(run, uri)
    sent = progress.load(run)[public(uri)]
    with explained(uri, "log the model"):
        mlflow.set_tracking_uri(uri)
        # else the model goes to the default experiment, and its files below the working directory
        mlflow.set_experiment(experiment_id=sent.experiment_id)
        logged = Model.log(
            artifact_path=None,
            name=NAME,
            flavor=mlflow.pyfunc,
            run_id=sent.run_id,
            loader_module=pyfunc.__name__,
            data_path=str(folder),
            code_paths=[str(Path(mac_ray.__file__).parent)],
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", name, required=False) for name in pyfunc.COLUMNS]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, embedding_size))]),
            ),
            input_example=pd.DataFrame({"text": ["a red ball rolls to the left"]}),
            pip_requirements=[f"{package}=={_public(version(package))}" for package in PACKAGES],
        )
    return str(logged.model_uri)


def _public(version: str) -> str:
    """Without what says how it was built, such as +cpu, which indices do not have."""
    return version.partition("+")[0]
