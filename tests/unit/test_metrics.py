import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from metakd.config import Task
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.evaluation.metrics import (
    SCORES,
    agreement,
    baseline,
    classification_scores,
    headline,
    headline_by_domain,
    scores_by_domain,
)


def test_classification_scores_by_hand() -> None:
    scores = classification_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b"])
    assert scores["rows"] == 4 and scores["accuracy"] == 0.75 and scores["majority"] == 0.75
    # a: predicted twice, right once. b: predicted twice, right twice, and missed once.
    assert scores["classes"] == {
        "a": {"rows": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)},
        "b": {"rows": 3, "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8)},
    }
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)


def test_macro_f1_leaves_out_a_class_that_never_occurs() -> None:
    scores = classification_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b", "never"])
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert scores["classes"]["never"] == {"rows": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_wilson_interval_against_its_published_example() -> None:
    """81 of 263: 25.5 % to 36.6 % (Newcombe 1998, Statistics in Medicine 17, table I, method 3)."""
    predicted = np.array([1] * 81 + [0] * 182)
    interval = classification_scores(predicted, np.ones(263, dtype=int), ["a", "b"])["accuracy_95"]
    assert interval == pytest.approx([0.2553, 0.3662], abs=5e-5)


def test_multi_label_scores_by_hand() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32)
    predicted = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    scores = SCORES["multi_label"](predicted, labels, ["always right", "always wrong", "never"])
    # 2 true positives, 1 false positive, 2 false negatives.
    assert scores["micro_f1"] == headline(predicted, labels, "multi_label") == pytest.approx(4 / 7)
    assert scores["classes"] == {
        "always right": {"rows": 2, "f1": 1.0},
        "always wrong": {"rows": 2, "f1": 0.0},
        "never": {"rows": 0, "f1": 0.0},
    }
    assert scores["macro_f1"] == pytest.approx(1 / 3)
    assert scores["all_right"] == 0.25  # the last row


def test_multi_label_scores_of_one_class_and_of_a_domain_without_labels() -> None:
    labels, predicted = np.array([[1.0], [0.0], [1.0]]), np.array([[1.0], [1.0], [0.0]])
    scores = SCORES["multi_label"](predicted, labels, ["only"])
    assert scores["micro_f1"] == scores["macro_f1"] == pytest.approx(0.5)
    assert headline(predicted, np.zeros((3, 1)), "multi_label") == 0.0
    assert headline(np.zeros((3, 1)), np.zeros((3, 1)), "multi_label") == 0.0


def test_multi_label_scores_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels, predicted = (generator.random((50, 4)) < share for share in (0.3, 0.4))
    scores = SCORES["multi_label"](predicted.astype(np.float32), labels.astype(np.float32), list("abcd"))
    assert scores["micro_f1"] == pytest.approx(f1_score(labels, predicted, average="micro"))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert scores["all_right"] == pytest.approx(accuracy_score(labels, predicted))


def test_regression_scores_by_hand() -> None:
    predicted, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 3.0, 6.0])
    scores = SCORES["regression"](predicted, labels, ["score"])
    assert scores["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # two neighbours change ranks
    assert scores["pearson"] == pytest.approx(7 / 70**0.5)  # covariance 7; sums of squares 5 and 14
    assert scores["rmse"] == pytest.approx(1.5**0.5)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_constant_has_no_correlation(rows: int) -> None:
    assert headline(np.ones(rows), np.arange(rows, dtype=float), "regression") == 0.0


def test_baseline_is_a_mean_over_domains() -> None:
    labels, domains = np.array([0, 0, 0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    assert baseline(labels, domains, "single_label") == (0.75 + 0.5) / 2
    several = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    # All classes everywhere: 3 of 4 right in domain 0, 1 of 4 in domain 1.
    assert baseline(several, np.array([0, 0, 1, 1]), "multi_label") == pytest.approx((6 / 7 + 2 / 5) / 2)
    assert baseline(np.array([1.0, 2.0]), np.zeros(2), "regression") == 0.0


def test_agreement_by_hand() -> None:
    assert agreement(np.array([0, 1, 1]), np.array([0, 1, 0]), "single_label") == pytest.approx(2 / 3)
    assert agreement(np.eye(2), np.array([[1.0, 0.0], [1.0, 1.0]]), "multi_label") == 0.5
    assert agreement(np.array([1.0, 2.0, 4.0]), np.array([-2.0, -3.0, -5.0]), "regression") == pytest.approx(-1.0)


def test_scores_by_domain_leave_out_domains_without_rows() -> None:
    predicted, labels = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])
    domains, names = np.array([0, 0, 2, 2]), ["books", "films", "phones"]
    scores = scores_by_domain(predicted, labels, domains, Labels(("bad", "good")), names)
    assert scores["accuracy"] == 0.5
    assert {name: values["accuracy"] for name, values in scores["domains"].items()} == {"books": 1.0, "phones": 0.0}
    assert headline_by_domain(predicted, labels, domains, names, "single_label") == {"books": 1.0, "phones": 0.0}


def test_epochs_are_chosen_by_macro_f1_where_a_task_says_so() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    constant, balanced = np.zeros(10, dtype=int), np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert headline(constant, labels, "single_label") == 0.8 > headline(balanced, labels, "single_label") == 0.7
    # By hand: F1 of the classes 16/18 and 0, and 10/13 and 4/7.
    assert headline(constant, labels, "single_label", "macro_f1") == pytest.approx(8 / 18)
    assert headline(balanced, labels, "single_label", "macro_f1") == pytest.approx((10 / 13 + 4 / 7) / 2)
    assert baseline(labels, np.zeros(10), "single_label", "macro_f1") == pytest.approx(8 / 18)
    several = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert headline(np.ones((2, 2)), several, "multi_label", "macro_f1") == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(InputError, match=r"task\.select_by is accuracy, which a regression task"):
        Task("a", "b", "c", "t", "s", problem="regression", select_by="accuracy")
    with pytest.raises(InputError, match=r"task\.select_by is macro_f1, but a regression"):
        Task("a", "b", "c", "t", "s", problem="regression", select_by="macro_f1")
    assert "select_by" not in Task("a", "b", "c", "t", "s").settings()  # earlier results stay finished
