"""Evaluate a model on a test table: scores by domain and class, its size and speed, its agreement with a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from metakd.cli import run
from metakd.config import checked_names
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint
from metakd.manifests import write_json
from metakd.steps import Step


def main(
    model: Path,
    table: Path,
    out: Path,
    teacher: Path | None = None,
    domain: str = "",
    classes: list[str] | None = None,
    rows: bool = False,
    max_length: int | None = None,
    cpu_tuning: Literal["auto", "off"] = "auto",
    remake: bool = False,
) -> None:
    """Write a model's scores on a table as JSON. Runs under python or torchrun.

    The speed is measured on as many threads as torch has (OMP_NUM_THREADS).

    Args:
        model: folder of a classifier; any Hugging Face folder with label names will do.
        table: table with labels, usually the test split.
        out: JSON file.
        teacher: folder of another classifier, scored on the same rows; also count how often the two agree.
        domain: score only the rows of this domain; all rows by default.
        classes: those of --domain, if each domain has its own; the model answers with these alone.
        rows: also write guid, label number and probabilities of each row.
        max_length: number of tokens that rows are cut to; by default that of the model's training.
        cpu_tuning: "off" computes with stock PyTorch on a CPU; the scores are equal, up to rounding.
        remake: make the file anew if other code made it.
    """
    classes = checked_names(classes, "classes")
    if classes is not None and not domain:
        raise InputError("classes are a domain's own; name the domain, too")
    inputs: dict[str, str | Path] = {"table": table, "model": model}
    if teacher is not None:
        inputs["teacher"] = teacher
    settings: dict[str, Any] = {"domain": domain, "max_length": max_length, **({"rows": True} if rows else {})}
    if classes is not None:
        settings["classes"] = classes
    step = Step(out, settings, inputs, {"cpu_tuning": cpu_tuning}, file=True, remake=remake)
    if step.finished():
        return
    from metakd.data.labels import Labels
    from metakd.data.tables import domain_names
    from metakd.evaluation.evaluating import evaluate, scores_line
    from metakd.evaluation.metrics import agreement
    from metakd.evaluation.model_facts import model_facts
    from metakd.evaluation.predictions import prediction_rows
    from metakd.models.classifier import label_order
    from metakd.training.inference import load_trained_classifier
    from metakd.training.runtime import Together, start

    domains = domain_names(table, domain)
    accelerator = start("auto", cpu_tuning)
    result: dict[str, Any] = {"table": str(table), "domain": domain, "code": code_fingerprint()}
    classifier = load_trained_classifier(model, max_length, accelerator, cpu_tuning)
    if classes is not None:
        classifier = classifier.answering(Labels(tuple(classes), classifier.labels.problem, domain))
    labels = classifier.labels
    encoded, logits, scores = evaluate(classifier, table, domains, domain, accelerator)
    result |= {"problem": labels.problem, "labels": labels.names, "model": {**scores, **model_facts(model)}}
    if rows:
        values = labels.probabilities(logits)
        result["rows"] = prediction_rows(encoded.guids, encoded.labels, values, labels.problem)
    if teacher is not None:
        reference = load_trained_classifier(teacher, max_length, accelerator, cpu_tuning).answering(labels)
        _, teacher_logits, scores = evaluate(reference, table, domains, domain, accelerator)
        result["teacher"] = {**scores, **model_facts(teacher)}
        teacher_logits = teacher_logits[:, label_order(reference.labels.names, labels, str(teacher))]
        result["agreement"] = agreement(labels.predicted(logits), labels.predicted(teacher_logits), labels.problem)
    with step.workspace(Together(accelerator)) as file:
        if file is not None and accelerator.is_main_process:
            write_json(file, result)
    for role in ("model", "teacher"):
        if role in result:
            accelerator.print(f"{role}: {scores_line(result[role])}")


if __name__ == "__main__":
    run(main)
