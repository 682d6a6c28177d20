"""Cut a trained classifier's vocabulary down to the tokens of a table: a smaller model, the same predictions there."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.manifests import MANIFEST, read_json
from metakd.steps import Step


def main(model: Path, table: Path, out: Path, remake: bool = False) -> None:
    """Write a classifier whose vocabulary is the table's tokens; it predicts the same for all rows of the table.

    Other words are spelled out in characters, so choose a table with the words of future texts: the training rows of
    all domains, or unlabelled texts of the model's domain. Then compare both models by evaluate.py --teacher.
    For WordPiece vocabularies (BERT, DistilBERT, ELECTRA, MiniLM). A domain head is not copied.

    Args:
        model: folder of a classifier.
        table: TSV, CSV, JSONL or Parquet with guid, text_a[, text_b]; labels are not read.
        out: folder of the trimmed classifier.
        remake: make the folder anew if other code made it.
    """
    training = read_json(model / MANIFEST).get("resolved", {})
    step = Step(out, {}, {"model": model, "table": table}, training, remake=remake)
    if step.finished():
        return
    from metakd.evaluation.model_facts import weight_bytes
    from metakd.export.trimming import trim
    from metakd.training.inference import load_to_rewrite, save_rewritten

    classifier, accelerator = load_to_rewrite(model)
    network = classifier.model
    tokens_before, parameters_before = network.config.vocab_size, network.num_parameters()
    trimmed = trim(classifier, table, accelerator)
    with step.workspace() as folder:
        if folder is not None:
            save_rewritten(folder, trimmed, model)
    print(
        f"{tokens_before} -> {network.config.vocab_size} tokens, "
        f"{parameters_before / 1e6:.1f} -> {network.num_parameters() / 1e6:.1f} M parameters, "
        f"{weight_bytes(model) / 1e6:.0f} -> {weight_bytes(out) / 1e6:.0f} MB; the same logits for the rows of {table}"
    )


if __name__ == "__main__":
    run(main)
