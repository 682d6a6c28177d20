"""From the terms of a method file to losses: names, layers, what is refused, and what the log says of them."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from metakd.data.labels import ProblemType
from metakd.errors import InputError
from metakd.methods.method import Method
from metakd.methods.stage import Schedule, Stage, Term
from metakd.models.cnn_lstm import TextCNNConfig
from metakd.objectives import losses
from metakd.objectives.describe import layer_table, objective_line
from metakd.objectives.distillation import projection_name
from metakd.objectives.features import FeatureValues
from metakd.objectives.terms import BoundTerm, bind, term_loss, wanted_features
from tests.conftest import method_file, read_yaml, tiny_config

TEACHER, STUDENT = tiny_config(layers=4), tiny_config(layers=2)
CNN = TextCNNConfig(vocab_size=25)
GROUPED = tiny_config()
GROUPED.num_key_value_heads = 1  # both heads share their keys


def shipped_stages(name: str) -> list[tuple[Stage, list[BoundTerm]]]:
    method = read_yaml(method_file(name), Method)
    return [(stage, bind(stage.terms, TEACHER, STUDENT, "single_label")) for stage in method.stages]


def test_terms_have_unique_names_and_resolved_layers() -> None:
    terms = [
        Term("hidden", "mse"),
        Term("hidden", "cosine", layers=[[3, 1], [0, 0]]),
        Term("embedding", "mse"),
        Term("label"),
    ]
    bound = bind(terms, TEACHER, STUDENT, "single_label")
    assert [(b.name, b.loss, b.pairs) for b in bound] == [
        ("hidden", "mse", [(2, 1), (4, 2)]),
        ("hidden_1", "cosine", [(3, 1), (0, 0)]),
        ("embedding", "mse", [(0, 0)]),
        ("label", "cross_entropy", []),
    ]
    assert wanted_features(bound) == (
        [("hidden", 2), ("hidden", 4), ("hidden", 3), ("hidden", 0), ("embedding", 0)],
        [("hidden", 1), ("hidden", 2), ("hidden", 0), ("embedding", 0)],
    )


@pytest.mark.parametrize(
    ("problem", "loss", "function"),
    [
        ("single_label", "soft_cross_entropy", losses.soft_cross_entropy),
        ("single_label", "kl", losses.kl_divergence),
        ("single_label", "reverse_kl", losses.reverse_kl),
        ("single_label", "jensen_shannon", losses.jensen_shannon),
        ("single_label", "mse", losses.logits_mse),
        ("single_label", "cosine", losses.logits_cosine),
        ("multi_label", "soft_cross_entropy", losses.soft_binary_cross_entropy),
        ("multi_label", "kl", losses.binary_kl),
        ("multi_label", "mse", losses.logits_mse),
        ("regression", "mse", losses.logits_mse),
    ],
)
def test_the_loss_of_logits_follows_the_problem_and_the_temperature(problem: ProblemType, loss: str, function) -> None:
    student, teacher = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]])
    (bound,) = bind([Term("logits", loss, temperature=Schedule(4.0, 2.0))], None, STUDENT, problem)

    def at(progress: float) -> Tensor:
        return term_loss(bound, FeatureValues(student), FeatureValues(teacher), {}, progress, lambda *_: student)

    temperatures = [(4.0,), (3.0,), (2.0,)] if bound.takes_temperature else [(), (), ()]
    for progress, temperature in zip((0.0, 0.5, 1.0), temperatures, strict=True):
        torch.testing.assert_close(at(progress), function(student, teacher, *temperature))
    assert bound.takes_temperature == (loss not in ("mse", "cosine"))


@pytest.mark.parametrize(
    ("problem", "loss", "label", "expected"),
    [
        ("single_label", "cross_entropy", torch.tensor([1]), 1.3133),
        ("multi_label", "binary_cross_entropy", torch.tensor([[0, 1]]), 1.0032),
        ("regression", "squared_error", torch.tensor([3.0]), 4.0),
    ],
)
def test_the_label_loss_follows_the_problem(problem: ProblemType, loss: str, label: Tensor, expected: float) -> None:
    """-ln 1/(1 + e); the mean of ln(1 + e) and ln 2; 2^2."""
    (bound,) = bind([Term("label")], None, STUDENT, problem)
    logits = torch.tensor([[1.0]] if problem == "regression" else [[1.0, 0.0]])
    values = term_loss(bound, FeatureValues(logits), FeatureValues(None), {"label": label}, 0.0, lambda *_: logits)
    assert bound.loss == loss and values.tolist() == pytest.approx([expected], abs=1e-4)


def test_a_match_is_a_sum_over_layers_through_the_projection_of_each_pair() -> None:
    (bound,) = bind([Term("hidden", "mse")], TEACHER, STUDENT, "single_label")
    ones = torch.ones(1, 2, 3)
    student, teacher = (
        FeatureValues(None, {("hidden", s): s * ones for s in (1, 2)}),
        FeatureValues(None, {("hidden", t): t * ones for t in (2, 4)}),
    )
    batch = {"attention_mask": torch.ones(1, 2, dtype=torch.long)}

    def project(values: Tensor, bound: BoundTerm, pair: tuple[int, int]) -> Tensor:
        return values + 10 * pair[0]

    # Layer 1 + 20 against 2, layer 2 + 40 against 4.
    assert term_loss(bound, student, teacher, batch, 0.0, project).tolist() == [19**2 + 38**2]


def test_projections_are_shared_or_one_per_match() -> None:
    per_match = Term("hidden", "mse", projection="per_match")
    terms = [Term("embedding", "mse"), Term("hidden", "mse"), Term("cls", "mse"), per_match, Term("hidden", "gram_mse")]
    terms += [Term("attention_scores", "mse"), Term("transferable", "mse")]
    names = [[projection_name(b, pair) for pair in b.pairs] for b in bind(terms, TEACHER, STUDENT, "single_label")]
    shared = ["hidden", "hidden"]
    assert names == [["hidden"], shared, shared, ["hidden_3-2-1", "hidden_3-4-2"], ["", ""], ["", ""], ["transferable"]]


@pytest.mark.parametrize(
    ("term", "problem", "message"),
    [
        (Term("hiden", "mse"), "single_label", r"feature 'hiden' is not among .*did you mean 'hidden'"),
        (Term("hidden", "mes"), "single_label", r"'mes' does not fit feature 'hidden'; .*did you mean 'mse'"),
        (Term("attention_probabilities", "kl"), "single_label", r"'kl' does not fit .* it has \['mse'\]"),
        (Term("logits", "cosine"), "multi_label", r"'cosine' .* of a multi_label task.* mse of logits fit every task"),
        (Term("logits", "kl"), "regression", r"'kl' .* of a regression task; it has \['mse'\]"),
        (Term("label", "mse"), "single_label", r"'mse' does not fit feature 'label' .* it has \['cross_entropy'\]"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(term: Term, problem: ProblemType, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bind([term], TEACHER, STUDENT, problem)


RELATIONS = Term("value_relation", "kl")


@pytest.mark.parametrize(
    ("term", "teacher", "student", "message"),
    [
        (Term("cls", "mse"), TEACHER, CNN, "the student is a .*text_cnn, .* no cls; .* hidden, transferable, logits"),
        (Term("embedding", "mse"), CNN, STUDENT, "the teacher is a .*text_cnn, which has no embedding"),
        (Term("hidden", "mse", layers=[[0, 0]]), TEACHER, CNN, r"\[0, 0\] is out of range"),
        (RELATIONS, GROUPED, STUDENT, "the teacher is a bert, which has no value_relation"),
        (RELATIONS, tiny_config(heads=4), tiny_config(width=6), r"4 .* not divide the widths 16 .* 6 .* \[1, 2\]"),
        (Term("value_relation", "kl", heads=3), TEACHER, STUDENT, r"3 .* the widths 16 .* \[1, 2, 4, 8, 16\]"),
    ],
)
def test_a_model_that_does_not_show_a_feature_is_refused(
    term: Term, teacher: PreTrainedConfig, student: PreTrainedConfig, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        bind([term], teacher, student, "single_label")


def test_the_objective_in_words() -> None:
    intermediate, prediction = (objective_line(terms, stage, False) for stage, terms in shipped_stages("metakd"))
    assert intermediate == (
        "sum over rows of expertise x (embedding/mse + hidden/mse 2-1 4-2 + attention_scores/mse 2-1 4-2 + "
        "0.5 transferable/mse) / sum of expertise"
    )
    assert prediction == "sum over rows of expertise x (logits/soft_cross_entropy T=2) / sum of expertise"
    easynlp = shipped_stages("metakd_easynlp")[0]
    assert objective_line(easynlp[1], easynlp[0], False).endswith("0.5 transferable/mse) / number of rows")
    stage = Stage("s", [Term("label", scale=0.2), Term("logits", "kl", temperature=Schedule(4, 1))], 1, 1e-3)
    terms = bind(stage.terms, None, STUDENT, "single_label")
    assert objective_line(terms, stage, True) == (
        "mean over rows of 0.2 label/cross_entropy of labelled rows + logits/kl T=4->1"
    )
    assert "of labelled rows" not in objective_line(terms, stage, False)


def test_the_table_of_layers() -> None:
    (_, terms), (_, prediction) = shipped_stages("metakd")
    lines = [line.split() for line in layer_table(terms, 2).splitlines()]
    assert lines == [
        ["student", "layer", "embedding", "hidden", "attention_scores"], ["0", "0", "-", "-"], ["1", "-", "2", "2"],
        ["2", "-", "4", "4"],
    ]  # fmt: skip
    assert layer_table(prediction, 2) == ""
