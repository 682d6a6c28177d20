"""Scores of predictions: one headline number, and everything else that an evaluation records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import f1_score, precision_recall_fscore_support

from metakd.data.labels import Labels, ProblemType, SelectBy

# The number that selects models and stands first in result tables.
HEADLINE: dict[ProblemType, str] = {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "spearman"}


def headline(
    predicted: np.ndarray, labels: np.ndarray, problem: ProblemType, select_by: SelectBy | None = None
) -> float:
    """Accuracy, micro-F1 over all classes, or Spearman's rank correlation (0 if either side is constant).

    Args:
        select_by: the score that a task names instead.
    """
    if select_by == "macro_f1":
        return macro_f1(predicted, labels)
    if problem == "single_label":
        return float((predicted == labels).mean())
    if problem == "multi_label":
        return binary_f1(predicted.ravel(), labels.ravel())
    return correlation(spearmanr, predicted, labels)


def headline_by_domain(
    predicted: np.ndarray,
    labels: np.ndarray,
    domains: np.ndarray,
    names: Sequence[str],
    problem: ProblemType,
    select_by: SelectBy | None = None,
) -> dict[str, float]:
    """The headline number of each domain that has rows."""
    return {
        name: headline(predicted[domains == k], labels[domains == k], problem, select_by)
        for k, name in enumerate(names)
        if (domains == k).any()
    }


def baseline(labels: np.ndarray, domains: np.ndarray, problem: ProblemType, select_by: SelectBy | None = None) -> float:
    """The mean over domains of the headline number that a constant prediction reaches.

    The constant is the domain's most frequent class (single-label), all classes (multi-label), or any number
    (regression, which scores 0).
    """
    if problem == "regression":
        return 0.0
    scores = []
    for k in np.unique(domains):
        domain_labels = labels[domains == k]
        constant = np.bincount(domain_labels).argmax() if problem == "single_label" else 1
        scores.append(headline(np.full_like(domain_labels, constant), domain_labels, problem, select_by))
    return float(np.mean(scores))


def agreement(one: np.ndarray, other: np.ndarray, problem: ProblemType) -> float:
    """Share of rows that two models predict alike; in a regression, the rank correlation of their predictions.

    Args:
        one, other: targets (see `Labels.targets`) in the same label order.
    """
    if problem == "regression":
        return correlation(spearmanr, one, other)
    if problem == "multi_label":
        return float((one == other).all(axis=1).mean())
    return float((one == other).mean())


def binary_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """F1 of 0/1 predictions [n]; 0 if no row is predicted or labelled 1."""
    return float(f1_score(labels.astype(int), predicted.astype(int), zero_division=0.0))


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean F1 of the classes that occur in class numbers [n], or of all classes of 0/1 [n, C]."""
    if labels.ndim == 2:
        return float(np.mean([binary_f1(predicted[:, i], labels[:, i]) for i in range(labels.shape[1])]))
    return float(f1_score(labels, predicted, average="macro", zero_division=0.0))


def correlation(measure: Callable[..., Any], predicted: np.ndarray, labels: np.ndarray) -> float:
    """The correlation that `measure` (of scipy.stats) computes; 0 if either side is constant."""
    if len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(measure(predicted, labels).statistic)


def majority_share(labels: np.ndarray) -> float:
    """The share of the most frequent class among class numbers [n]."""
    return float(np.bincount(labels).max() / len(labels))


def classification_scores(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, macro-F1, the majority share, and each class's scores.

    Macro-F1 is the mean over the classes that occur in labels or predictions.

    Args:
        predicted, labels: class numbers [n].
        names: class names.
    """
    correct = int((predicted == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(method="wilson")
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=list(range(len(names))), zero_division=0.0
    )
    return {
        "rows": len(labels),
        "accuracy": correct / len(labels),
        "accuracy_95": [float(interval.low), float(interval.high)],
        "macro_f1": macro_f1(predicted, labels),
        "majority": majority_share(labels),
        "classes": {
            name: {"rows": int(support[i]), "precision": float(precision[i]), "recall": float(recall[i]),
                   "f1": float(f1[i])}
            for i, name in enumerate(names)
        },
    }  # fmt: skip


def multi_label_scores(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Micro-F1, macro-F1 over all classes, the share of rows with every class right, and each class's F1.

    Args:
        predicted, labels: 0/1 [n, C].
        names: class names [C].
    """
    class_f1 = [binary_f1(predicted[:, i], labels[:, i]) for i in range(len(names))]
    return {
        "rows": len(labels),
        "micro_f1": headline(predicted, labels, "multi_label"),
        "macro_f1": float(np.mean(class_f1)),
        "all_right": float((predicted == labels).all(axis=1).mean()),
        "classes": {name: {"rows": int(labels[:, i].sum()), "f1": class_f1[i]} for i, name in enumerate(names)},
    }


def regression_scores(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Spearman's and Pearson's correlation and the root mean squared error of numbers [n]."""
    return {
        "rows": len(labels),
        "spearman": correlation(spearmanr, predicted, labels),
        "pearson": correlation(pearsonr, predicted, labels),
        "rmse": float(np.sqrt(np.mean((predicted - labels) ** 2))),
    }


SCORES: dict[ProblemType, Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]] = {
    "single_label": classification_scores,
    "multi_label": multi_label_scores,
    "regression": regression_scores,
}


def scores_by_domain(
    predicted: np.ndarray, labels: np.ndarray, domains: np.ndarray, outputs: Labels, domain_names: Sequence[str]
) -> dict[str, Any]:
    """Scores over all rows and, under "domains", over the rows of each domain that has some.

    Args:
        predicted, labels: targets, see `Labels.targets`.
        domains: domain numbers [n].
        outputs: the names and the problem type of the targets.
        domain_names: names in the order of the domain numbers.
    """
    scores = SCORES[outputs.problem]
    overall = scores(predicted, labels, outputs.names)
    overall["domains"] = {
        name: scores(predicted[domains == k], labels[domains == k], outputs.names)
        for k, name in enumerate(domain_names)
        if (domains == k).any()
    }
    return overall
