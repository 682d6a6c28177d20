"""Cut a trained classifier's vocabulary down to the words of a table: a smaller file, the same predictions there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from metakd.cli import run
from metakd.errors import InputError
from metakd.steps import Step


def main(model: Path, table: Path, out: Path) -> None:
    """Write a classifier that knows the table's words alone; it predicts the same for all rows of the table.

    Other words are spelled by their characters, so choose a table with the words of texts to come: the training rows of
    all domains, or unlabelled texts of the one the model is for. Then compare both models by evaluate.py --teacher.
    For WordPiece vocabularies (BERT, DistilBERT, ELECTRA, MiniLM). A domain head beside the model is left out.

    Args:
        model: folder of a classifier.
        table: TSV, CSV, JSONL or Parquet with guid, text_a[, text_b]; labels are not read.
        out: folder of the trimmed classifier.
    """
    step = Step(out, {}, {"model": model, "table": table})
    if step.finished():
        return
    import numpy as np

    from metakd.models.folders import ModelInfo, load_info, save_model
    from metakd.models.vocabulary import kept_words, trim_model, trim_tokenizer
    from metakd.training.inference import load_for_inference, logits_of
    from metakd.training.runtime import start

    accelerator = start("fp32")
    if accelerator.num_processes > 1:
        raise InputError("this is the work of one process; run it by python")
    loaded = load_for_inference(model, None, accelerator)
    rows = loaded.encode_texts(table)
    kept = kept_words(loaded.tokenizer, rows.used_ids())
    before, size = logits_of(loaded.model, rows, accelerator), loaded.model.num_parameters()
    tokenizer, words = trim_tokenizer(loaded.tokenizer, kept), loaded.model.config.vocab_size
    trim_model(loaded.model, kept)
    after = logits_of(loaded.model, replace(loaded, tokenizer=tokenizer).encode_texts(table), accelerator)
    if not np.allclose(before, after, rtol=1e-4, atol=1e-4):
        raise InputError(f"{model}: its tokenizer makes other tokens of {table} with fewer words; it cannot be trimmed")
    info = load_info(model)
    with step.workspace() as folder:
        if folder is not None:
            domains = info.domains if info is not None else []
            save_model(folder, loaded.model, tokenizer, ModelInfo(domains, loaded.max_length), {})
    print(f"{words} -> {len(kept)} words, {size / 1e6:.1f} -> {loaded.model.num_parameters() / 1e6:.1f} M parameters, "
          f"{megabytes(model):.0f} -> {megabytes(out):.0f} MB; the same logits for {len(rows)} rows")  # fmt: skip


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors")) / 1e6


if __name__ == "__main__":
    run(main)
