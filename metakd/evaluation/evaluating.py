"""Evaluate a classifier on a table: its logits, its scores by domain and class, its size and its speed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from metakd.data.encoding import EncodedRows
from metakd.evaluation.metrics import scores_by_domain
from metakd.training.inference import BATCH_SIZE, LoadedClassifier, predict_logits


def evaluate(
    classifier: LoadedClassifier, table: Path, domains: list[str], domain: str, accelerator: Accelerator
) -> tuple[EncodedRows, np.ndarray, dict[str, Any]]:
    """The rows of a domain (of all domains if it is empty), a classifier's logits [n, C] for them, and its scores."""
    rows = classifier.encode(table, domains, domain)
    first = rows.select(np.arange(min(BATCH_SIZE, len(rows))))
    predict_logits(classifier.model, first, accelerator, "warming up")  # the first batch is slower than the others
    started = time.perf_counter()
    logits = predict_logits(classifier.model, rows, accelerator, "evaluating")
    seconds = time.perf_counter() - started
    predicted = classifier.labels.predicted(logits)
    scores = scores_by_domain(predicted, rows.labels, rows.domains, classifier.labels, domains)
    scores["parameters"] = sum(parameter.numel() for parameter in classifier.model.parameters())
    scores["speed"] = {
        "rows_per_second": round(len(rows) / seconds, 1), "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes, "device": accelerator.device.type,
    }  # fmt: skip
    return rows, logits, scores


def scores_line(scores: dict[str, Any]) -> str:
    """The scores of all rows on one line."""
    numbers = {name: value for name, value in scores.items() if isinstance(value, float) and name != "majority"}
    return ", ".join(f"{name.replace('_', '-')} {value:.4f}" for name, value in numbers.items())
