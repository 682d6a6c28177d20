"""Scores with intervals, verdicts on methods, and the calibration of probabilities.

From predictions to a table: a `Measure` for each method and domain, `bootstrap`, `macro_average` (all three in
`resampling`), then `estimate` and `compare`. What an interval covers, and why, says `uncertainty`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from metakd.errors import InputError, nearest
from metakd.evaluation.resampling import SeedScores
from metakd.evaluation.uncertainty import (
    Uncertainty,
    fold_uncertainty,
    margin,
    p_value,
    pool_seeds,
    smallest_difference,
    uncertainty,
)

Verdict = Literal["BETTER", "WORSE", "NOT TOLD APART"]
ERROR_RATE = 0.05  # of an interval, and of all verdicts of a table together


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval.

    Args:
        value: mean over seeds.
        seed_deviation: standard deviation over seeds; None with one seed, whose interval covers rows alone.
        low, high: the interval.
    """

    value: float
    seed_deviation: float | None
    low: float
    high: float
    seeds: int
    rows: int


def estimate(scores: SeedScores, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """The mean over seeds with its interval over seeds and rows.

    Args:
        bounds: lowest and highest possible score.
    """
    return estimate_with(scores.scores, scores.rows, uncertainty(scores), bounds)


def estimate_folds(scores: np.ndarray, rows: int, folds: int, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """The mean over folds with its interval; the arguments are those of `compare_folds`, each fold counts as a seed."""
    return estimate_with(scores, rows, fold_uncertainty(scores, folds), bounds)


def estimate_with(scores: np.ndarray, rows: int, error: Uncertainty, bounds: tuple[float, float]) -> Estimate:
    """The mean of scores [S] with its interval."""
    value, half = float(scores.mean()), margin(error, ERROR_RATE)
    deviation = float(scores.std(ddof=1)) if len(scores) > 1 else None
    return Estimate(value, deviation, max(value - half, bounds[0]), min(value + half, bounds[1]), len(scores), rows)


@dataclass(frozen=True)
class Comparison:
    """A method against the reference on the same rows and seeds.

    Args:
        difference: score of the method minus score of the reference, mean over seeds.
        low, high: 95 % interval of this difference alone.
        p: of this comparison alone; 1 with one seed, which cannot tell a method from its luck.
        p_holm: corrected for all comparisons of the table.
        verdict: on the method, where `p_holm` is at most 5 %.
        smallest_difference: the true difference that at least 80 % of such studies find; None with one seed.
    """

    method: str
    domain: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Verdict
    smallest_difference: float | None
    seeds: int
    rows: int


def compare(table: Mapping[str, Mapping[str, SeedScores]], reference: str) -> list[Comparison]:
    """Each method against the reference in each domain.

    All comparisons of the table are one family: where no method differs, at most 5 % of such tables hold a verdict.

    Args:
        table: scores by method and domain, from `bootstrap`. Macro-averages make a table of their own, with one domain.

    Raises:
        InputError: no such reference.
    """
    if reference not in table:
        raise InputError(f"no method {reference!r} to compare with; there are {list(table)}{nearest(reference, table)}")
    methods = [name for name in table if name != reference]
    family = len(methods) * len(table[reference])
    comparisons = []
    for domain, reference_scores in table[reference].items():
        differences = [table[name][domain] - reference_scores for name in methods]
        vary = [table[name][domain].vary for name in methods]
        errors = pool_seeds([uncertainty(difference) for difference in differences], vary)
        for name, difference, error in zip(methods, differences, errors, strict=True):
            comparisons.append(compare_one(name, domain, difference.scores, difference.rows, error, family))
    return corrected(comparisons)


def compare_folds(table: Mapping[str, np.ndarray], reference: str, rows: int, folds: int) -> list[Comparison]:
    """Each method against the reference, over folds of the same rows; each fold counts as a seed.

    Args:
        table: scores [k] of each method in the k folds that are finished.
        rows: test rows of these folds together.
        folds: into which the rows were dealt.
    """
    names = [name for name in table if name != reference]
    differences = [table[name] - table[reference] for name in names]
    return corrected([
        compare_one(name, "", difference, rows, fold_uncertainty(difference, folds), len(names))
        for name, difference in zip(names, differences, strict=True)
    ])  # fmt: skip


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of one family, with p values corrected for their number, and verdicts."""
    return [
        replace(comparison, p_holm=p, verdict=verdict(comparison.difference, p))
        for comparison, p in zip(comparisons, holm([each.p for each in comparisons]), strict=True)
    ]


def compare_one(method: str, domain: str, scores: np.ndarray, rows: int, error: Uncertainty, family: int) -> Comparison:
    """One comparison, before its p value is corrected.

    Args:
        scores: differences from the reference [S].
        rows: number of test rows.
        family: number of comparisons in the table; the smallest difference allows for it.
    """
    difference, half, seeds = float(scores.mean()), margin(error, ERROR_RATE), len(scores)
    p, smallest = 1.0, None
    if seeds > 1:
        p, smallest = p_value(difference, error), smallest_difference(error, ERROR_RATE / family)
    return Comparison(
        method, domain, difference, difference - half, difference + half, p, p, verdict(difference, p), smallest, seeds,
        rows,
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number: one of true null hypotheses falls below 5 % in at most 5 % of families.

    Step-down method of Holm (1979, Scandinavian Journal of Statistics 6, 65-70).
    """
    p = np.asarray(p_values, dtype=float)
    order = p.argsort()
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1.0).tolist()


def verdict(difference: float, p: float) -> Verdict:
    """The verdict on a method whose score differs by this from the reference."""
    if p > ERROR_RATE:
        return "NOT TOLD APART"
    return "BETTER" if difference > 0 else "WORSE"


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The mean gap between confidence and accuracy, over rows binned by confidence (Guo et al. 2017, ICML).

    Args:
        probabilities: [n, C]; the confidence of a row is its highest one.
        labels: class numbers [n].
        bins: number of bins of equal width.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    gaps = np.bincount(np.digitize(confidence, edges, right=True), weights=confidence - right)
    return float(np.abs(gaps).sum() / len(labels))


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean of `squared_errors` over rows: 0 is perfect, 2 is certain and always wrong (Brier 1950)."""
    return float(squared_errors(probabilities, labels).mean())


def squared_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance of each row's probabilities [..., n, C] from its label [n]: [..., n].

    scikit-learn's Brier score warns of rounded probabilities, which do not add up to 1, and halves that of two classes.
    """
    return ((probabilities - np.eye(probabilities.shape[-1])[labels]) ** 2).sum(-1)
