"""Scores of predictions, from their counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import f1_score, precision_recall_fscore_support

from metakd.data.labels import Labels, ProblemType

# The number that models are chosen by, and that results are headed with.
HEADLINE: dict[ProblemType, str] = {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "spearman"}


def headline(predicted: np.ndarray, labels: np.ndarray, problem: ProblemType) -> float:
    """Accuracy, micro-F1 over all classes, or Spearman's rank correlation (0 where one side is constant)."""
    if problem == "single_label":
        return float((predicted == labels).mean())
    if problem == "multi_label":
        return float(f1_of_counts(*(count.sum() for count in class_counts(predicted, labels))))
    return correlation(spearmanr, predicted, labels)


def baseline(labels: np.ndarray, domains: np.ndarray, problem: ProblemType) -> float:
    """Macro-average over domains of what a constant prediction reaches: the majority class, all classes, or 0."""
    if problem == "regression":
        return 0.0
    found = []
    for k in np.unique(domains):
        of_domain = labels[domains == k]
        if problem == "single_label":
            found.append(np.bincount(of_domain).max() / len(of_domain))
        else:
            found.append(headline(np.ones_like(of_domain), of_domain, problem))
    return float(np.mean(found))


def headline_by_domain(
    predicted: np.ndarray, labels: np.ndarray, domains: np.ndarray, names: Sequence[str], problem: ProblemType
) -> dict[str, float]:
    """The headline number of each domain that has rows."""
    return {
        name: headline(predicted[domains == k], labels[domains == k], problem)
        for k, name in enumerate(names)
        if (domains == k).any()
    }


def agreement(one: np.ndarray, other: np.ndarray, problem: ProblemType) -> float:
    """How far two models' predictions agree: share of equal rows, or Spearman's rank correlation of numbers.

    Args:
        one, other: targets in one label order.
    """
    if problem == "regression":
        return correlation(spearmanr, one, other)
    same = one == other
    return float((same if same.ndim == 1 else same.all(1)).mean())


def class_counts(predicted: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per class [C]: rows where it is both predicted and true, and the sum of its predicted and true rows."""
    return (predicted * labels).sum(0), predicted.sum(0) + labels.sum(0)


def f1_of_counts(both: np.ndarray, either: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN); 0 where a class neither occurs nor is predicted."""
    return np.divide(2 * both, either, out=np.zeros(np.shape(both)), where=np.asarray(either) > 0)


def correlation(measure: Callable[..., Any], predicted: np.ndarray, labels: np.ndarray) -> float:
    if len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(measure(predicted, labels).statistic)


def multi_label_scores(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Micro- and macro-F1, the share of rows with every class right, and each class's F1: 0/1 [n, C]."""
    by_class = f1_of_counts(*class_counts(predicted, labels))
    return {
        "rows": len(labels),
        "micro_f1": headline(predicted, labels, "multi_label"),
        "macro_f1": float(np.mean(by_class)),
        "all_right": float((predicted == labels).all(1).mean()),
        "classes": {name: {"rows": int(labels[:, i].sum()), "f1": float(by_class[i])} for i, name in enumerate(names)},
    }


def regression_scores(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Spearman's and Pearson's correlation and the root mean squared error: numbers [n]."""
    return {
        "rows": len(labels),
        "spearman": correlation(spearmanr, predicted, labels),
        "pearson": correlation(pearsonr, predicted, labels),
        "rmse": float(np.sqrt(np.mean((predicted - labels) ** 2))),
    }


def classification_scores(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
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


SCORES: dict[ProblemType, Callable[[np.ndarray, np.ndarray, Sequence[str]], dict[str, Any]]] = {
    "single_label": classification_scores,
    "multi_label": multi_label_scores,
    "regression": regression_scores,
}


def scores_by_domain(
    predicted: np.ndarray, labels: np.ndarray, domains: np.ndarray, outputs: Labels, domain_names: Sequence[str]
) -> dict[str, Any]:
    """Scores over all rows, and for each domain that has rows.

    Args:
        predicted, labels: targets, see `Labels.targets`.
        outputs: what they mean.
    """
    scores = SCORES[outputs.problem]
    overall = scores(predicted, labels, outputs.names)
    overall["domains"] = {
        name: scores(predicted[domains == k], labels[domains == k], outputs.names)
        for k, name in enumerate(domain_names)
        if (domains == k).any()
    }
    return overall
