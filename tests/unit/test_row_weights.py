"""The weight of each row in a stage, and the prototype weights that are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from metakd.data.encoding import EncodedRows, encode
from metakd.data.labels import Labels, ProblemType
from metakd.data.tables import TRAINING, write_rows
from metakd.errors import InputError
from metakd.methods.stage import Stage, Term
from metakd.weighting.expertise import expertise_weights, prototype_weights
from metakd.weighting.row_weights import (
    balanced_weights,
    batch_means,
    check_prototype_weights,
    row_weights,
    shuffle_within_domains,
    teacher_weights,
)
from tests.conftest import make_rows, make_tokenizer

# Probabilities (1/2, 1/2), (0, 1) and (1/4, 3/4); the third row has no label.
LOGITS = np.array([[0.0, 0.0], [0.0, 1000.0], [0.0, np.log(3.0)]])
SCORES, LABELLED = np.array([0.2, 1.0, np.nan]), np.array([True, True, False])
# p(y) = 1/2: (1 + 0.2) / (1 + exp(0.25)). p(y) = 1: (1 + 1) / 2. The confidence 3/4 replaces p(y) and t.
EXPERTISE = [1.2 / (1 + np.exp(0.25)), 1.0, 1.75 / (1 + np.exp(0.0625))]


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    classes = np.array([2, 0, 0, 2, 2, 2, 5])
    assert balanced_weights(classes) == pytest.approx(compute_sample_weight("balanced", classes))
    assert [balanced_weights(classes)[classes == c].sum() for c in (0, 2, 5)] == pytest.approx([7 / 3] * 3)


def test_labelled_and_unlabelled_rows_are_balanced_by_themselves(rows: EncodedRows) -> None:
    # Labels 0, 1, 1, 1; the teacher gives the rows without label the classes 1, 0, 0.
    chosen = rows.select(np.array([0, 1, 1, 1, 2, 2, 2]))
    logits = np.array([[9.0, 0.0]] * 4 + [[0.0, 1.0], [2.0, 1.0], [3.0, 0.0]])
    weights = row_weights(stage("balanced"), chosen, logits, "single_label", 1)
    assert weights == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3, 1.5, 0.75, 0.75])


def test_expertise_by_hand() -> None:
    assert expertise_weights(SCORES, LOGITS, np.array([0, 1, 0]), LABELLED) == pytest.approx(EXPERTISE)
    assert prototype_weights(SCORES, LOGITS, LABELLED) == pytest.approx([0.2, 1.0, 0.75])


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    """Rows of the classes 0, 1 and none."""
    weights = {0: 0.2, 1: 1.0}
    table = [
        {**row, "label": "ab"[i] if i in weights else "", "weight": weights.get(i, "")}
        for i, row in enumerate(make_rows(3))
    ]
    write_rows(tmp_path / "table.tsv", table)
    return encode(
        tmp_path / "table.tsv", make_tokenizer(), 32, Labels(("a", "b")), ["books", "films", "phones"], TRAINING
    )


def stage(row_weight: Any) -> Stage:
    return Stage("prediction", [Term("logits", "kl")], 1, 1e-3, row_weight=row_weight, divide_by="rows")


@pytest.mark.parametrize(
    ("row_weight", "weights"),
    [
        ("uniform", [1, 1, 1]),
        ("prototype", [0.2, 1.0, 0.75]),
        ("balanced", [1, 1, 1]),
        ("expertise", EXPERTISE),
        ("expertise_easynlp", EXPERTISE),
    ],
)
def test_the_stage_says_how_rows_are_weighted(row_weight: str, weights: list[float], rows: EncodedRows) -> None:
    assert row_weights(stage(row_weight), rows, LOGITS, "single_label", 1) == pytest.approx(weights)


def test_prototype_weights_of_labelled_rows_need_no_teacher(rows: EncodedRows) -> None:
    assert row_weights(stage("balanced"), rows, None, "single_label", 1).tolist() == [1.0, 1.0, 1.0]
    assert row_weights(stage("prototype"), rows.select(np.array([1, 0])), None, "multi_label", 1).tolist() == [1.0, 0.2]


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_confidence_in_one_class_needs_a_single_label_task(problem: ProblemType, rows: EncodedRows) -> None:
    with pytest.raises(InputError, match=rf"stage prediction .*confidence.*{problem} task does not have"):
        row_weights(stage("prototype"), rows, LOGITS, problem, 1)


def test_weights_of_the_visible_labels_are_accepted(rows: EncodedRows) -> None:
    check_prototype_weights(rows, rows.labelled, "table.tsv")


@pytest.mark.parametrize(
    ("change", "used", "message"),
    [
        ({"weighted": False}, [True, True, False], r"table\.tsv has no weight column"),
        (
            {"weights": np.array([0.2, np.nan, np.nan])},
            [True, True, False],
            r"table\.tsv: row 2 has no weight \(1 rows",
        ),
        # A weight of a hidden label was computed with it, whether the row is used or not.
        (
            {"weights": np.array([0.2, 1.0, 0.5])},
            [True, False, False],
            r"table\.tsv: row 3 has a weight, but .* hidden",
        ),
    ],
)
def test_weights_that_are_missing_or_know_hidden_labels_are_refused(
    change: dict[str, Any], used: list[bool], message: str, rows: EncodedRows
) -> None:
    with pytest.raises(InputError, match=message):
        check_prototype_weights(replace(rows, **change), np.array(used), "table.tsv")


def test_a_row_that_is_not_used_may_lack_its_weight(rows: EncodedRows) -> None:
    partly = replace(rows, weights=np.array([0.2, np.nan, np.nan]))
    check_prototype_weights(partly, np.array([True, False, False]), "table.tsv")


def test_means_of_each_batch() -> None:
    weights = np.array([1.0, 2.0, 3.0, 10.0])
    assert batch_means(weights, [np.array([3, 0]), np.array([1, 2])]).tolist() == [5.5, 2.5, 2.5, 5.5]
    assert weights.tolist() == [1.0, 2.0, 3.0, 10.0]


def test_shuffled_weights_stay_in_their_domain() -> None:
    weights, domains = np.arange(60.0), np.arange(60) % 3
    shuffled = shuffle_within_domains(weights, domains, seed=1)
    for k in range(3):
        assert sorted(shuffled[domains == k]) == weights[domains == k].tolist()
    assert (shuffled == weights).mean() < 0.2 and weights.tolist() == list(range(60))
    assert np.array_equal(shuffle_within_domains(weights, domains, seed=1), shuffled)
    assert not np.array_equal(shuffle_within_domains(weights, domains, seed=2), shuffled)


def test_a_placebo_shuffles_the_weights_of_its_name(rows: EncodedRows) -> None:
    one_domain = replace(rows, domains=np.zeros(3, dtype=np.int64))
    for name, weights in (("prototype", [0.2, 1.0, 0.75]), ("expertise", EXPERTISE)):
        placebo = stage(f"shuffled_{name}")
        deals = [row_weights(placebo, one_domain, LOGITS, "single_label", seed) for seed in range(20)]
        assert all(sorted(deal) == pytest.approx(sorted(weights)) for deal in deals)
        assert len({tuple(deal) for deal in deals}) == 6  # all orders of three weights


def test_weights_of_a_teacher(rows: EncodedRows) -> None:
    labelled = replace(rows.select(np.array([0, 1])), domains=np.zeros(2, dtype=np.int64))
    assert teacher_weights("uniform", labelled, 1).tolist() == [1.0, 1.0]
    assert teacher_weights("prototype", labelled, 1).tolist() == [0.2, 1.0]
    deals = {tuple(teacher_weights("shuffled_prototype", labelled, seed)) for seed in range(9)}
    assert deals == {(0.2, 1.0), (1.0, 0.2)}
