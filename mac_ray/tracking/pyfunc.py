"""An exported encoder as MLflow calls it: rows with a video or a text in, a vector for each out.

MLflow imports this module from the copy of the package that lies with the model, so it imports no more of it than
the encoder needs.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mac_ray.encoder import Encoder, load_encoder

COLUMNS = ("video", "text")


class EncoderModel:
    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def predict(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """Columns video (paths) and text, one of them filled in each row -> unit vectors (rows, embedding size).

        Raises ValueError for a row of neither or both, and DecodeError for a video that cannot be decoded.
        """
        table = table.reindex(columns=list(COLUMNS))
        filled = table.notna() & (table != "")  # JSON of a column of strings has no other nothing
        for number, count in enumerate(filled.sum(axis=1).tolist()):
            if count != 1:
                raise ValueError(f"row {number} has to have either a video or a text; leave the other empty")
        vectors = np.zeros((len(table), self._encoder.config.model.embedding_size), dtype=np.float32)
        for column, embed in (("video", self._encoder.embed_videos), ("text", self._encoder.embed_texts)):
            chosen = filled[column].to_numpy()
            vectors[chosen] = embed(table[column][chosen].tolist()).numpy()
        return vectors


def _load_pyfunc(data_path: str) -> EncoderModel:
    """MLflow's name for what loads a model; the path is of the export that was logged."""
    return EncoderModel(load_encoder(Path(data_path), "cuda" if torch.cuda.is_available() else "cpu"))
