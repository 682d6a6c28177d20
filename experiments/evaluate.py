"""Evaluate a model on a test table: per domain and per class, with its size and its agreement with the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metakd.cli import run
from metakd.errors import InputError, nearest
from metakd.manifests import write_json
from metakd.steps import Step

if TYPE_CHECKING:
    import numpy as np

    from metakd.data.labels import Labels


def main(
    model: Path,
    table: Path,
    out: Path,
    teacher: Path | None = None,
    domain: str = "",
    max_length: int | None = None,
) -> None:
    """Write a model's scores on a table as JSON. Runs under python or torchrun.

    Args:
        model: folder of a classifier; any Hugging Face folder with label names will do.
        table: table with labels, usually the test split.
        out: JSON file.
        teacher: also score this model on the same rows, and how often the two agree.
        domain: only rows of this domain; all by default.
        max_length: tokens a row is cut to; by default what the model was trained with.
    """
    inputs: dict[str, str | Path] = {"table": table, "model": model}
    if teacher is not None:
        inputs["teacher"] = teacher
    step = Step(out, {"domain": domain, "max_length": max_length}, inputs, file=True)
    if step.finished():
        return
    from metakd.data.tables import names
    from metakd.evaluation.metrics import agreement
    from metakd.models.classifier import label_order
    from metakd.training.runtime import Together, start

    _, domains = names(table)
    if domain and domain not in domains:
        raise InputError(f"--domain {domain}: {table} has {domains}{nearest(domain, domains)}")
    accelerator = start()
    result: dict[str, Any] = {"table": str(table), "domain": domain}
    result["model"], labels, logits = score(model, table, domains, domain, max_length, accelerator)
    if teacher is not None:
        result["teacher"], theirs, expected = score(teacher, table, domains, domain, max_length, accelerator)
        expected = expected[:, label_order(theirs.names, labels.names, str(teacher))]
        result["agreement"] = agreement(labels.predicted(logits), labels.predicted(expected), labels.problem)
    with step.workspace(Together(accelerator)) as file:
        if file is not None and accelerator.is_main_process:
            write_json(file, result)
    for name in ("model", "teacher"):
        if name in result:
            numbers = {k: v for k, v in result[name].items() if isinstance(v, float) and k != "majority"}
            accelerator.print(f"{name}: " + ", ".join(f"{k.replace('_', '-')} {v:.4f}" for k, v in numbers.items()))


def score(
    model: Path, table: Path, domains: list[str], domain: str, max_length: int | None, accelerator: Any
) -> tuple[dict[str, Any], Labels, np.ndarray]:
    """The scores of one model, its labels, and its logits [n, C]."""
    from metakd.evaluation.metrics import scores_by_domain
    from metakd.training.inference import load_for_inference, logits_of

    loaded = load_for_inference(model, max_length, accelerator)
    rows = loaded.encode(table, domains)
    if domain:
        rows = rows.of_domain(domains.index(domain))
    logits = logits_of(loaded.model, rows, accelerator, f"evaluating {model}")
    predicted = loaded.labels.predicted(logits)
    scores = scores_by_domain(predicted, rows.labels, rows.domains, loaded.labels, domains)
    scores["path"] = str(model)
    scores["parameters"] = sum(p.numel() for p in loaded.model.parameters())
    scores["size_bytes"] = sum(file.stat().st_size for file in model.glob("model*.safetensors"))
    return scores, loaded.labels, logits


if __name__ == "__main__":
    run(main)
