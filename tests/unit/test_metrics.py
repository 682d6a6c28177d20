import numpy as np
import pytest
from sklearn.metrics import f1_score

from metakd.evaluation.metrics import SCORES, agreement, baseline, classification_scores, headline


def test_majority_is_averaged_over_domains() -> None:
    labels, domains = np.array([0, 0, 0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    assert baseline(labels, domains, "single_label") == (0.75 + 0.5) / 2


def test_scores_by_hand() -> None:
    found = classification_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b"])
    assert found["accuracy"] == 0.75 and found["majority"] == 0.75
    assert found["classes"]["a"] == {"rows": 1, "precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert abs(found["macro_f1"] - (2 / 3 + 0.8) / 2) < 1e-12
    # Wilson: (p + z^2/2n +- z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2/n)
    z, n, p = 1.959964, 4, 0.75
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    wanted = [(p + z * z / (2 * n) + sign * half) / (1 + z * z / n) for sign in (-1, 1)]
    assert np.allclose(found["accuracy_95"], wanted, atol=1e-5)


@pytest.mark.parametrize("classes", [1, 4])
def test_multi_label_scores_against_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(0)
    labels, predicted = (generator.random((50, classes)) < share for share in (0.3, 0.4))
    labels[:, 0] = False
    labels[7, 0], predicted[:, 0] = True, False  # a class that occurs and is never predicted
    one, other = predicted.astype(np.float32), labels.astype(np.float32)
    found = SCORES["multi_label"](one, other, [f"c{i}" for i in range(classes)])
    by_class = [f1_score(labels[:, i], predicted[:, i], zero_division=0.0) for i in range(classes)]
    assert [found["classes"][f"c{i}"]["f1"] for i in range(classes)] == pytest.approx(by_class)
    assert found["macro_f1"] == pytest.approx(np.mean(by_class)) and by_class[0] == 0
    wanted = f1_score(labels.ravel(), predicted.ravel(), zero_division=0.0)
    assert found["micro_f1"] == headline(one, other, "multi_label") == pytest.approx(wanted)
    assert found["all_right"] == (predicted == labels).all(1).mean()


def test_regression_scores_and_agreement_by_hand() -> None:
    predicted, labels = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 5.0])
    found = SCORES["regression"](predicted, labels, ["score"])
    assert (found["spearman"], found["rmse"]) == (pytest.approx(1.0), 1.0)
    assert headline(np.ones(3), labels, "regression") == baseline(labels, np.zeros(3), "regression") == 0.0
    assert agreement(predicted, -labels, "regression") == pytest.approx(-1.0)
    assert agreement(np.array([0, 1, 1]), np.array([0, 1, 0]), "single_label") == pytest.approx(2 / 3)
    assert agreement(np.eye(2), np.array([[1.0, 0.0], [1.0, 1.0]]), "multi_label") == 0.5
