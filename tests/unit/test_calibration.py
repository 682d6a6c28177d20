"""Temperature, class-wise errors and thresholds against hand-worked values, other formulas and simulations."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import beta

from metakd.errors import InputError
from metakd.evaluation.calibration import (
    choose_threshold,
    class_wise_errors,
    coverage_curve,
    fit_temperature,
)
from metakd.evaluation.statistics import expected_calibration_error


def calibrated(generator: np.random.Generator, rows: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the chance of each label, and labels drawn from it."""
    logits = generator.normal(0, 2, (rows, classes))
    chances = softmax(logits, axis=1)
    return logits, (chances.cumsum(1) < generator.random(rows)[:, None]).sum(1)


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_a_factor_on_calibrated_logits(factor: float) -> None:
    logits, labels = calibrated(np.random.default_rng(0), 20_000)
    temperature = fit_temperature(factor * logits, labels)
    assert temperature == pytest.approx(factor, rel=0.05)
    before = expected_calibration_error(softmax(factor * logits, axis=1), labels)
    after = expected_calibration_error(softmax(factor * logits / temperature, axis=1), labels)
    assert after < 0.02 and (factor == 1 or before > 5 * after)


def test_rows_that_are_all_right_have_no_temperature() -> None:
    with pytest.raises(InputError, match="all 2 predictions are right"):
        fit_temperature(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))


def test_two_classes_by_hand() -> None:
    # Three of four rows are right at a margin of m: the likelihood is best where the probability is 3/4, m / T = log 3.
    logits = np.array([[2.0, 0.0]] * 4)
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(2 / np.log(3), rel=1e-4)


def test_class_wise_errors_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    errors = class_wise_errors(probabilities, np.array([0, 1, 1, 1]))
    # class 0: |1.8 - 1| in one bin, |0.4 - 0| in another, of 4 rows; class 1: |0.2 - 1| and |1.6 - 2|
    assert errors == pytest.approx([1.2 / 4, 1.2 / 4])


def test_a_curve_by_hand() -> None:
    confidence = np.linspace(0.55, 1.0, 10)
    right = np.array([False, True] * 2 + [True] * 6)
    curve = coverage_curve(confidence, right)
    assert [threshold.rows for threshold in curve] == list(range(10, 0, -1))
    assert curve[0].right == 0.8 and curve[0].confidence == 0 and curve[1].confidence == pytest.approx(0.575)
    assert curve[4].lower_bound == pytest.approx(0.005 ** (1 / 6))  # all of 6 right: p^6 = 5 % / 10
    assert curve[0].lower_bound == pytest.approx(beta.ppf(0.005, 8, 3))  # Clopper & Pearson: 8 of 10 right
    chosen = choose_threshold(curve, 0.4)
    assert chosen is not None and chosen.rows == 9 and choose_threshold(curve, 0.9) is None


def test_rows_of_equal_confidence_are_covered_together() -> None:
    curve = coverage_curve(np.array([0.9] * 5 + [0.6] * 5), np.ones(10, dtype=bool))
    assert [(threshold.confidence, threshold.rows) for threshold in curve] == [(0.0, 10), (0.75, 5)]


def test_a_chosen_threshold_misses_its_target_in_at_most_five_percent_of_studies() -> None:
    generator, missed, chosen = np.random.default_rng(1), 0, 0
    logits, labels = calibrated(generator, 200_000)
    probabilities = softmax(logits, axis=1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    for _ in range(500):
        sample = generator.choice(len(labels), 200)
        threshold = choose_threshold(coverage_curve(confidence[sample], right[sample]), 0.8)
        if threshold is not None:
            chosen += 1
            missed += bool(right[confidence >= threshold.confidence].mean() < 0.8)
    assert chosen > 350 and missed <= 25
