"""Shifts to known shares of classes, against hand-worked values and a simulation whose shift is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from metakd.errors import InputError
from metakd.evaluation.class_shares import read_shares, share_shift
from metakd.evaluation.sections.shares import missed_shares, shares_table, with_known_shares
from metakd.evaluation.study_results import DomainResults, read_results
from tests.fake_study import write_study


def test_rows_without_information_by_hand() -> None:
    """Logits of 0 become log(0.8), log(0.2), less their mean: half of log 4 up and down."""
    assert share_shift(np.zeros((5, 2)), np.array([0.8, 0.2])) == pytest.approx([np.log(2), -np.log(2)], abs=1e-6)


def test_the_mean_probability_becomes_the_share() -> None:
    logits, shares = np.random.default_rng(0).normal(0, 3, (200, 3)), np.array([0.7, 0.2, 0.1])
    shift = share_shift(logits, shares)
    assert softmax(logits + shift, axis=1).mean(0) == pytest.approx(shares, abs=1e-6)
    assert shift.sum() == pytest.approx(0) and share_shift(logits + shift, shares) == pytest.approx(
        np.zeros(3), abs=1e-5
    )


def test_the_right_shares_undo_a_shift() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (50_000, 3))
    shares, shift = softmax(logits, axis=1).mean(0), np.array([1.0, 0.5, -1.5])
    assert share_shift(logits + shift, shares) == pytest.approx(-shift, abs=1e-5)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"negative": 0.5, "positve": 0.5}, "'positve' is no class.*did you mean 'positive'"),
        ({"negative": 1.0}, "has none of class \\['positive'\\]"),
        ({"negative": 0.5, "positive": 0.6}, "add up to 1.1; they must add up to 1"),
        ({"negative": 0.0, "positive": 1.0}, "'negative' is 0; it must be above 0"),
        ({"negative": 60, "positive": 40}, "'negative' is 60; it must be above 0 and below 1"),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_shares(shares, ["negative", "positive"])


def test_shares_are_ordered_by_class_and_add_up_to_1() -> None:
    assert read_shares({"c": 0.333, "b": 0.333, "a": 0.333}, ["a", "b", "c"]).sum() == pytest.approx(1)
    assert read_shares({"b": 0.6, "a": 0.4}, ["a", "b"]).tolist() == [0.4, 0.6]


def study_part(seed: int, labels: list[int], probabilities: list[list[float]]) -> DomainResults:
    cell = {"problem": "single_label", "rows": {"label": labels, "probabilities": probabilities}}
    return DomainResults([cell], [seed])


def test_known_shares_by_hand() -> None:
    """Class 1 has 3 of 4 rows and a mean probability of 1/2; the shift that mends this lifts 0.3 above 0.5, not 0.1."""
    part = study_part(1, [1, 1, 1, 0], [[0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.9, 0.1]])
    assert missed_shares(part) == pytest.approx(0.25)  # mean probability 0.5, share 0.75
    assert part.predictions.tolist() == [[0, 1, 1, 0]] and with_known_shares(part).tolist() == [[1, 1, 1, 0]]


def test_a_class_without_a_test_row_is_hardly_predicted() -> None:
    part = study_part(1, [0, 0, 1, 1], [[0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.2, 0.6, 0.2], [0.1, 0.5, 0.4]])
    assert with_known_shares(part).tolist() == [[0, 0, 1, 1]]


def test_a_method_that_lacks_a_domain_has_no_row(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    results = read_results(study)
    cells = [
        cell for cell in results.cells if (cell["cell"]["method"], cell["cell"]["domain"]) != ("tinybert", "films")
    ]
    _, rows, _ = shares_table(replace(results, cells=cells))
    assert [row[0] for row in rows] == ["metakd", "label_only", "no_domain_loss", "teacher of metakd"]


def test_a_table_of_a_study(tmp_path: Path) -> None:
    """Without any bias there is nothing to gain; the fake study's methods are as often wrong in both classes."""
    headers, rows, _ = shares_table(read_results(write_study(tmp_path)))
    assert headers[0] == "method" and [row[0] for row in rows][-1] == "teacher of metakd"
    by_name = {row[0]: row for row in rows}
    assert by_name["label_only"][1] == "3" and by_name["label_only"][3] == "80.0"
    assert {row[-1] for row in rows} <= {"not told apart", "better", "worse"}
    assert all(abs(float(row[5])) < 2 for row in rows)
