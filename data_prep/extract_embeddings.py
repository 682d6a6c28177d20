"""Embeddings of the training rows from the untouched pretrained encoder, for prototype weights."""

from __future__ import annotations

import time
from pathlib import Path

from metakd.cli import run
from metakd.config import Task
from metakd.errors import InputError
from metakd.methods.method import Method
from metakd.steps import Step


def main(task: Task, out: Path, method: Method | None = None, remake: bool = False) -> None:
    """Write E(x), the masked mean of the last hidden states of task.teacher, of every row of task.train.

    Token ids and vectors stay on disk; memory grows by a row's guid, length and hash, some 200 bytes. Runs under
    torchrun too: each process embeds its share of the rows and writes it to the shared file.

    Args:
        task: task file (YAML); any field can be overridden, e.g. --task.teacher bert-base-uncased.
        out: folder for the embeddings: values.npy [n, D] and keys.npy (hashes of the guids), memory-mapped.
        method: method file (YAML), to refuse one without `prototypes`, which needs no embeddings.
        remake: make them anew if other code made them.
    """
    if method is not None and method.prototypes is None:
        raise InputError("the method file has no prototypes, so it needs no embeddings")
    task.require("train")
    step = Step(out, {"max_length": task.max_length}, {"table": task.train, "model": task.teacher}, remake=remake)
    if step.finished():
        return
    from metakd.data.encoding import encode
    from metakd.data.tables import TRAINING
    from metakd.models.pooling import embed
    from metakd.training.dry_run import load_with_tokenizer
    from metakd.training.inference import fill_store
    from metakd.training.runtime import Together, start

    accelerator = start("fp32", task.training.cpu_tuning)  # fp32: the same vectors on every machine
    encoder, tokenizer = load_with_tokenizer(task.teacher, None, task.max_length)
    rows = encode(task.train, tokenizer, task.max_length, required=TRAINING)
    encoder.to(accelerator.device)
    started, width = time.monotonic(), encoder.config.hidden_size
    with step.workspace(Together(accelerator)) as folder:
        if folder is None:
            return
        fill_store(folder, rows, width, encoder, lambda batch: embed(encoder, batch), accelerator, "embedding")
    accelerator.print(f"{len(rows)} rows in {time.monotonic() - started:.0f} s -> {out}")


if __name__ == "__main__":
    run(main)
