"""The encoder as MLflow runs it: rows with a video or a text in, a vector for each out.

MLflow executes this file to make the model that it loads, so it imports of this package only what that needs.

E embedding size.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from numpy.typing import NDArray

from mac_ray.encoder import Encoder, load_encoder

ARTIFACT = "encoder"
COLUMNS = ("video", "text")


class EncoderModel(mlflow.pyfunc.PythonModel):
    """`predict` takes a table with columns video (paths) and text, one of them filled in each row."""

    _encoder: Encoder

    def load_context(self, context: Any) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._encoder = load_encoder(context.artifacts[ARTIFACT], device)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors (rows, E). Raises ValueError for a row of neither or both, DecodeError for a bad video."""
        table = model_input.reindex(columns=list(COLUMNS))
        filled = table.notna()
        for number, count in enumerate(filled.sum(axis=1).tolist()):
            if count != 1:
                raise ValueError(f"row {number} has to have either a video or a text; leave the other empty")
        vectors = np.zeros((len(table), self._encoder.config.model.embedding_size), dtype=np.float32)
        for column, embed in (("video", self._encoder.embed_videos), ("text", self._encoder.embed_texts)):
            chosen = filled[column].to_numpy()
            vectors[chosen] = embed(table[column][chosen].tolist()).numpy()
        return vectors


set_model(EncoderModel())
