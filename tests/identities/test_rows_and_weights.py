"""What must hold of a teacher's step, whatever the numbers are: rows, weights and denominators."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from metakd.config import Training
from metakd.data.encoding import EncodedRows, encode
from metakd.data.tables import write_rows
from metakd.methods.method import TeacherRecipe
from metakd.training.jobs import TeacherJob
from metakd.training.loop import fit, train_step
from tests.conftest import DOMAINS, LABELS, META, make_rows, make_teacher_job, make_tokenizer

Values = dict[str, Tensor]


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    """Twelve rows with the weights 0.1, 0.15, ..."""
    write_rows(tmp_path / "rows.tsv", [{**row, "weight": 0.1 + 0.05 * i} for i, row in enumerate(make_rows(12))])
    return encode(tmp_path / "rows.tsv", make_tokenizer(), 32, LABELS, DOMAINS)


def make_job(rows: EncodedRows, recipe: TeacherRecipe = META, weights: np.ndarray | None = None) -> TeacherJob:
    """A teacher job at the start of an epoch; `weights` replace those of every term."""
    job = make_teacher_job(rows, recipe)
    job.start_epoch([], np.random.default_rng(5))
    if weights is not None:
        job.weights = job.denominators = dict.fromkeys(job.weights, weights)
    return job


def step(job: TeacherJob, chosen: list[int], micro_batch_size: int | None = None) -> Values:
    """Gradients of a step over the chosen rows, and its loss by term."""
    gradients: Values = {}

    class NoUpdate(torch.optim.SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def]
            gradients.update({n: p.grad.clone() for n, p in job.objective.named_parameters() if p.grad is not None})

    training = Training(micro_batch_size=micro_batch_size, max_grad_norm=1e9)
    optimizer = NoUpdate(job.objective.parameters(), lr=0.0)
    losses = train_step(job, job.objective, optimizer, job.accelerator, np.array(chosen), training, 0)
    return gradients | {f"loss of {name}": torch.tensor(value) for name, value in losses.items()}


def assert_same(one: Values, other: Values) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6, msg=name)


def test_weight_two_is_the_row_twice(rows: EncodedRows) -> None:
    doubled = np.ones(12)
    doubled[3] = 2.0
    assert_same(
        step(make_job(rows, weights=doubled), [1, 3, 5]), step(make_job(rows, weights=np.ones(12)), [1, 3, 3, 5])
    )


def test_micro_batches_are_one_batch(rows: EncodedRows) -> None:
    chosen = list(range(11))
    whole = step(make_job(rows), chosen)
    for size in (1, 4):
        assert_same(step(make_job(rows), chosen, size), whole)


def test_a_row_of_weight_zero_does_not_count(rows: EncodedRows) -> None:
    weights = np.ones(12)
    weights[5] = 0.0
    assert_same(step(make_job(rows, weights=weights), [1, 3, 5]), step(make_job(rows, weights=weights), [1, 3]))


def test_rows_of_different_weight_get_different_gradients(rows: EncodedRows) -> None:
    """EasyNLP's fault: weights that multiply a mean loss move all rows alike."""

    def gradient(weights: np.ndarray) -> Tensor:
        return step(make_job(rows, weights=weights), [0, 3])["teacher.classifier.weight"]

    even, first, second = np.ones(12), np.ones(12), np.ones(12)
    first[0], second[3] = 9.0, 9.0
    assert not torch.allclose(gradient(first), gradient(even), rtol=1e-2)
    assert not torch.allclose(gradient(first), gradient(second), rtol=1e-2)
    torch.testing.assert_close(gradient(even), (gradient(first) + gradient(second)) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("domain_row_weight", ["uniform", "prototype"])
@pytest.mark.parametrize("divide_by", ["rows", "weights"])
def test_a_step_of_the_meta_teacher_is_the_papers_sum(
    rows: EncodedRows, divide_by: str, domain_row_weight: str
) -> None:
    """(sum of t CE + g1 sum of CE_domain) / B (section 3.2), or each sum over the sum of its weights."""
    recipe = replace(META, divide_by=divide_by, domain_row_weight=domain_row_weight)
    job, chosen = make_job(rows, recipe), [1, 4, 6, 11]
    actual = step(job, chosen)
    batch, false_domain = rows.batch(np.array(chosen)), torch.as_tensor(job.false_domain[chosen])
    output = job.teacher(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], token_type_ids=batch["token_type_ids"],
        output_hidden_states=True,
    )  # fmt: skip
    content = (batch["attention_mask"] * (batch["input_ids"] != 2)).unsqueeze(-1)  # 2 is [CLS]
    mean = (output.hidden_states[-1] * content).sum(1) / content.sum(1)
    head = job.objective.head
    feature = torch.tanh(head.dense(head.domain_embedding.weight[batch["domain"]] + mean))
    t, ones = torch.tensor([0.1 + 0.05 * row for row in chosen]), torch.ones(4)
    of_domain = t if domain_row_weight == "prototype" else ones
    label = t * cross_entropy(output.logits, batch["label"], reduction="none")
    domain = of_domain * cross_entropy(head.classifier(feature), false_domain, reduction="none")
    if divide_by == "rows":
        label, domain = label.sum() / 4, domain.sum() / 4
    else:
        label, domain = label.sum() / t.sum(), domain.sum() / of_domain.sum()
    (label + 0.5 * domain).backward()
    expected = {name: p.grad for name, p in job.objective.named_parameters() if p.grad is not None}
    assert_same(actual, {**expected, "loss of label": label.detach(), "loss of domain": domain.detach()})


@pytest.mark.parametrize("cpu_tuning", ["auto", "off"])
def test_two_runs_with_one_seed_give_the_same_weights(rows: EncodedRows, tmp_path: Path, cpu_tuning: str) -> None:
    def weights(folder: str, seed: int) -> Values:
        job, training = make_teacher_job(rows, dropout=0.2), Training(batch_size=4, seed=seed, cpu_tuning=cpu_tuning)
        fit(job, job.accelerator, 2, 1e-3, training, tmp_path / folder)
        return job.objective.state_dict()

    first, repeated, other = weights("a", 1), weights("b", 1), weights("c", 2)
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
