"""Make a classifier's probabilities mean something: its temperature, and a confidence below which it abstains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest

from metakd.errors import InputError
from metakd.evaluation.statistics import brier_score, expected_calibration_error

CALIBRATION = "calibration.json"  # in the folder of a calibrated classifier
HOTTEST = 100.0  # a temperature and its inverse lie below this
COVERAGES = np.arange(10, 0, -1) / 10  # shares of the rows that are tried, largest first
ERROR_RATE = 0.05  # a chosen threshold misses its target at most this often


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T for which softmax(logits / T) has the least negative log-likelihood (Guo et al. 2017, ICML).

    Args:
        logits: [n, C].
        labels: class numbers [n].

    Raises:
        InputError: no prediction is wrong, so that no temperature is low enough.
    """
    if (logits.argmax(1) == labels).all():
        raise InputError(
            f"all {len(labels)} predictions are right, so these rows cannot tell how sure the classifier may be; use "
            "more rows"
        )

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    limit = np.log(HOTTEST)
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def class_wise_errors(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[float]:
    """For each class, the mean gap between its probability and its frequency, over rows binned by that probability.

    Kull et al. 2019, NeurIPS; the mean over the classes is the class-wise expected calibration error.

    Args:
        probabilities: [n, C].
        labels: class numbers [n].
        bins: number of bins of equal width.
    """
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    errors = []
    for number, of_class in enumerate(probabilities.T):
        gaps = np.bincount(np.digitize(of_class, edges, right=True), weights=of_class - (labels == number))
        errors.append(float(np.abs(gaps).sum() / len(labels)))
    return errors


@dataclass(frozen=True)
class Threshold:
    """Predictions of at least this confidence, on the rows that it was measured on.

    Args:
        confidence: the lowest probability of the predicted class; 0 where all rows are predicted.
        coverage: fraction of the rows that are predicted.
        rows: number of those.
        right: fraction of them that is right.
        lower_bound: of that fraction in future rows, with 95 % confidence for all thresholds of a curve together.
    """

    confidence: float
    coverage: float
    rows: int
    right: float
    lower_bound: float


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> list[Threshold]:
    """Thresholds that cover all rows, nine tenths of them, and so on.

    The bounds are those of Clopper & Pearson (1934), each at an error rate divided by the number of thresholds
    (Bonferroni), so that the best of them may be chosen.

    Args:
        confidence: probability of the predicted class [n].
        right: whether the prediction is right [n].
    """
    order = np.argsort(-confidence, kind="stable")
    curve: list[Threshold] = []
    for share in COVERAGES:
        lowest = confidence[order[max(int(np.ceil(share * len(order))) - 1, 0)]]
        covered = confidence >= lowest  # all rows of equal confidence are
        rows, correct = int(covered.sum()), int(right[covered].sum())
        if curve and rows == curve[-1].rows:
            continue
        test = binomtest(correct, rows, alternative="greater")
        bound = test.proportion_ci(1 - ERROR_RATE / len(COVERAGES), method="exact").low
        # Halfway to the next row, so that rounding on another machine leaves a row on its side.
        between = 0.0 if covered.all() else (lowest + confidence[~covered].max()) / 2
        curve.append(Threshold(float(between), rows / len(order), rows, correct / rows, float(bound)))
    return curve


def choose_threshold(curve: list[Threshold], target: float) -> Threshold | None:
    """The threshold that covers the most rows and whose lower bound reaches the target; None if no one does."""
    return next((threshold for threshold in curve if threshold.lower_bound >= target), None)


@dataclass(frozen=True)
class Calibration:
    """What calibration.json holds.

    Args:
        temperature: that the logits are divided by.
        rows: that it was fitted on.
        errors: expected calibration error, Brier score and the classes' errors, "before" and "after".
        target: share of the predictions that must be right.
        threshold: that reaches the target; None if no one does.
        curve: of all thresholds that were tried.
    """

    temperature: float
    rows: int
    errors: dict[str, dict[str, Any]]
    target: float
    threshold: Threshold | None
    curve: list[Threshold]


def calibrate(
    logits: np.ndarray, labels: np.ndarray, right: np.ndarray, names: Sequence[str], target: float
) -> Calibration:
    """Temperature and threshold for a classifier.

    Args:
        logits: [n, C].
        labels: class numbers [n], for the temperature.
        right: class numbers [n] that predictions are right by, for the threshold: the labels, or a teacher's.
        names: of the classes.
        target: see `Calibration`.
    """
    temperature = fit_temperature(logits, labels)
    probabilities = {"before": softmax(logits, axis=1), "after": softmax(logits / temperature, axis=1)}
    errors = {
        when: {
            "ece": expected_calibration_error(values, labels),
            "brier": brier_score(values, labels),
            "by_class": dict(zip(names, class_wise_errors(values, labels), strict=True)),
        }
        for when, values in probabilities.items()
    }
    after = probabilities["after"]
    curve = coverage_curve(after.max(1), after.argmax(1) == right)
    return Calibration(temperature, len(labels), errors, target, choose_threshold(curve, target), curve)
