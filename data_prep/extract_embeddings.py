"""Embeddings of a table's rows from the untouched pretrained encoder, for prototype weights."""

from __future__ import annotations

import time
from pathlib import Path

from metakd.cli import run
from metakd.steps import Step


def main(model: str, table: Path, out: Path, max_length: int = 128) -> None:
    """Write E(x), the masked mean of the last hidden states, of every row.

    Token ids and vectors stay on disk; what grows in memory is a row's guid, length and hash, some 200 bytes.

    Runs under torchrun too: each process embeds its share of the rows and writes it to the shared file.

    Args:
        model: Hugging Face name or folder of the encoder.
        table: TSV, CSV, JSONL or Parquet.
        out: folder for the embeddings: values.npy [n, D] and keys.npy (hashes of the guids), memory-mapped.
        max_length: tokens a row is cut to.
    """
    step = Step(out, {"max_length": max_length}, {"table": table, "model": model})
    if step.finished():
        return
    from transformers import AutoModel

    from metakd.data.encoding import encode, load_tokenizer
    from metakd.data.tables import TRAINING
    from metakd.models.classifier import check_tokenizer, load_config
    from metakd.models.pooling import embed
    from metakd.training.inference import fill_store
    from metakd.training.runtime import Together, start

    load_config(model)
    accelerator = start("fp32")  # the same vectors on every machine
    tokenizer = load_tokenizer(model)
    encoder = AutoModel.from_pretrained(model, trust_remote_code=False)
    check_tokenizer(encoder, tokenizer, max_length, model)
    rows = encode(table, tokenizer, max_length, required=TRAINING)
    encoder.to(accelerator.device)
    started, width = time.monotonic(), encoder.config.hidden_size
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        fill_store(folder, rows, width, encoder, lambda batch: embed(encoder, batch), accelerator, "embedding")
    accelerator.print(f"{len(rows)} rows in {time.monotonic() - started:.0f} s -> {out}")


if __name__ == "__main__":
    run(main)
