"""The untouched pretrained encoder as a feature extractor, for the control "embeddings"."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from metakd.config import Task
from metakd.cpu.tuning import tune
from metakd.data.encoding import EncodedRows, encode
from metakd.data.formats import Row
from metakd.data.row_store import RowStore
from metakd.data.tables import UNLABELLED
from metakd.models.pooling import embed
from metakd.training.dry_run import load_with_tokenizer
from metakd.training.inference import infer_batches
from metakd.training.runtime import start


class EmbeddingInputs:
    """Inputs of a control on embeddings E(x) of the encoder task.teacher; see `metakd.studies.controls.TextInputs`.

    Args:
        embeddings: folder with those of the training table.
    """

    def __init__(self, task: Task, embeddings: Path) -> None:
        self.embeddings, self.max_length = embeddings, task.max_length
        self.accelerator = start("fp32", task.training.cpu_tuning)
        self.encoder, self.tokenizer = load_with_tokenizer(task.teacher, None, task.max_length)
        self.encoder.to(self.accelerator.device)
        self.threads, self.device = torch.get_num_threads(), self.accelerator.device.type
        self.parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        if task.training.cpu_tuning == "auto" and self.accelerator.device.type == "cpu":
            tune(self.encoder)

    def training(self, rows: list[Row], numbers: np.ndarray) -> np.ndarray:
        """Embeddings of the training table's rows with these numbers [n, D]."""
        store = RowStore(self.embeddings)
        store.require_guids(row["guid"] for row in rows)
        return np.array(store.values[numbers])

    def prepare(self, table: str, rows: list[Row], numbers: np.ndarray) -> EncodedRows:
        """A table's rows with these numbers, tokenised."""
        return encode(table, self.tokenizer, self.max_length, required=UNLABELLED).select(numbers)

    def compute(self, prepared: EncodedRows) -> np.ndarray:
        """Embeddings of tokenised rows [n, D]."""
        vectors = np.zeros((len(prepared), self.encoder.config.hidden_size), dtype=np.float32)
        embed_batch = partial(embed, self.encoder)
        for chosen, values in infer_batches(prepared, self.encoder, embed_batch, self.accelerator, "embedding"):
            vectors[chosen] = values
        return vectors
