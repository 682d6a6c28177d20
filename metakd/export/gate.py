"""Whether a smaller file may be handed on: what it loses on labelled rows, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Loss:
    """What a file loses against the model that it came from, on the same labelled rows.

    Args:
        rows: number of rows.
        agreement: share of the rows that both predict alike.
        accuracy: of the file.
        points: accuracy lost, in points.
        highest: the most that it loses in future rows, in points, with 95 % confidence.
        largest_difference: of a logit.
    """

    rows: int
    agreement: float
    accuracy: float
    points: float
    highest: float
    largest_difference: float


def measure_loss(model_logits: np.ndarray, file_logits: np.ndarray, labels: np.ndarray) -> Loss:
    """What a file loses.

    Args:
        model_logits, file_logits: [n, C].
        labels: class numbers [n].
    """
    right, file_right = model_logits.argmax(1) == labels, file_logits.argmax(1) == labels
    worse, better = int((right & ~file_right).sum()), int((~right & file_right).sum())
    return Loss(
        len(labels), float((model_logits.argmax(1) == file_logits.argmax(1)).mean()), float(file_right.mean()),
        100 * (worse - better) / len(labels), 100 * upper_bound(worse, better, len(labels)),
        float(np.abs(model_logits - file_logits).max()),
    )  # fmt: skip


def upper_bound(worse: int, better: int, rows: int, confidence: float = CONFIDENCE) -> float:
    """One-sided upper bound of the difference of two paired proportions, (worse - better) / rows.

    The score bound of Tango (1998, Statistics in Medicine 17, 891-908), which holds for few differing rows too: the
    largest difference that a test with the constrained maximum likelihood does not reject.
    """
    z = float(ndtri(confidence))
    low, high = (worse - better) / rows, 1.0
    for _ in range(60):  # halves the interval
        middle = (low + high) / 2
        if score(worse, better, rows, middle) < -z:
            high = middle
        else:
            low = middle
    return high


def score(worse: int, better: int, rows: int, difference: float) -> float:
    """Tango's test statistic for a true difference, which is standard normal if it is the true one."""
    a = 2 * rows
    b = -worse - better + (2 * rows - worse + better) * difference
    c = -better * difference * (1 - difference)
    q = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # estimate of the share of rows where the file is better
    variance = rows * (2 * q + difference * (1 - difference))
    return float((worse - better - rows * difference) / np.sqrt(max(variance, 1e-12)))
