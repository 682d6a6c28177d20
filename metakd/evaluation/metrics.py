"""Scores of predictions, from their counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_recall_fscore_support


def domain_accuracies(
    predicted: np.ndarray, labels: np.ndarray, domains: np.ndarray, names: list[str]
) -> dict[str, float]:
    """Accuracy of each domain that has rows."""
    return {
        name: float((predicted == labels)[domains == k].mean()) for k, name in enumerate(names) if (domains == k).any()
    }


def majority_accuracy(labels: np.ndarray, domains: np.ndarray) -> float:
    """Macro-average over domains of the accuracy of always naming the domain's most frequent class."""
    shares = [np.bincount(labels[domains == k]).max() / (domains == k).sum() for k in np.unique(domains)]
    return float(np.mean(shares))


def classification_scores(predicted: np.ndarray, labels: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, macro-F1, the majority share, and each class's scores.

    Macro-F1 averages over the classes that occur among labels or predictions.

    Args:
        predicted, labels: class numbers [n].
        names: class names.
    """
    hits = int((predicted == labels).sum())
    interval = binomtest(hits, len(labels)).proportion_ci(method="wilson")
    numbers = list(range(len(names)))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0.0
    )
    return {
        "rows": len(labels),
        "accuracy": hits / len(labels),
        "accuracy_95": [float(interval.low), float(interval.high)],
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "majority": float(np.bincount(labels).max() / len(labels)),
        "classes": {
            name: {"rows": int(support[i]), "precision": float(precision[i]), "recall": float(recall[i]),
                   "f1": float(f1[i])}
            for i, name in enumerate(names)
        },
    }  # fmt: skip


def scores_by_domain(
    predicted: np.ndarray,
    labels: np.ndarray,
    domains: np.ndarray,
    label_names: list[str],
    domain_names: list[str],
) -> dict[str, Any]:
    """Scores over all rows, and for each domain that has rows."""
    overall = classification_scores(predicted, labels, label_names)
    overall["domains"] = {
        name: classification_scores(predicted[domains == k], labels[domains == k], label_names)
        for k, name in enumerate(domain_names)
        if (domains == k).any()
    }
    return overall
