"""What an exported file loses: hand-worked values, a numerical likelihood, and a simulation of the bound."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from metakd.export.gate import measure_loss, score, upper_bound


def test_a_loss_by_hand() -> None:
    model = np.array([[2.0, 0], [2, 0], [0, 2], [0, 2]])
    file = np.array([[2.0, 0], [0, 1], [0, 2], [0, 2]])
    loss = measure_loss(model, file, np.array([0, 0, 1, 0]))
    assert (loss.rows, loss.agreement, loss.accuracy, loss.points) == (4, 0.75, 0.5, 25.0)
    assert loss.largest_difference == 2.0 and loss.highest > 25


def test_no_differing_row_by_hand() -> None:
    z = 1.959964
    assert upper_bound(0, 0, 100, 0.975) == pytest.approx(z**2 / (100 + z**2), abs=1e-6)


@pytest.mark.parametrize(("worse", "better", "rows"), [(12, 2, 44), (3, 1, 200), (0, 2, 50)])
def test_the_statistic_against_a_numerical_likelihood(worse: int, better: int, rows: int) -> None:
    for difference in (0.05, 0.2, 0.4):

        def loss(share: float, difference: float = difference) -> float:  # share: where the file is better
            same = 1 - 2 * share - difference
            return -(
                worse * np.log(share + difference) + better * np.log(share) + (rows - worse - better) * np.log(same)
            )

        limit = (1 - difference) / 2
        share = minimize_scalar(loss, bounds=(1e-9, limit - 1e-9), method="bounded", options={"xatol": 1e-12}).x
        variance = rows * (2 * share + difference - difference**2)
        expected = (worse - better - rows * difference) / np.sqrt(variance)
        assert score(worse, better, rows, difference) == pytest.approx(expected, rel=1e-4)


def test_the_bound_holds_in_simulations() -> None:
    generator = np.random.default_rng(0)
    for worse, better in ((0.004, 0.002), (0.02, 0.01), (0.005, 0.0)):
        counts = generator.multinomial(800, [worse, better, 1 - worse - better], size=2000)
        missed = np.mean([upper_bound(int(w), int(b), 800) < worse - better for w, b, _ in counts])
        assert missed < 0.07, (worse, better, missed)
