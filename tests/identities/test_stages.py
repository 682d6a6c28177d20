"""What must hold of a stage's weights and denominators, whatever the numbers are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from metakd.config import Training
from metakd.data.encoding import EncodedRows, encode, model_inputs
from metakd.data.tables import TRAINING, write_rows
from metakd.methods.stage import Schedule, Stage, Term
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.terms import bind
from metakd.training.jobs import DistillationJob
from metakd.training.loop import train_step
from metakd.training.runtime import start
from metakd.training.teacher_outputs import TeacherOutputs
from tests.conftest import DOMAINS, LABELS, make_rows, make_tokenizer, tiny_config

SOFT, HARD = Term("logits", "kl", temperature=2.0), Term("label", scale=0.5)
EVERY = np.arange(12)
WEIGHTS = np.linspace(0.2, 1.3, 12)


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    """12 rows, every third without label."""
    table = [{**row, "label": "" if i % 3 == 0 else row["label"]} for i, row in enumerate(make_rows(12))]
    write_rows(tmp_path / "rows.tsv", table)
    return encode(tmp_path / "rows.tsv", make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)


def make_job(rows: EncodedRows, weights: np.ndarray, soft: Term = SOFT, **options: Any) -> DistillationJob:
    """A stage on soft and hard labels with random teacher logits; options are fields of `Stage`."""
    torch.manual_seed(0)
    student = AutoModelForSequenceClassification.from_config(tiny_config(layers=2))
    stage = Stage("stage", [soft, HARD], 1, 1e-3, select="last", **options)
    objective = DistillationObjective(student, bind(stage.terms, None, student.config, "single_label"), None, None)
    logits = np.random.default_rng(2).normal(size=(12, 2)).astype(np.float32)
    outputs = TeacherOutputs(logits, None, [], rows)
    return DistillationJob(objective, stage, rows, None, weights, outputs, LABELS, start("fp32"))


def step(job: DistillationJob, chosen: np.ndarray) -> tuple[dict[str, float], torch.Tensor]:
    """Each term's loss in a step, and the gradient of the classifier."""
    gradients: list[torch.Tensor] = []

    class NoUpdate(torch.optim.SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def]
            gradients.append(job.student.classifier.weight.grad.clone())

    training = Training(max_grad_norm=1e9)
    optimizer = NoUpdate(job.objective.parameters(), lr=0.0)
    return train_step(job, job.objective, optimizer, job.accelerator, chosen, training, 0), gradients[0]


def test_the_size_of_weights_matters_only_if_terms_are_divided_by_rows(rows: EncodedRows) -> None:
    by_weights, by_rows = (
        [step(make_job(rows, k * WEIGHTS, row_weight="prototype", divide_by=divide_by), EVERY) for k in (1.0, 3.0)]
        for divide_by in ("weights", "rows")
    )
    torch.testing.assert_close(by_weights[1], by_weights[0])
    torch.testing.assert_close(by_rows[1][1], 3 * by_rows[0][1])
    assert by_rows[0][0]["logits"] == pytest.approx(by_weights[0][0]["logits"] * WEIGHTS.mean())


@pytest.mark.parametrize("divide_by", ["weights", "rows"])
def test_the_label_term_is_a_mean_over_labelled_rows_however_steps_fall(rows: EncodedRows, divide_by: str) -> None:
    """A lone labelled row in a step must not weigh as much as a whole batch."""
    weights = np.where(EVERY < 6, 0.5, 1.5)
    job = make_job(rows, weights, row_weight="prototype", divide_by=divide_by)
    labelled = np.flatnonzero(rows.labelled)
    assert len(labelled) == 8
    batch = rows.batch(EVERY)
    logits = job.student(**model_inputs(batch)).logits
    losses = torch.nn.functional.cross_entropy(logits, batch["label"], reduction="none").detach().numpy()
    per_row = weights if divide_by == "weights" else np.ones(12)
    expected = (weights * losses)[labelled].sum() / per_row[labelled].sum()
    assert step(job, EVERY)[0]["label"] == pytest.approx(expected, rel=1e-5)
    steps = [np.array([0, 3, 6, 1]), np.array([2, 4, 5, 7]), np.array([8, 9, 10, 11])]  # 1, 4 and 3 labelled rows
    mean = sum(step(job, chosen)[0]["label"] * per_row[chosen].sum() for chosen in steps) / per_row.sum()
    assert mean == pytest.approx(expected, rel=1e-5)


def test_easynlp_weights_multiply_whole_batches(rows: EncodedRows) -> None:
    """Mean weight times mean loss of each batch: every loss is one number before the weights multiply it."""
    batches = [EVERY[:5], EVERY[5:]]
    easynlp = make_job(rows, WEIGHTS, row_weight="expertise_easynlp", divide_by="rows")
    easynlp.start_epoch(batches, np.random.default_rng(0))
    for chosen in batches:
        plain_losses, plain_gradient = step(make_job(rows, np.ones(12)), chosen)
        losses, gradient = step(easynlp, chosen)
        assert losses["logits"] == pytest.approx(WEIGHTS[chosen].mean() * plain_losses["logits"], rel=1e-5)
        torch.testing.assert_close(gradient, plain_gradient * WEIGHTS[chosen].mean(), rtol=1e-4, atol=1e-7)


def test_a_scheduled_temperature_is_that_of_the_steps_progress(rows: EncodedRows) -> None:
    scheduled = make_job(rows, np.ones(12), Term("logits", "kl", temperature=Schedule(4.0, 1.0)))
    scheduled.progress = 0.5
    torch.testing.assert_close(
        step(scheduled, EVERY), step(make_job(rows, np.ones(12), Term("logits", "kl", temperature=2.5)), EVERY)
    )
