"""Intervals, comparisons and calibration, against values worked by hand and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_rel
from sklearn.metrics import brier_score_loss

from metakd.errors import InputError
from metakd.evaluation.resampling import SeedScores, bootstrap, row_mean
from metakd.evaluation.statistics import (
    Comparison,
    brier_score,
    compare,
    compare_folds,
    estimate,
    estimate_folds,
    expected_calibration_error,
    holm,
    squared_errors,
    verdict,
)
from metakd.evaluation.uncertainty import Uncertainty, margin, p_value, pool_seeds, smallest_difference, uncertainty

# --------------------------------------------------------------------------------------------------------- uncertainty


def seed_scores(*scores: float, row_deviation: float = 0.0) -> SeedScores:
    """Scores whose row error, the same in all seeds, has this standard deviation."""
    errors = row_deviation * np.array([[-1.0], [0.0], [1.0]])  # their sample variance is 1
    return SeedScores(np.array(scores), np.array(scores) + errors, 100)


def test_uncertainty_by_hand() -> None:
    """Seeds of variance 0.01; row errors of standard deviation 0.2, the same in all seeds."""
    error = uncertainty(seed_scores(0.7, 0.8, 0.9, row_deviation=0.2))
    assert error == Uncertainty(pytest.approx(0.04), pytest.approx(0.01 / 3), pytest.approx(0.04), 2)


def test_row_errors_that_seeds_do_not_share() -> None:
    """Each seed's errors have variance 1, any two have covariance 0 or, where they are opposed, -1."""
    one, other = np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, -1.0])
    error = uncertainty(SeedScores(np.array([0.5, 0.5]), np.stack([one, other], axis=1), 100))
    assert (error.shared, error.rows) == (0.0, pytest.approx(2 / 3 / 4 * 2))  # variance 2/3 each; the mean has 1/3
    opposed = uncertainty(SeedScores(np.array([0.5, 0.5]), np.stack([one, -one], axis=1), 100))
    assert (opposed.shared, opposed.rows) == (0.0, 0.0)


def test_one_seed_has_the_uncertainty_of_its_rows() -> None:
    assert uncertainty(seed_scores(0.7, row_deviation=0.2)) == Uncertainty(
        pytest.approx(0.04), 0.0, pytest.approx(0.04), math.inf
    )


def test_margin_by_hand() -> None:
    """Quantiles of 5 %: 1.959964 (normal), 4.302653 (Student's, 2 degrees), as printed in tables."""
    assert margin(Uncertainty(9, 0, 9, math.inf), 0.05) == pytest.approx(3 * 1.959964)
    assert margin(Uncertainty(0, 16, 0, 2), 0.05) == pytest.approx(4 * 4.302653)
    assert margin(Uncertainty(9, 16, 9, 2), 0.05) == pytest.approx((9 * 1.959964 + 16 * 4.302653) / 5)
    assert margin(Uncertainty(0, 1e-9, 4, 2), 0.05) == pytest.approx(2 * 1.959964)  # never less than rows alone
    assert margin(Uncertainty(0, 0, 0, 2), 0.05) == 0.0


def test_p_value_of_rows_alone_is_that_of_the_normal() -> None:
    assert p_value(-3 * 1.959964, Uncertainty(9, 0, 9, math.inf)) == pytest.approx(0.05, rel=1e-5)
    assert p_value(1e-15, Uncertainty(9, 0, 9, math.inf)) == 1.0


def test_p_value_of_seeds_alone_is_that_of_the_paired_t_test() -> None:
    one, other = np.array([0.81, 0.84, 0.80, 0.83]), np.array([0.79, 0.80, 0.79, 0.81])
    difference = seed_scores(*one) - seed_scores(*other)
    error = uncertainty(difference)
    assert p_value(difference.scores.mean(), error) == pytest.approx(ttest_rel(one, other).pvalue, rel=1e-6)


def test_p_value_is_the_error_rate_of_its_margin() -> None:
    error = Uncertainty(2.0, 1.0, 2.2, 4.0)
    assert p_value(margin(error, 0.0123), error) == pytest.approx(0.0123)
    assert p_value(1.0, Uncertainty(0, 0, 0, 2)) == 0.0


def test_smallest_difference_of_rows_alone_is_the_textbook_value() -> None:
    """1.959964 + 0.841621 standard errors."""
    assert smallest_difference(Uncertainty(4, 0, 4, 2), 0.05) == pytest.approx(2 * 2.801585, rel=1e-5)
    assert smallest_difference(Uncertainty(0, 0, 0, 2), 0.05) == 0.0


@pytest.mark.parametrize("degrees", [2, 8])
def test_smallest_difference_of_seeds_alone_has_the_power_of_the_t_test(degrees: int) -> None:
    """Against the noncentral t distribution, for the variance whose estimates have the median 1."""
    deviation = math.sqrt(degrees / {2: 1.386294, 8: 7.344121}[degrees])  # medians of chi-squared
    difference = smallest_difference(Uncertainty(0, 1, 0, degrees), 0.05)
    assert nct.sf(t.isf(0.025, degrees), degrees, difference / deviation) == pytest.approx(0.8, abs=0.002)


def test_pooled_seeds_by_hand() -> None:
    """Mean 3 of the three that vary; 4 * 3 / 6 = 2 times the degrees of freedom."""
    errors = [Uncertainty(1, seeds, 1, 2) for seeds in (1.0, 2.0, 6.0, 0.5)]
    pooled = pool_seeds(errors, [True, True, True, False])
    assert [(error.seeds, error.degrees) for error in pooled] == [(3, 4), (3, 4), (6, 4), (0.5, 2)]
    assert pool_seeds(errors[:1], [True]) == errors[:1]


# ----------------------------------------------------------------------------------------------- estimates and verdicts


def test_estimate_by_hand() -> None:
    """Seeds' variance 0.0001, rows' 0.0009: (9 * 1.959964 + 1/3 * 4.302653) / sqrt(9 + 1/3) hundredths."""
    scores = estimate(seed_scores(0.79, 0.80, 0.81, row_deviation=0.03))
    half = 0.01 * (9 * 1.959964 + 4.302653 / 3) / math.sqrt(9 + 1 / 3)
    assert (scores.value, scores.seed_deviation) == (pytest.approx(0.8), pytest.approx(0.01))
    assert (scores.low, scores.high) == (pytest.approx(0.8 - half), pytest.approx(0.8 + half))
    assert (scores.seeds, scores.rows) == (3, 100)


def test_estimate_of_one_seed_has_no_seed_deviation_and_stays_in_bounds() -> None:
    scores = estimate(seed_scores(0.99, row_deviation=0.01))
    assert scores.seed_deviation is None
    assert (scores.low, scores.high) == (pytest.approx(0.99 - 0.01959964), 1.0)
    assert estimate(seed_scores(-0.5, row_deviation=0.01), bounds=(-1.0, 1.0)).low == pytest.approx(-0.5195996)


def test_holm_by_hand() -> None:
    """0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not be less than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_verdicts() -> None:
    assert [verdict(0.01, 0.05), verdict(-0.01, 0.05), verdict(0.01, 0.051)] == ["BETTER", "WORSE", "NOT TOLD APART"]


def test_comparison_by_hand() -> None:
    """Differences 0.01, 0.02, 0.03 with seeds' variance 0.0001 and no row error: t = 0.02 / 0.01 * sqrt(3).

    A t-test of 3 pairs has 80 % power at 5.65 standard errors. The median of chi-squared is 1.386 of 2 degrees.
    """
    table = {
        "reference": {"books": seed_scores(0.80, 0.80, 0.80)},
        "method": {"books": seed_scores(0.81, 0.82, 0.83)},
    }
    (comparison,) = compare(table, "reference")
    half = 4.302653 * 0.01 / math.sqrt(3)
    p, smallest = 2 * t.sf(2 * math.sqrt(3), 2), 5.65 * 0.01 / math.sqrt(3) * math.sqrt(2 / 1.386)
    assert comparison == Comparison(
        "method", "books", pytest.approx(0.02), pytest.approx(0.02 - half), pytest.approx(0.02 + half),
        pytest.approx(p), pytest.approx(p), "NOT TOLD APART", pytest.approx(smallest, rel=1e-3), 3, 100,
    )  # fmt: skip


def test_verdicts_count_all_comparisons_of_the_table() -> None:
    """z = 2.3 has p = 0.021: enough alone, not as the best of three. z = 6 is enough in any table."""

    def table(*differences: float) -> dict[str, dict[str, SeedScores]]:
        reference = {"books": seed_scores(0.5, 0.5, row_deviation=0.0)}
        methods = {f"method {i}": {"books": seed_scores(0.5 + d, 0.5 + d, row_deviation=0.01)}
                   for i, d in enumerate(differences)}  # fmt: skip
        return {**methods, "reference": reference}

    assert [c.verdict for c in compare(table(0.023), "reference")] == ["BETTER"]
    comparisons = compare(table(0.023, 0.0, -0.01), "reference")
    assert [c.verdict for c in comparisons] == ["NOT TOLD APART"] * 3
    assert comparisons[0].p == pytest.approx(0.02145, abs=1e-5)
    assert comparisons[0].p_holm == pytest.approx(3 * 0.02145, abs=3e-5)
    # The quantile of 5 % / 3 is 2.393980; 80 % power needs 0.841621 more.
    assert comparisons[0].smallest_difference == pytest.approx(0.01 * (2.393980 + 0.841621), rel=1e-5)
    assert [c.verdict for c in compare(table(0.023, 0.0, -0.06), "reference")] == ["BETTER", "NOT TOLD APART", "WORSE"]


def test_a_control_without_randomness_is_compared_by_the_reference_s_seeds() -> None:
    table = {
        "reference": {"books": seed_scores(0.80, 0.82, 0.84)},
        "control": {"books": seed_scores(0.70, 0.70, 0.70)},
        "method": {"books": seed_scores(0.85, 0.79, 0.80)},
    }
    control = compare(table, "reference")[0]
    assert control.high - control.difference == pytest.approx(4.302653 * 0.02 / math.sqrt(3))


def test_one_seed_tells_no_method_apart() -> None:
    right, wrong = row_mean(np.ones((1, 40))), row_mean(np.zeros((1, 40)))
    (comparison,) = compare(bootstrap({"one": {"books": right}, "other": {"books": wrong}}, resamples=20), "other")
    assert (comparison.p, comparison.verdict) == (1.0, "NOT TOLD APART")
    assert comparison.difference == pytest.approx(1.0) and comparison.smallest_difference is None


def test_equal_predictions_are_not_told_apart() -> None:
    same = row_mean(np.random.default_rng(0).random((3, 40)) < 0.8)
    (comparison,) = compare(bootstrap({"one": {"books": same}, "other": {"books": same}}, resamples=20), "one")
    assert (comparison.difference, comparison.p, comparison.verdict) == (0.0, 1.0, "NOT TOLD APART")


def test_folds_by_hand() -> None:
    """Variance 0.00013 of the differences, times 1/5 + 1/4; Student's quantile of 4 degrees is 2.776445."""
    table = {"reference": np.array([0.8, 0.81, 0.82, 0.83, 0.84]), "method": np.array([0.81, 0.83, 0.82, 0.86, 0.86])}
    (comparison,) = compare_folds(table, "reference", 100, 5)
    assert comparison.difference == pytest.approx(0.016) and comparison.seeds == 5
    half = 2.776445 * math.sqrt(0.00013 * 0.45)
    assert (comparison.low, comparison.high) == pytest.approx((0.016 - half, 0.016 + half), abs=1e-7)
    assert comparison.p == pytest.approx(2 * t.sf(0.016 / math.sqrt(0.00013 * 0.45), 4), rel=1e-4)
    assert comparison.verdict == "NOT TOLD APART"
    (of_ten,) = compare_folds(table, "reference", 100, 10)  # five of ten folds are finished
    assert of_ten.high - 0.016 == pytest.approx(2.776445 * math.sqrt(0.00013 * (1 / 5 + 1 / 9)), abs=1e-7)
    mean = estimate_folds(table["reference"], 100, 5)
    assert mean.high - mean.value == pytest.approx(2.776445 * math.sqrt(0.00025 * 0.45), rel=1e-6)


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(InputError, match=r"no method 'metkd'.*'metakd', 'mix'.*did you mean 'metakd'"):
        compare({"metakd": {}, "mix": {}}, "metkd")


# --------------------------------------------------------------------------------------------------------- calibration


def test_expected_calibration_error_by_hand() -> None:
    """Two bins: confidence 0.9 and 0.7 with one of two right, and 0.5 with one of one right."""
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    labels = np.array([0, 0, 0])
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx((1.6 - 1 + 1 - 0.5) / 3)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx((2.1 - 2) / 3)
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0.0


def test_brier_score_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7]])
    assert squared_errors(probabilities, np.array([0, 0])) == pytest.approx([0.02, 0.98])
    assert brier_score(probabilities, np.array([0, 0])) == pytest.approx(0.5)
    assert brier_score(np.array([[1.0, 0.0]]), np.array([1])) == 2.0
    both_seeds = squared_errors(np.stack([probabilities, probabilities[::-1]]), np.array([0, 0]))
    assert both_seeds == pytest.approx(np.array([[0.02, 0.98], [0.98, 0.02]]))


def test_brier_score_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet(np.ones(4), 30), generator.integers(0, 4, 30)
    assert brier_score(probabilities, labels) == pytest.approx(
        brier_score_loss(labels, probabilities, labels=range(4), scale_by_half=False)
    )
