"""Fit a cheap control for one domain, and evaluate it as evaluate.py evaluates a model."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np

from metakd.cli import run
from metakd.config import Task
from metakd.data.formats import Row
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED, TRAINING, read_rows
from metakd.data.task_names import labels_and_domains
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint
from metakd.manifests import write_json
from metakd.steps import Step
from metakd.studies.controls import (
    FittedControl,
    TextInputs,
    class_probabilities,
    fit_control,
    parameter_count,
    training_rows,
)
from metakd.training.plan import DomainSelection

WARM_UP = 64  # rows computed before the speed is measured


def main(
    task: Task,
    control: FittedControl,
    domain: str,
    out: Path,
    fraction: float = 1.0,
    embeddings: Path | None = None,
    remake: bool = False,
) -> None:
    """Write a control's scores and predictions for the domain's test rows as JSON.

    It is fitted on the domain's rows with visible label; where all are hidden, on the other domains' rows. Its penalty
    is chosen on dev, unless labels are hidden.

    Args:
        task: task file (YAML).
        control: "majority": the frequencies of the classes. "tfidf": logistic regression on words. "embeddings":
            logistic regression on embeddings of the untouched pretrained encoder.
        domain: whose rows it is fitted and evaluated on.
        out: JSON file.
        fraction: fraction of the domain's labels that are visible.
        embeddings: folder made from task.train by extract_embeddings.py, for control "embeddings".
        remake: make the file anew if other code made it.
    """
    task.require("train", "dev", "test")
    if task.problem != "single_label":
        raise InputError(f"task.problem is {task.problem}; a control needs one class per row")
    labels, domains = labels_and_domains(task, domain)
    DomainSelection(domain, fraction).check_domains(domains)
    settings = {"control": control, "domain": domain, "fraction": fraction, "labels": labels.names}
    settings |= {"select_by": task.select_by, "seed": task.training.seed if fraction < 1 else None}
    step_inputs: dict[str, str | Path] = {"train": task.train, "dev": task.dev, "test": task.test}
    if control == "embeddings":
        if embeddings is None:
            raise InputError("control embeddings needs --embeddings, the folder of the training rows' embeddings")
        settings["max_length"] = task.max_length
        step_inputs |= {"pretrained": task.teacher, "embeddings": embeddings}
    step = Step(out, settings, step_inputs, {"task": task}, file=True, remake=remake)
    if step.finished():
        return
    inputs: Any = TextInputs()
    if embeddings is not None and control == "embeddings":
        from metakd.studies.frozen import EmbeddingInputs

        inputs = EmbeddingInputs(task, embeddings)
    model, how = fit(task, control, inputs, labels, DomainSelection(domain, fraction))
    result: dict[str, Any] = {"table": task.test, "domain": domain, "code": code_fingerprint()}
    result |= evaluate(model, task, inputs, labels, domain)
    result["model"]["notes"] = [f"{control}: {how}"]
    with step.workspace() as file:
        if file is not None:
            write_json(file, result)
    print(f"{control}: accuracy {result['model']['accuracy']:.4f} ({how})")


def fit(task: Task, control: FittedControl, inputs: Any, labels: Labels, selection: DomainSelection) -> tuple[Any, str]:
    """The fitted control, and how it was fitted in words."""
    domain, fraction = selection.domain, selection.fraction
    rows = list(read_rows(task.train, labels, task.domains, TRAINING))
    numbers = training_rows(rows, domain, fraction, task.training.seed)
    if not len(numbers):
        raise InputError(f"{task.train} has no labelled row to fit {control} on")
    train = inputs.training(rows, numbers), targets(labels, rows, numbers)
    dev = None
    if fraction == 1:
        rows, numbers = rows_of_domain(task.dev, labels, domain)
        dev = inputs.compute(inputs.prepare(task.dev, rows, numbers)), targets(labels, rows, numbers)
    return fit_control(control, train, dev, task.select_by)


def evaluate(model: Any, task: Task, inputs: Any, labels: Labels, domain: str) -> dict[str, Any]:
    """Scores, size, speed and predictions on the domain's test rows, in the form that evaluate.py gives them."""
    from metakd.evaluation.metrics import scores_by_domain
    from metakd.evaluation.predictions import prediction_rows

    rows, numbers = rows_of_domain(task.test, labels, domain)
    inputs.compute(inputs.prepare(task.test, rows, numbers[:WARM_UP]))
    prepared, started = inputs.prepare(task.test, rows, numbers), time.perf_counter()
    probabilities = class_probabilities(model, inputs.compute(prepared), labels)
    speed = round(len(numbers) / (time.perf_counter() - started), 1)
    test_labels = targets(labels, rows, numbers)
    scores = scores_by_domain(probabilities.argmax(1), test_labels, np.zeros(len(numbers), int), labels, [domain])
    scores |= {
        "parameters": inputs.parameters + parameter_count(model),
        "size_bytes": 4 * inputs.parameters + len(pickle.dumps(model)),
        "speed": {"rows_per_second": speed, "threads": inputs.threads, "processes": 1, "device": inputs.device},
    }
    predictions = prediction_rows([rows[i]["guid"] for i in numbers], test_labels, probabilities, labels.problem)
    return {"problem": labels.problem, "labels": labels.names, "model": scores, "rows": predictions}


def rows_of_domain(table: str, labels: Labels, domain: str) -> tuple[list[Row], np.ndarray]:
    """The rows of a labelled table, and the numbers of those of a domain."""
    rows = list(read_rows(table, labels, required=LABELLED))
    numbers = np.array([i for i, row in enumerate(rows) if row["domain"] == domain], dtype=int)
    if not len(numbers):
        raise InputError(f"{table} has no row of domain {domain!r}")
    return rows, numbers


def targets(labels: Labels, rows: list[Row], numbers: np.ndarray) -> np.ndarray:
    """Class numbers of the rows with these numbers."""
    return labels.targets([rows[i]["label"] for i in numbers])


if __name__ == "__main__":
    run(main)
