"""What a training job adds to its objective: which model a row belongs to, and the dev scores of an epoch."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn.functional import cross_entropy

from metakd.data.encoding import EncodedRows, encode, model_inputs
from metakd.data.tables import TRAINING
from metakd.training.jobs import MultiTaskJob, MultiTaskObjective, TeacherJob
from metakd.training.runtime import start
from tests.conftest import DOMAINS, LABELS, make_teacher_job, make_tokenizer


@pytest.fixture
def rows(tables: dict[str, Path]) -> EncodedRows:
    return encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)


@pytest.fixture
def job(rows: EncodedRows) -> TeacherJob:
    return make_teacher_job(rows)


def heads_on_one_encoder(job: TeacherJob) -> list[torch.nn.Module]:
    """A model per domain: the job's encoder with different classification heads."""
    models = []
    for k in range(3):
        model = copy.deepcopy(job.teacher)
        model.bert = job.teacher.bert
        torch.nn.init.normal_(model.classifier.weight, mean=k)
        models.append(model.eval())
    return models


def test_each_row_is_classified_by_its_domains_head(job: TeacherJob, rows: EncodedRows) -> None:
    models, batch = heads_on_one_encoder(job), rows.batch(np.array([0, 5, 3, 1]))
    assert batch["domain"].tolist() == [0, 2, 0, 1]
    losses = MultiTaskObjective(models, "single_label")(batch)["label"]
    for i, k in enumerate(batch["domain"]):
        logits = models[k](**model_inputs(batch)).logits[i]
        torch.testing.assert_close(losses[i], cross_entropy(logits, batch["label"][i]))


def test_heads_without_a_row_in_the_batch_get_a_gradient_of_zero(job: TeacherJob, rows: EncodedRows) -> None:
    """DistributedDataParallel waits for the gradients of all parameters."""
    models = heads_on_one_encoder(job)
    MultiTaskObjective(models, "single_label")(rows.batch(np.array([0, 3])))["label"].sum().backward()
    norms = [model.classifier.weight.grad.norm().item() for model in models]
    assert norms[0] > 0 and norms[1:] == [0, 0]


def test_dev_scores_are_those_that_the_task_selects_by(job: TeacherJob, rows: EncodedRows) -> None:
    predicted = [int(job.teacher.eval()(**model_inputs(rows.batch(np.array([i])))).logits.argmax()) for i in range(48)]
    job.select_by = "macro_f1"
    expected = [f1_score(rows.labels[k::3], predicted[k::3], average="macro") for k in range(3)]
    assert job.score() == pytest.approx({"score": np.mean(expected), **dict(zip(DOMAINS, expected, strict=True))})


def accuracies(models: list[torch.nn.Module], rows: EncodedRows) -> list[float]:
    """Of each domain's model on its rows, row by row."""
    correct: list[list[bool]] = [[], [], []]
    for i in range(len(rows)):
        batch = rows.batch(np.array([i]))
        k = int(batch["domain"])
        correct[k].append(bool(models[k](**model_inputs(batch)).logits.argmax() == batch["label"]))
    return [float(np.mean(values)) for values in correct]


def test_dev_scores_are_a_mean_over_domains(job: TeacherJob, rows: EncodedRows) -> None:
    dev = rows.select(np.array([0, 3, 6, 9, 12, 1, 4, 2]))  # 5, 2 and 1 rows of the domains
    job.dev, one_for_all = dev, [job.teacher.eval()] * 3
    expected = accuracies(one_for_all, dev)
    assert job.score() == pytest.approx({"score": np.mean(expected), **dict(zip(DOMAINS, expected, strict=True))})
    models = heads_on_one_encoder(job)
    multi_task = MultiTaskJob(models, rows, dev, DOMAINS, LABELS, start("fp32"))
    expected = accuracies(models, dev)
    assert multi_task.score() == pytest.approx(
        {"score": np.mean(expected), **dict(zip(DOMAINS, expected, strict=True))}
    )
