"""Rows per second of extracting embeddings, against sentence-transformers on the same model and rows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import datasets
import numpy as np
from common import ENCODER, INSTALL, MAX_LENGTH, Kind, empty_folder, machine_info, time_in_turns, write_random_rows
from torch import Tensor

from metakd.cli import run
from metakd.data.encoding import Batch, EncodedRows, encode
from metakd.data.tables import UNLABELLED, read_rows
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.models.loading import load_encoder, load_tokenizer
from metakd.models.pooling import embed
from metakd.training.inference import BATCH_SIZE, infer_batches
from metakd.training.runtime import start


def main(
    out: Path,
    kind: Kind = "short",
    encoder: str = ENCODER,
    rows: int = 1024,
    rounds: int = 3,
    work: Path = Path("runs/benchmarks/embeddings"),
) -> None:
    """Time both from text to vectors, in fp32.

    sentence-transformers averages over [CLS] too, metakd does not. So vectors are compared with [CLS] counted in both.

    Args:
        out: JSON file.
        kind: "long" or "short" rows.
        encoder: that embeds the rows.
        rows: of random words, as long as real ones.
        rounds: of each measurement; the median counts.
        work: folder for the table.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError(f"{error}; {INSTALL}") from None
    table = empty_folder(work) / f"{kind}.tsv"
    write_random_rows(table, kind, rows)
    texts = [row["text_a"] for row in read_rows(table)]
    accelerator, tokenizer = start("fp32"), load_tokenizer(encoder)
    model = load_encoder(encoder).eval()
    sentence_transformer = SentenceTransformer(encoder, device="cpu")  # averages tokens where a folder names no pooling
    sentence_transformer.max_seq_length = MAX_LENGTH[kind]
    vectors: dict[str, np.ndarray] = {}

    def embed_with_cls(batch: Batch) -> Tensor:
        return embed(model, {**batch, "content_mask": batch["attention_mask"]})

    def embed_without_cls(batch: Batch) -> Tensor:
        return embed(model, batch)

    def embed_all(encoded: EncodedRows, with_cls: bool) -> np.ndarray:
        embeddings = np.empty((rows, model.config.hidden_size), np.float32)
        compute = embed_with_cls if with_cls else embed_without_cls
        for chosen, values in infer_batches(encoded, model, compute, accelerator, "embedding"):
            embeddings[chosen] = values
        return embeddings

    def run_metakd() -> float:
        with tempfile.TemporaryDirectory() as cache:  # empty, so tokens are made anew
            datasets.config.HF_DATASETS_CACHE = Path(cache)
            begun = time.perf_counter()
            encoded = encode(table, tokenizer, MAX_LENGTH[kind], required=UNLABELLED)
            embed_all(encoded, with_cls=False)
            seconds = time.perf_counter() - begun
            vectors["metakd"] = embed_all(encoded, with_cls=True)
        return seconds

    def run_sentence_transformers() -> float:
        begun = time.perf_counter()
        vectors["sentence-transformers"] = sentence_transformer.encode(
            texts, batch_size=BATCH_SIZE, show_progress_bar=False
        )
        return time.perf_counter() - begun

    seconds = time_in_turns({"metakd": run_metakd, "sentence-transformers": run_sentence_transformers}, rounds)
    lowest_cosine = float(cosines(vectors["metakd"], vectors["sentence-transformers"]).min())
    ratio = median(seconds["sentence-transformers"]) / median(seconds["metakd"])
    write_json(out, {"kind": kind, "rows": rows, "seconds": seconds, "ratio": ratio, "lowest_cosine": lowest_cosine,
                     "machine": machine_info()})  # fmt: skip
    for name, values in seconds.items():
        print(f"{name}: {rows / median(values):.1f} rows/s")
    print(f"speed of metakd, sentence-transformers = 1: {ratio:.2f}")
    print(f"lowest cosine of a row's two vectors: {lowest_cosine:.6f}")


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of two matrices [n, D] -> [n]."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


if __name__ == "__main__":
    run(main)
