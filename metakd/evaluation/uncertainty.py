"""How far chance alone moves a score or a difference, and how large a difference must be to stand out.

A score depends on the test rows and on the seeds. Rows are resampled (see `resampling`). Seeds are not: resamples of
three seeds spread too little and have no tails, so Student's t stands for them. The two parts add up as where several
readers judge the same cases, with seeds as readers and rows as cases (Obuchowski and Rockette 1995, Communications in
Statistics - Simulation and Computation 24, 285-308):

    variance of the mean over seeds = covariance of two seeds over resampled rows + variance between seeds / seeds

The quantile is the mean of the normal one and Student's, weighted by the two parts (Cochran 1964, Biometrics 20,
191-195). Intervals are a little too wide rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from metakd.evaluation.resampling import SeedScores

POWER = 0.8
ROUNDING = 1e-12  # smaller differences are none


@dataclass(frozen=True)
class Uncertainty:
    """The variance of a mean over seeds, in parts.

    Args:
        shared: variance over rows that all seeds share.
        seeds: variance between seeds, divided by their number.
        rows: variance over rows of the mean over just these seeds; a margin never allows for less.
        degrees: degrees of freedom of `seeds`.
    """

    shared: float
    seeds: float
    rows: float
    degrees: float


def uncertainty(scores: SeedScores) -> Uncertainty:
    """The uncertainty of the mean over seeds; with one seed that of the rows alone."""
    seeds = len(scores.scores)
    covariance = np.cov(scores.resampled, rowvar=False).reshape(seeds, seeds)
    rows = max(float(covariance.mean()), 0.0)
    if seeds == 1:
        return Uncertainty(rows, 0.0, rows, math.inf)
    shared = max(float(covariance[~np.eye(seeds, dtype=bool)].mean()), 0.0)
    return Uncertainty(shared, float(scores.scores.var(ddof=1)) / seeds, rows, seeds - 1)


def fold_uncertainty(scores: np.ndarray, folds: int) -> Uncertainty:
    """The uncertainty of the mean of scores [k] in folds of the same rows.

    The folds' training rows overlap, so that their scores vary together. The variance between folds is multiplied by
    1/k + test rows / training rows instead of 1/k: what Nadeau and Bengio (2003, Machine Learning 52, 239-281) found
    for random splits, used for folds as by Bouckaert and Frank (2004, PAKDD). Dev rows count as training rows.

    Args:
        folds: into which the rows were dealt; k of them are finished.
    """
    between = float(scores.var(ddof=1))
    return Uncertainty(0.0, between * (1 / len(scores) + 1 / (folds - 1)), 0.0, len(scores) - 1)


def pool_seeds(errors: Sequence[Uncertainty], vary: Sequence[bool]) -> list[Uncertainty]:
    """The uncertainties of differences from one reference, with the variance between seeds known better.

    Three seeds say little about how much seeds matter. Each difference takes the mean over the M methods that vary with
    the seed, or its own variance where that is larger. Differences from one reference correlate by a half, so the mean
    has 4 M / (M + 3) times the degrees of freedom of one (Satterthwaite's: the correlation matrix has M - 1 eigenvalues
    of 1/2 and one of (M + 1) / 2). A method without randomness keeps its own: there the reference alone varies.

    Args:
        vary: whether the method of each difference varies with the seed.
    """
    varying = [error.seeds for error, varies in zip(errors, vary, strict=True) if varies]
    gain = 4 * len(varying) / (len(varying) + 3)
    return [
        replace(error, seeds=max(error.seeds, float(np.mean(varying))), degrees=gain * error.degrees)
        if varies
        else error
        for error, varies in zip(errors, vary, strict=True)
    ]


def margin(error: Uncertainty, error_rate: float) -> float:
    """The deviation from the true value that chance exceeds at this rate: half the length of an interval."""
    return float(margins(error, np.array(error.seeds), error_rate))


def margins(error: Uncertainty, seeds: np.ndarray, error_rate: float) -> np.ndarray:
    """The margin for each of several variances between seeds, in place of the one in `error`."""
    normal, student = -ndtri(error_rate / 2), -stdtrit(min(error.degrees, 1e9), error_rate / 2)
    total = np.sqrt(error.shared + seeds)
    weighted = np.divide(error.shared * normal + seeds * student, total, out=np.zeros_like(total), where=total > 0)
    return np.maximum(weighted, normal * math.sqrt(error.rows))


def p_value(difference: float, error: Uncertainty) -> float:
    """The error rate at which the difference equals its margin."""
    if abs(difference) < ROUNDING:
        return 1.0

    def excess(log_rate: float) -> float:
        return margin(error, math.exp(log_rate)) - abs(difference)

    smallest = math.log(1e-100)
    return math.exp(brentq(excess, smallest, 0.0, xtol=1e-6)) if excess(smallest) > 0 else 0.0


def smallest_difference(error: Uncertainty, error_rate: float) -> float:
    """The true difference that exceeds its margin in at least 80 % of such studies.

    The true variance between seeds is not known; few seeds tend to show less of it. It is taken to be the one whose
    estimates are as often above as below the estimate here. What other studies would estimate, and need to exceed, is
    100 quantiles of chi-squared times that variance.
    """
    median = chdtri(error.degrees, 0.5)
    estimates = error.seeds / median * chdtri(error.degrees, (np.arange(100) + 0.5) / 100)
    needed = margins(error, estimates, error_rate)
    deviation = math.sqrt(error.shared + error.seeds / median * error.degrees)
    if deviation == 0:
        return 0.0

    def missing_power(difference: float) -> float:
        return POWER - float(ndtr((difference - needed) / deviation).mean())

    return brentq(missing_power, 0.0, float(needed.max()) + 10 * deviation)
