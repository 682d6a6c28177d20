"""What must hold of a stage's objective, whatever the numbers are, and of a feature that somebody adds."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from metakd.data.encoding import Batch, EncodedRows, encode
from metakd.data.tables import TRAINING
from metakd.methods.stage import Schedule, Term
from metakd.models.attention import enable_reading
from metakd.models.domain_head import DomainHead
from metakd.models.pooling import masked_mean
from metakd.objectives import matches
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.features import FEATURES, Feature, FeatureValues, compute_features
from metakd.objectives.terms import bind, wanted_features
from metakd.training.runtime import start
from metakd.training.teacher_outputs import CachedTeacherOutputs
from metakd.training.teachers import Teacher
from tests.conftest import DOMAINS, LABELS, ROOT, make_tokenizer, tiny_config

MATCHES = [
    Term("embedding", "mse"), Term("hidden", "mse"), Term("hidden", "cosine"), Term("hidden", "gram_mse"),
    Term("cls", "mse"), Term("cls", "normalised_mse", layers="skip"), Term("attention_scores", "mse"),
    Term("attention_scores", "kl"), Term("attention_probabilities", "mse"),
    Term("query_key_relation", "kl", layers="final"), Term("value_relation", "kl", layers="final", heads=4),
    Term("transferable", "mse"), Term("logits", "kl", temperature=2.0), Term("logits", "reverse_kl"),
    Term("logits", "jensen_shannon", temperature=Schedule(4.0, 1.0)), Term("logits", "mse"), Term("logits", "cosine"),
]  # fmt: skip


@pytest.fixture
def rows(tables: dict[str, Path]) -> EncodedRows:
    return encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)


def classifier(layers: int = 4, width: int = 16) -> PreTrainedModel:
    torch.manual_seed(layers)
    model = AutoModelForSequenceClassification.from_config(tiny_config(layers=layers, width=width)).eval()
    enable_reading(model)
    return model


class Pair:
    """A teacher, and the objective of a student on some terms; by default the student is a copy of the teacher."""

    def __init__(self, terms: list[Term], student: PreTrainedModel | None = None) -> None:
        self.teacher, self.head = classifier(), DomainHead(16, 3)
        if student is None:
            student, student_head = copy.deepcopy(self.teacher), copy.deepcopy(self.head)
        else:
            student_head = DomainHead(student.config.hidden_size, 3)
        bound = bind(terms, self.teacher.config, student.config, "single_label")
        self.objective = DistillationObjective(student, bound, self.teacher.config, student_head)

    @torch.no_grad()
    def teacher_values(self, batch: Batch) -> FeatureValues:
        return compute_features(self.teacher, batch, wanted_features(self.objective.terms)[0], self.head)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective(batch, self.teacher_values(batch))


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(rows: EncodedRows) -> None:
    losses = Pair(MATCHES).losses(rows.batch(np.arange(6)))
    assert len(losses) == len(MATCHES)
    for name, values in losses.items():
        torch.testing.assert_close(values, torch.zeros(6), rtol=0, atol=1e-6, msg=name)


def test_a_row_has_the_same_losses_alone_and_in_a_padded_batch(rows: EncodedRows) -> None:
    pair = Pair(MATCHES, classifier(2, width=8))
    together = pair.losses(rows.batch(np.arange(6)))
    for i in range(6):
        for name, alone in pair.losses(rows.batch(np.array([i]))).items():
            assert alone[0] > 0, name
            torch.testing.assert_close(alone[0], together[name][i], rtol=1e-4, atol=1e-5, msg=name)


def test_projections_exist_where_the_widths_differ() -> None:
    assert set(Pair(MATCHES, classifier(2, width=8)).objective.projections) == {"hidden", "transferable"}
    assert not Pair(MATCHES, classifier(2)).objective.projections
    one_term = Pair([Term("hidden", "mse", projection="per_match")], classifier(2, width=8))
    shapes = {name: tuple(layer.weight.shape) for name, layer in one_term.objective.projections.items()}
    assert shapes == {"hidden-2-1": (16, 8), "hidden-4-2": (16, 8)}


def test_equal_projections_per_match_are_a_shared_one(rows: EncodedRows) -> None:
    batch, student = rows.batch(np.arange(6)), classifier(2, width=8)
    shared = Pair([Term("hidden", "mse")], student)
    per_match = Pair([Term("hidden", "mse", projection="per_match")], student)
    weights = shared.objective.projections["hidden"].state_dict()
    for layer in per_match.objective.projections.values():
        layer.load_state_dict(weights)
    expected, actual = shared.losses(batch)["hidden"], per_match.losses(batch)["hidden"]
    torch.testing.assert_close(actual, expected)
    # The shared one gets the sum of both gradients, and they differ.
    (gradient,) = torch.autograd.grad(expected.sum(), shared.objective.projections["hidden"].weight)
    parts = torch.autograd.grad(actual.sum(), [layer.weight for layer in per_match.objective.projections.values()])
    torch.testing.assert_close(parts[0] + parts[1], gradient)
    assert not torch.allclose(parts[0], parts[1])


@pytest.fixture
def mean_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new feature, added as experiments/methods/README.md shows it: one record."""
    text = (ROOT / "experiments/methods/README.md").read_text("utf-8")
    (entry,) = re.findall(r'```python\n("mean_state": .*?)```', text, re.DOTALL)
    names = {"Feature": Feature, "masked_mean": masked_mean, "matches": matches}
    monkeypatch.setitem(FEATURES, "mean_state", eval(f"{{{entry}}}", names)["mean_state"])


def test_a_new_feature_needs_nothing_but_its_record(rows: EncodedRows, tmp_path: Path, mean_state: None) -> None:
    student = classifier(2, width=8)
    pair, numbers = Pair([Term("mean_state", "mse", layers=[[3, 2]])], student), np.array([7, 0, 3])
    batch, projection = rows.batch(numbers), pair.objective.projections["hidden"]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    states = [model(**inputs, output_hidden_states=True).hidden_states for model in (pair.teacher, student)]
    for i, length in enumerate(batch["attention_mask"].sum(1)):
        teacher_mean, student_mean = states[0][3][i, :length].mean(0), states[1][2][i, :length].mean(0)
        expected = (projection(student_mean) - teacher_mean).square().mean()
        torch.testing.assert_close(pair.losses(batch)["mean_state"][i], expected, rtol=1e-4, atol=1e-6)
    teacher = Teacher("teacher", pair.teacher, make_tokenizer(), None, None, None)
    wanted = wanted_features(pair.objective.terms)[0]
    outputs = CachedTeacherOutputs(None, teacher, wanted, rows, tmp_path / "cache", 1e9, start("fp32"))
    outputs.start()
    assert outputs.cache is not None and outputs.cache.bytes == len(rows) * 16 * 4
    cached = pair.objective(batch, outputs(numbers, batch))
    torch.testing.assert_close(cached, pair.losses(batch), rtol=1e-4, atol=1e-6)
