"""Evaluate a model on a test table: scores by domain and class, its size, and its agreement with a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metakd.cli import run
from metakd.errors import InputError, nearest
from metakd.fingerprint import code_fingerprint
from metakd.manifests import write_json
from metakd.steps import Step

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator

    from metakd.training.inference import LoadedClassifier


def main(
    model: Path,
    table: Path,
    out: Path,
    teacher: Path | None = None,
    domain: str = "",
    max_length: int | None = None,
    cpu_tuning: Literal["auto", "off"] = "auto",
    remake: bool = False,
) -> None:
    """Write a model's scores on a table as JSON. Runs under python or torchrun.

    Args:
        model: folder of a classifier; any Hugging Face folder with label names will do.
        table: table with labels, usually the test split.
        out: JSON file.
        teacher: folder of another classifier, scored on the same rows; also count how often the two agree.
        domain: score only the rows of this domain; all rows by default.
        max_length: number of tokens that rows are cut to; by default that of the model's training.
        cpu_tuning: "off" computes with stock PyTorch on a CPU; the scores are equal, up to rounding.
        remake: make the file anew if other code made it.
    """
    inputs: dict[str, str | Path] = {"table": table, "model": model}
    if teacher is not None:
        inputs["teacher"] = teacher
    settings = {"domain": domain, "max_length": max_length}
    step = Step(out, settings, inputs, {"cpu_tuning": cpu_tuning}, file=True, remake=remake)
    if step.finished():
        return
    from metakd.data.tables import label_and_domain_names
    from metakd.evaluation.metrics import agreement
    from metakd.evaluation.model_facts import model_facts
    from metakd.models.classifier import label_order
    from metakd.training.inference import load_trained_classifier
    from metakd.training.runtime import Together, start

    _, domains = label_and_domain_names(table)
    if domain and domain not in domains:
        raise InputError(f"--domain {domain}: {table} has {domains}{nearest(domain, domains)}")
    accelerator = start("auto", cpu_tuning)
    result: dict[str, Any] = {"table": str(table), "domain": domain, "code": code_fingerprint()}
    classifier = load_trained_classifier(model, max_length, accelerator, cpu_tuning)
    logits, scores = evaluate(classifier, table, domains, domain, accelerator)
    result["model"] = {**scores, **model_facts(model)}
    if teacher is not None:
        labels, reference = classifier.labels, load_trained_classifier(teacher, max_length, accelerator, cpu_tuning)
        teacher_logits, scores = evaluate(reference, table, domains, domain, accelerator)
        result["teacher"] = {**scores, **model_facts(teacher)}
        teacher_logits = teacher_logits[:, label_order(reference.labels.names, labels.names, str(teacher))]
        result["agreement"] = agreement(labels.predicted(logits), labels.predicted(teacher_logits), labels.problem)
    with step.workspace(Together(accelerator)) as file:
        if file is not None and accelerator.is_main_process:
            write_json(file, result)
    for role in ("model", "teacher"):
        if role in result:
            accelerator.print(f"{role}: {scores_line(result[role])}")


def evaluate(
    classifier: LoadedClassifier, table: Path, domains: list[str], domain: str, accelerator: Accelerator
) -> tuple[np.ndarray, dict[str, Any]]:
    """A classifier's logits [n, C] for the rows of a domain (of all domains if it is empty), and its scores there."""
    from metakd.evaluation.metrics import scores_by_domain
    from metakd.training.inference import predict_logits

    rows = classifier.encode(table, domains)
    if domain:
        rows = rows.of_domain(domains.index(domain))
    logits = predict_logits(classifier.model, rows, accelerator, "evaluating")
    predicted = classifier.labels.predicted(logits)
    scores = scores_by_domain(predicted, rows.labels, rows.domains, classifier.labels, domains)
    scores["parameters"] = sum(parameter.numel() for parameter in classifier.model.parameters())
    return logits, scores


def scores_line(scores: dict[str, Any]) -> str:
    """The scores of all rows on one line."""
    numbers = {name: value for name, value in scores.items() if isinstance(value, float) and name != "majority"}
    return ", ".join(f"{name.replace('_', '-')} {value:.4f}" for name, value in numbers.items())


if __name__ == "__main__":
    run(main)
