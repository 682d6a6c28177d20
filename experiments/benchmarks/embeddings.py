"""Extracting embeddings, against sentence-transformers on the same model and rows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

from timing import MAX_LENGTH, generated, in_turns, machine, median

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import write_json


def main(
    out: Path,
    kind: Literal["long", "short"] = "short",
    encoder: str = "runs/models/all-MiniLM-L6-v2",
    rows: int = 1024,
    rounds: int = 3,
    work: Path = Path("runs/benchmarks/embeddings"),
) -> None:
    """Time both from text to vectors, in fp32.

    sentence-transformers is installed beside the environment, as tests/references/requirements.txt says. It has
    [CLS] in its mean and Meta-KD has not, so vectors are compared with [CLS] counted in both.

    Args:
        out: JSON file.
        kind: "long" or "short" rows.
        encoder: data_prep/packaged_minilm.py makes the default.
        rows: of random words with the lengths of real ones.
        rounds: whose medians count.
        work: folder for the table.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError(f"{error}; install it and set PYTHONPATH as tests/references/requirements.txt says") from None
    import datasets
    import numpy as np
    from transformers import AutoModel

    from metakd.data.encoding import encode, load_tokenizer
    from metakd.data.tables import UNLABELLED, read_rows
    from metakd.models.pooling import embed
    from metakd.training.inference import BATCH_SIZE, run_over
    from metakd.training.runtime import start

    work.mkdir(parents=True, exist_ok=True)
    table = work / f"{kind}.tsv"
    generated(table, kind, rows)
    texts = [row["text_a"] for row in read_rows(table)]
    accelerator, tokenizer = start("fp32"), load_tokenizer(encoder)
    model = AutoModel.from_pretrained(encoder).eval()
    other = SentenceTransformer(encoder, device="cpu")  # a folder without a pooling of its own gets the mean
    other.max_seq_length = MAX_LENGTH[kind]
    vectors: dict[str, np.ndarray] = {}

    def ours() -> float:
        with tempfile.TemporaryDirectory() as cache:  # so that tokens are made anew
            datasets.config.HF_DATASETS_CACHE = Path(cache)
            begun = time.perf_counter()
            encoded = encode(table, tokenizer, MAX_LENGTH[kind], required=UNLABELLED)
            found = np.empty((rows, model.config.hidden_size), np.float32)
            for chosen, values in run_over(encoded, model, lambda batch: embed(model, batch), accelerator, "embedding"):
                found[chosen] = values
            seconds = time.perf_counter() - begun
            with_cls = np.empty_like(found)
            for chosen, values in run_over(
                encoded, model, lambda b: embed(model, {**b, "content_mask": b["attention_mask"]}), accelerator, "check"
            ):
                with_cls[chosen] = values
        vectors["metakd"] = with_cls
        return seconds

    def theirs() -> float:
        begun = time.perf_counter()
        vectors["sentence-transformers"] = other.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)
        return time.perf_counter() - begun

    seconds = in_turns({"metakd": ours, "sentence-transformers": theirs}, rounds)
    a, b = vectors["metakd"], vectors["sentence-transformers"]
    cosine = float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
    ratio = median(seconds["sentence-transformers"]) / median(seconds["metakd"])
    write_json(out, {"kind": kind, "rows": rows, "seconds": seconds, "ratio": ratio, "lowest_cosine": cosine,
                     "machine": machine()})  # fmt: skip
    for name, found in seconds.items():
        print(f"{name}: {rows / median(found):.1f} rows/s")
    print(f"metakd x{ratio:.2f}, lowest cosine of a row's two vectors {cosine:.6f}")


if __name__ == "__main__":
    run(main)
