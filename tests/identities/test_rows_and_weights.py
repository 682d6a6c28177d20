"""What must hold of the objective and the loop whatever the numbers are."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from metakd.config import MetaTeacher, Training
from metakd.data.encoding import EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.tables import write_rows
from metakd.methods import Schedule, Term
from metakd.models.domain_head import DomainHead
from metakd.models.views import view
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.terms import bind, needs
from metakd.training.loop import fit, train_step
from metakd.training.problems import MetaTeacherProblem
from metakd.training.runtime import start
from tests.conftest import make_rows, make_tokenizer, tiny_config

LABELS = Labels(("negative", "positive"))
ALL_TERMS = [
    Term("embedding", "mse"), Term("hidden", "mse"), Term("hidden", "cosine"), Term("hidden", "gram_mse"),
    Term("cls", "normalised_mse", layers="skip"), Term("attention_scores", "mse"),
    Term("attention_probabilities", "mse"), Term("attention_probabilities", "kl"),
    Term("query_key_relation", "kl", layers="final"), Term("value_relation", "kl", layers="final", heads=4),
    Term("transferable", "mse"), Term("logits", "kl", temperature=2.0), Term("logits", "reverse_kl"),
    Term("logits", "jensen_shannon", temperature=Schedule(4.0, 1.0)), Term("logits", "mse"), Term("logits", "cosine"),
]  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    path = tmp_path / "rows.tsv"
    write_rows(path, [{**row, "weight": 0.1 + 0.05 * i} for i, row in enumerate(make_rows(12))])
    return encode(path, make_tokenizer(), 32, LABELS, ["books", "films", "phones"])


def teacher_problem(rows: EncodedRows, seed: int = 0) -> MetaTeacherProblem:
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(tiny_config())
    head = DomainHead(16, 3)
    return MetaTeacherProblem(
        model, head, rows, rows, ["books", "films", "phones"], MetaTeacher(), LABELS, start("fp32")
    )


def gradients(
    rows: EncodedRows, chosen: list[int], micro: int | None = None, weights: np.ndarray | None = None
) -> dict:
    """Gradients of one step over the chosen rows."""
    problem = teacher_problem(rows)
    problem.start_epoch([], np.random.default_rng(5))
    if weights is not None:
        problem.weights = problem.norms = dict.fromkeys(problem.weights, weights)
    kept: dict = {}

    class Keep(torch.optim.SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def]
            kept.update({n: p.grad.clone() for n, p in problem.objective.named_parameters() if p.grad is not None})

    optimizer = Keep(problem.objective.parameters(), lr=0.0)
    training = Training(micro_batch_size=micro, max_grad_norm=1e9)
    losses = train_step(problem, problem.objective, optimizer, problem.accelerator, np.array(chosen), training, 0)
    return kept | {f"loss of {name}": torch.tensor(value) for name, value in losses.items()}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6, msg=name)


def test_weight_two_is_the_row_twice(rows: EncodedRows) -> None:
    doubled = np.ones(12)
    doubled[3] = 2.0
    assert_same(gradients(rows, [1, 3, 5], weights=doubled), gradients(rows, [1, 3, 3, 5], weights=np.ones(12)))


def test_micro_batches_are_one_batch(rows: EncodedRows) -> None:
    chosen = list(range(11))
    assert_same(gradients(rows, chosen), gradients(rows, chosen, micro=4))
    assert_same(gradients(rows, chosen), gradients(rows, chosen, micro=1))


def test_a_row_of_weight_zero_does_not_count(rows: EncodedRows) -> None:
    weights = np.ones(12)
    weights[5] = 0.0
    assert_same(gradients(rows, [1, 3, 5], weights=weights), gradients(rows, [1, 3], weights=weights))


def test_rows_of_different_weight_get_different_gradients(rows: EncodedRows) -> None:
    """The fault of the released code: weights that meet a scalar move all rows alike."""

    def gradient(weights: np.ndarray) -> torch.Tensor:
        return gradients(rows, [0, 3], weights=weights)["teacher.classifier.weight"]

    even, first, second = np.ones(12), np.ones(12), np.ones(12)
    first[0], second[3] = 9.0, 9.0
    assert not torch.allclose(gradient(first), gradient(even), rtol=1e-2)
    assert not torch.allclose(gradient(first), gradient(second), rtol=1e-2)
    torch.testing.assert_close(gradient(even), (gradient(first) + gradient(second)) / 2, rtol=1e-4, atol=1e-6)


def test_the_teachers_terms_stand_to_each_other_as_in_the_papers_sum(rows: EncodedRows) -> None:
    """Over all rows the objective is mean(t CE + g1 CE_domain), with nothing divided by the weights."""
    problem = teacher_problem(rows)
    problem.start_epoch([], np.random.default_rng(5))
    everything = np.arange(12)
    losses = problem.objective(*problem.inputs(everything, torch.device("cpu")))
    wanted = (torch.tensor(rows.weights) * losses["label"] + 0.5 * losses["domain"]).mean().item()
    found = sum(
        problem.scales[name] * (problem.weights[name] * values.detach().numpy()).sum() / problem.weights[name].sum()
        for name, values in losses.items()
    )
    assert found == pytest.approx(wanted)


def both(rows: EncodedRows, student_layers: int = 4, width: int = 16) -> tuple[DistillationObjective, dict, object]:
    torch.manual_seed(1)
    teacher = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
    student = (
        copy.deepcopy(teacher) if (student_layers, width) == (4, 16)
        else AutoModelForSequenceClassification.from_config(tiny_config(layers=student_layers, width=width))
    ).eval()  # fmt: skip
    head = DomainHead(16, 3)
    own = copy.deepcopy(head) if width == 16 else DomainHead(width, 3)
    terms = bind(ALL_TERMS, teacher.config, student.config, "single_label")
    objective = DistillationObjective(student, terms, teacher.config, own)
    from metakd.models import attention

    attention.enable(teacher)
    attention.enable(student)
    batch = rows.batch(np.arange(6))
    with torch.no_grad():
        views = view(teacher, batch, needs(terms)[0], head)
    return objective, batch, views


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(rows: EncodedRows) -> None:
    objective, batch, views = both(rows)
    for name, values in objective(batch, views).items():
        assert values.shape == (6,), name
        torch.testing.assert_close(values, torch.zeros(6), rtol=0, atol=1e-6, msg=name)


def test_every_term_is_per_row_and_blind_to_padding(rows: EncodedRows) -> None:
    objective, batch, views = both(rows, student_layers=2, width=8)
    assert set(objective.projections) == {"hidden", "transferable"}
    together = objective(batch, views)
    torch.manual_seed(1)
    teacher = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
    from metakd.models import attention

    attention.enable(teacher)
    head = DomainHead(16, 3)
    torch.manual_seed(1)
    for i in range(6):
        alone = rows.batch(np.array([i]))  # as long as the row itself
        with torch.no_grad():
            own = view(teacher, alone, needs(objective.terms)[0], head)
        for name, value in objective(alone, own).items():
            if name != "transferable":  # its teacher head was drawn anew
                torch.testing.assert_close(value[0], together[name][i], rtol=1e-4, atol=1e-5, msg=name)


def test_two_runs_with_one_seed_give_the_same_weights(rows: EncodedRows, tmp_path: Path) -> None:
    def run(folder: str, seed: int) -> dict:
        problem = teacher_problem(rows)
        for module in problem.objective.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        fit(problem, problem.accelerator, 2, 1e-3, Training(batch_size=4, seed=seed), tmp_path / folder)
        return problem.objective.state_dict()

    first, again, other = run("a", 1), run("b", 1), run("c", 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
