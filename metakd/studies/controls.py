"""Cheap controls: the most frequent class, and logistic regressions on words and on frozen embeddings.

A comparison of distilled students means little where one of these does as well.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from metakd.data.few_labels import visible_labels
from metakd.data.formats import Row
from metakd.data.labels import Labels, SelectBy

FittedControl = Literal["majority", "tfidf", "embeddings"]
LabelledInputs = tuple[np.ndarray, np.ndarray]  # texts (object [n]) or vectors [n, D]; class numbers [n]
# C of the logistic regressions: what is tried on dev, and what is taken where dev labels are hidden.
PENALTIES, DEFAULT_PENALTY = (0.01, 0.1, 1.0, 10.0, 100.0), 1.0


class TextInputs:
    """Inputs of a control that reads words: the texts of rows, a pair as one text."""

    parameters, threads, device = 0, 1, "cpu"

    def training(self, rows: list[Row], numbers: np.ndarray) -> np.ndarray:
        """Texts of the training table's rows with these numbers; object [n]."""
        return self.prepare("", rows, numbers)

    def prepare(self, table: str, rows: list[Row], numbers: np.ndarray) -> np.ndarray:
        """What `compute` takes, of a table's rows with these numbers."""
        pairs = [(rows[i]["text_a"], rows[i]["text_b"]) for i in numbers]
        return np.array([" ".join(filter(None, pair)) for pair in pairs], dtype=object)

    def compute(self, prepared: np.ndarray) -> np.ndarray:
        """Inputs of the classifier."""
        return prepared


def training_rows(rows: list[Row], domain: str, fraction: float, seed: int) -> np.ndarray:
    """Numbers of the rows that a control is fitted on: the domain's with visible label, which a student sees too.

    Where the fraction hides all of them: the labelled rows of the other domains.
    """
    numbers = np.array([i for i, row in enumerate(rows) if row["domain"] == domain and row["label"]], dtype=int)
    guids, labels = [rows[i]["guid"] for i in numbers], [rows[i]["label"] for i in numbers]
    visible = numbers[visible_labels(guids, labels, fraction, seed)]
    if len(visible):
        return visible
    return np.array([i for i, row in enumerate(rows) if row["domain"] != domain and row["label"]], dtype=int)


def fit_control(
    control: FittedControl, train: LabelledInputs, dev: LabelledInputs | None, select_by: SelectBy | None = None
) -> tuple[Any, str]:
    """A fitted scikit-learn classifier, and how it was fitted in words.

    Args:
        dev: rows that the penalty is chosen on; of equal scores the stronger one. None where their labels are hidden.
        select_by: the dev score, see `metakd.config.Task`.
    """
    from metakd.evaluation.metrics import headline

    classes = len(np.unique(train[1]))
    if control == "majority":
        return unfitted(control, DEFAULT_PENALTY, classes).fit(*train), "frequencies of the training labels"
    penalties = (DEFAULT_PENALTY,) if dev is None else PENALTIES
    models = {c: unfitted(control, c, classes).fit(*train) for c in penalties}
    if dev is None:
        return models[DEFAULT_PENALTY], f"logistic regression, C = {DEFAULT_PENALTY:g}, since dev labels are hidden too"
    inputs, labels = dev
    scores = {c: headline(model.predict(inputs), labels, "single_label", select_by) for c, model in models.items()}
    best = max(scores, key=lambda c: scores[c])
    return models[best], f"logistic regression, C = {best:g}, chosen on dev"


def unfitted(control: FittedControl, penalty: float, classes: int) -> Any:
    """A scikit-learn pipeline from texts or vectors to classes; constant where the training rows have one class."""
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if control == "majority" or classes == 1:
        return make_pipeline(DummyClassifier(strategy="prior"))
    features = StandardScaler()
    if control == "tfidf":  # words, pairs of words, and punctuation, which says much about sentiment
        features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    return make_pipeline(features, LogisticRegression(C=penalty, max_iter=2000))


def class_probabilities(model: Any, inputs: np.ndarray, labels: Labels) -> np.ndarray:
    """Probabilities [n, C] of a fitted control; 0 for a class without training row."""
    probabilities = np.zeros((len(inputs), len(labels.names)))
    probabilities[:, model.classes_] = model.predict_proba(inputs)
    return probabilities


def parameter_count(model: Any) -> int:
    """How many numbers a fitted control was fitted with."""
    names = ("coef_", "intercept_", "idf_", "mean_", "scale_", "class_prior_")
    return sum(int(np.size(getattr(part, name, []))) for _, part in model.steps for name in names)
