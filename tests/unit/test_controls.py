"""Controls and placebos that a comparison needs beside its methods."""

from dataclasses import replace

import numpy as np
import pytest

from metakd.data.encoding import EncodedRows, encode
from metakd.data.few_labels import hide_labels
from metakd.data.labels import Labels
from metakd.data.tables import TRAINING, read_rows
from metakd.methods.stage import Stage, Term
from metakd.studies.controls import TextInputs, class_probabilities, fit_control, training_rows
from metakd.weighting.row_weights import row_weights, shuffle_within_domains
from tests.conftest import DOMAINS, LABELS, META, Tables, make_teacher_job, make_tokenizer


@pytest.fixture
def rows(tables: Tables) -> EncodedRows:
    """48 rows of three domains with random weights."""
    return encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)


def test_a_control_sees_the_labels_that_a_student_sees(tables: Tables, rows: EncodedRows) -> None:
    table, films = list(read_rows(tables["train"])), rows.domains == 1
    for fraction in (0.3, 1.0):
        of_student = films & hide_labels(rows, films, fraction, 5, "single_label").labelled
        assert training_rows(table, "films", fraction, 5).tolist() == np.flatnonzero(of_student).tolist()
    # No label of the domain is visible: the rows of the others.
    assert training_rows(table, "films", 0.0, 5).tolist() == np.flatnonzero(~films).tolist()


def test_the_penalty_is_chosen_on_dev() -> None:
    # 30 noisy inputs of 40 rows: a weak penalty learns the rows by heart, a strong one does better on other rows.
    generator, labels = np.random.default_rng(0), np.arange(240) % 2
    inputs = generator.normal(0, 1, (240, 30)) + 0.3 * labels[:, None]
    train, others = (inputs[:40], labels[:40]), (inputs[40:], labels[40:])
    penalty = {}
    for name, dev in {"train": train, "others": others}.items():
        _, how = fit_control("embeddings", train, dev)
        penalty[name] = float(how.split("C = ")[1].partition(",")[0])
    assert penalty["others"] < 1 <= penalty["train"]
    assert "C = 1, since dev labels are hidden" in fit_control("embeddings", train, None)[1]


def test_controls_learn_what_they_can(tables: Tables) -> None:
    labels, rows = Labels(("absent", "negative", "positive")), list(read_rows(tables["train"]))
    numbers = np.arange(len(rows))
    train = TextInputs().training(rows, numbers), labels.targets([row["label"] for row in rows])
    majority, _ = fit_control("majority", (train[0][:3], np.array([1, 1, 2])), None)
    assert class_probabilities(majority, train[0][:2], labels) == pytest.approx(np.array([[0, 2 / 3, 1 / 3]] * 2))
    words, _ = fit_control("tfidf", train, train)
    probabilities = class_probabilities(words, train[0], labels)
    assert (probabilities.argmax(1) == train[1]).mean() > 0.95 and (probabilities[:, 0] == 0).all()
    constant, _ = fit_control("tfidf", (train[0][:2], np.array([2, 2])), None)
    assert class_probabilities(constant, train[0][:1], labels).tolist() == [[0, 0, 1]]


def test_the_texts_of_a_pair_are_one_input() -> None:
    rows = [{"text_a": "a film", "text_b": ""}, {"text_a": "a plot", "text_b": "a pan"}]
    assert TextInputs().training(rows, np.array([1, 0])).tolist() == ["a plot a pan", "a film"]


def test_shuffled_weights_stay_in_their_domain() -> None:
    weights, domains = np.arange(60.0), np.arange(60) % 3
    shuffled = shuffle_within_domains(weights, domains, 1)
    for domain in range(3):
        assert sorted(shuffled[domains == domain]) == sorted(weights[domains == domain])
    assert (shuffled != weights).mean() > 0.8 and (weights == np.arange(60.0)).all()
    assert (shuffle_within_domains(weights, domains, 1) == shuffled).all()
    assert (shuffle_within_domains(weights, domains, 2) != shuffled).any()


def test_a_shuffled_teacher_shuffles_the_weights_of_the_label_loss_alone(rows: EncodedRows) -> None:
    recipe = replace(META, row_weight="shuffled_prototype", domain_row_weight="prototype")
    weights = make_teacher_job(rows, recipe).weights
    assert weights["label"].tolist() == shuffle_within_domains(rows.weights, rows.domains, 1).tolist()
    assert weights["domain"].tolist() == rows.weights.tolist()


def test_a_shuffled_stage_shuffles_the_weights_of_the_stage(rows: EncodedRows) -> None:
    logits = np.random.default_rng(0).normal(size=(len(rows), 2))
    for name in ("prototype", "expertise"):
        weights, shuffled = (
            row_weights(Stage("s", [Term("logits", "kl")], 1, 1.0, row_weight=kind), rows, logits, "single_label", 7)
            for kind in (name, f"shuffled_{name}")
        )
        assert shuffled.tolist() == shuffle_within_domains(weights, rows.domains, 7).tolist() != weights.tolist()
