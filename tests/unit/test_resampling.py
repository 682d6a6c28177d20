"""Measures on resampled rows, against values worked by hand, scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from metakd.errors import InputError
from metakd.evaluation.resampling import (
    Measure,
    SeedScores,
    bootstrap,
    macro_average,
    macro_f1,
    micro_f1,
    row_mean,
    spearman,
)


def shares_of(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(1, keepdims=True)


def test_row_mean_by_hand() -> None:
    """Row 2 drawn twice, row 0 never: seed 0 scores (0 + 1 + 1) / 3, seed 1 scores 0."""
    measure = row_mean(np.array([[1, 0, 1], [1, 0, 0]]))
    assert (measure.seeds, measure.rows) == (2, 3)
    assert measure.score(shares_of(np.array([[0, 1, 2]]))) == pytest.approx(np.array([[2 / 3, 0.0]]))


def test_macro_f1_by_hand() -> None:
    """Class 0: 2 hits of 3 predicted and 2 labelled, F1 0.8. Class 1: 1 hit of 1 and 2, F1 2/3. No class 2 drawn."""
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([[0, 0, 0, 1, 2]])
    shares = shares_of(np.array([[1, 1, 1, 1, 0], [0, 0, 1, 0, 0]]))
    assert macro_f1(predicted, labels).score(shares)[:, 0] == pytest.approx([(0.8 + 2 / 3) / 2, 0.0])


def draw_counts(rows: int) -> np.ndarray:
    return np.random.default_rng(4).multinomial(rows, np.full(rows, 1 / rows), size=20)


def test_macro_f1_of_resamples_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 12), generator.integers(0, 4, (3, 12))
    counts = draw_counts(12)
    scores = macro_f1(predicted, labels).score(shares_of(counts))
    for count, by_seed in zip(counts, scores, strict=True):
        rows = np.repeat(np.arange(12), count)
        expected = [f1_score(labels[rows], one[rows], average="macro", zero_division=0.0) for one in predicted]
        assert by_seed == pytest.approx(expected)


@pytest.mark.parametrize(("measure", "average"), [(macro_f1, "macro"), (micro_f1, "micro")])
def test_multi_label_f1_of_resamples_against_scikit_learn(measure: object, average: str) -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random((12, 3)) < 0.3).astype(np.float32)
    predicted = (generator.random((2, 12, 3)) < 0.4).astype(np.float32)
    counts = draw_counts(12)
    scores = measure(predicted, labels).score(shares_of(counts))  # type: ignore[operator]
    for count, by_seed in zip(counts, scores, strict=True):
        rows = np.repeat(np.arange(12), count)
        expected = [f1_score(labels[rows], one[rows], average=average, zero_division=0.0) for one in predicted]
        assert by_seed == pytest.approx(expected)


def test_spearman_of_resamples_against_scipy() -> None:
    generator = np.random.default_rng(2)
    labels, predicted = generator.integers(0, 5, 12).astype(float), generator.normal(size=(2, 12)).round(1)
    counts = draw_counts(12)
    scores = spearman(predicted, labels).score(shares_of(counts))
    for count, by_seed in zip(counts, scores, strict=True):
        rows = np.repeat(np.arange(12), count)
        assert by_seed == pytest.approx([spearmanr(one[rows], labels[rows]).statistic for one in predicted])
    assert spearman(np.ones((1, 12)), labels).score(shares_of(counts)).tolist() == [[0.0]] * 20


def right_rows(generator: np.random.Generator, seeds: int = 3, rows: int = 40) -> Measure:
    return row_mean(generator.random((seeds, rows)) < 0.8)


def test_bootstrap_has_the_variance_of_a_mean() -> None:
    """1, 1, 0, 0: variance 1/4, of the mean of four 1/16. The second seed is right where the first is wrong."""
    scores = bootstrap({"method": {"books": row_mean(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]))}})["method"]["books"]
    assert scores.scores.tolist() == [0.5, 0.5] and scores.resampled.shape == (10_000, 2)
    assert np.cov(scores.resampled.T) == pytest.approx(np.array([[1, -1], [-1, 1]]) / 16, rel=0.05)


def test_methods_share_resamples_and_domains_do_not() -> None:
    generator = np.random.default_rng(0)
    measures = {"one": {"books": right_rows(generator), "films": right_rows(generator)}}
    measures["other"] = {"books": measures["one"]["books"], "films": measures["one"]["books"]}
    table = bootstrap(measures, resamples=50)
    assert not (table["one"]["books"] - table["other"]["books"]).resampled.any()
    assert (table["other"]["books"] - table["other"]["films"]).resampled.any()
    alone = bootstrap({"other": measures["other"]}, resamples=50)["other"]["films"]
    assert np.array_equal(alone.resampled, table["other"]["films"].resampled)


def test_bootstrap_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    measures = {"one": {"books": right_rows(np.random.default_rng(0))}}
    whole = bootstrap(measures, resamples=50)["one"]["books"].resampled
    monkeypatch.setattr("metakd.evaluation.resampling.DRAWN_AT_ONCE", 7 * 40)
    assert bootstrap(measures, resamples=50)["one"]["books"].resampled == pytest.approx(whole)


def test_methods_on_different_rows_are_refused() -> None:
    generator = np.random.default_rng(0)
    first = {"books": right_rows(generator), "films": right_rows(generator)}
    with pytest.raises(InputError, match=r"one has results in the domains .*'books', 'films'.*other in .*'books'"):
        bootstrap({"one": first, "other": {"books": first["books"]}})
    with pytest.raises(InputError, match=r"domain 'films': one has \(seeds, rows\) \(3, 40\), other has \(2, 40\)"):
        bootstrap({"one": first, "other": {**first, "films": right_rows(generator, seeds=2)}})
    with pytest.raises(InputError, match=r"different numbers of seeds, \{'books': 1, 'films': 2\}"):
        macro_average(
            {
                "books": SeedScores(np.zeros(1), np.zeros((9, 1)), 5),
                "films": SeedScores(np.zeros(2), np.zeros((9, 2)), 5),
            }
        )


def test_macro_average_by_hand() -> None:
    books = SeedScores(np.array([0.5, 0.7]), np.array([[0.4, 0.8]]), 10)
    films = SeedScores(np.array([0.9, 0.7]), np.array([[1.0, 0.6]]), 30)
    average = macro_average({"books": books, "films": films})
    assert average.scores == pytest.approx([0.7, 0.7]) and average.resampled == pytest.approx(np.array([[0.7, 0.7]]))
    assert average.rows == 40
