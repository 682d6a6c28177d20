"""The training jobs: a teacher on all its domains, a head per domain on one encoder, the student of one stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from metakd.data.encoding import Batch, EncodedRows, model_inputs
from metakd.data.labels import Labels, ProblemType, SelectBy
from metakd.evaluation.metrics import headline, headline_by_domain
from metakd.methods.method import TeacherRecipe
from metakd.methods.stage import Stage
from metakd.models.domain_head import DomainHead
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.meta_teacher import MetaTeacherObjective, false_domains
from metakd.objectives.outputs import LABEL
from metakd.training.inference import predict_logits, to_device
from metakd.training.loop import TrainingJob
from metakd.training.teacher_outputs import TeacherOutputs
from metakd.weighting.row_weights import batch_means, teacher_weights


def own_logits(logits: np.ndarray, dev: EncodedRows, train: EncodedRows) -> np.ndarray:
    """Logits of dev rows [n, C], -inf for the classes that no training row of the row's domain has."""
    several = train.labels.ndim == 2
    rows, classes = np.nonzero(train.labels) if several else (np.arange(len(train)), train.labels)
    known = np.zeros((1 + max(train.domains.max(), dev.domains.max()), logits.shape[1]), dtype=bool)
    known[train.domains[rows], classes] = True
    return np.where(known[dev.domains], logits, -np.inf)


def dev_predictions(job: TeacherJob | MultiTaskJob, model: PreTrainedModel, dev: EncodedRows, title: str) -> np.ndarray:
    """What a teacher in training predicts for dev rows, see `Labels.predicted`."""
    logits = predict_logits(model, dev, job.accelerator, title)
    return job.labels.predicted(own_logits(logits, dev, job.rows) if job.own_labels else logits)


class TeacherJob(TrainingJob):
    """Train one teacher on all its domains; epochs are compared by the macro-average of the domains' dev scores.

    Args:
        teacher: a classifier.
        head: its domain head, or None.
        rows: of the training table.
        dev: rows that epochs are compared on; the last epoch is saved if there are none.
        domains: the domain names of both.
        recipe: of the method.
        labels: the task's.
        accelerator: of this process.
        seed: of shuffled row weights.
        select_by, own_labels: see `metakd.config.Task`; the first is the dev score.
    """

    rows: EncodedRows

    def __init__(
        self,
        teacher: PreTrainedModel,
        head: DomainHead | None,
        rows: EncodedRows,
        dev: EncodedRows,
        domains: list[str],
        recipe: TeacherRecipe,
        labels: Labels,
        accelerator: Accelerator,
        seed: int = 1,
        select_by: SelectBy | None = None,
        own_labels: bool = False,
    ) -> None:
        weights = {"label": teacher_weights(recipe.row_weight, rows, seed)}
        scales = {"label": 1.0}
        if head is not None:
            weights["domain"] = teacher_weights(recipe.domain_row_weight, rows, seed)
            scales["domain"] = recipe.domain_loss_weight
        denominators = weights if recipe.divide_by == "weights" else dict.fromkeys(weights, np.ones(len(rows)))
        super().__init__(MetaTeacherObjective(teacher, head, labels.problem), rows, scales, weights, denominators)
        self.teacher, self.dev, self.labels, self.accelerator = teacher, dev, labels, accelerator
        self.domains, self.variant, self.select_by = domains, recipe.false_labels, select_by
        self.own_labels = own_labels
        self.false_domain: np.ndarray | None = None

    def start_epoch(self, steps: list[np.ndarray], generator: np.random.Generator) -> None:
        if "domain" in self.scales:
            self.false_domain = false_domains(self.rows.domains, steps, len(self.domains), self.variant, generator)

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        batch = self.rows.batch(rows)
        if self.false_domain is not None:
            batch["false_domain"] = torch.as_tensor(self.false_domain[rows])
        return (to_device(batch, device),)

    def score(self) -> dict[str, float] | None:
        if not len(self.dev):
            return None
        predictions = dev_predictions(self, self.teacher, self.dev, "dev")
        by_domain = headline_by_domain(
            predictions, self.dev.labels, self.dev.domains, self.domains, self.labels.problem, self.select_by
        )
        return {"score": float(np.mean(list(by_domain.values()))), **by_domain}


class MultiTaskObjective(nn.Module):
    """Label loss of each row under its domain's model; the models share their encoder."""

    def __init__(self, models: list[PreTrainedModel], problem: ProblemType) -> None:
        super().__init__()
        self.models, self.loss = nn.ModuleList(models), LABEL[problem][1]
        shared = {id(p) for p in models[0].base_model.parameters()}
        self.heads = {name for name, p in self.models.named_parameters() if id(p) not in shared}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses [B]."""
        # Every head takes part in every step, since DistributedDataParallel waits for all gradients.
        heads = [p for name, p in self.models.named_parameters() if name in self.heads]
        zero = torch.stack([p.sum() for p in heads]).sum() * 0.0
        losses = zero.float().expand(len(batch["label"]))
        for k, model in enumerate(self.models):
            rows = (batch["domain"] == k).nonzero().squeeze(-1)
            if len(rows):
                of_domain = {name: values[rows] for name, values in batch.items()}
                logits = model(**model_inputs(of_domain)).logits
                losses = losses.index_add(0, rows, self.loss(logits, of_domain["label"]))
        return {"label": losses}


class MultiTaskJob(TrainingJob):
    """Train one model per domain on a shared encoder; epochs are compared by the macro-average of the dev scores.

    Args:
        models: a classifier per domain, in the order of `domains`.
        rows, dev: encoded tables.
        labels: the task's.
        accelerator: of this process.
        select_by, own_labels: see `metakd.config.Task`; the first is the dev score.
    """

    rows: EncodedRows

    def __init__(
        self,
        models: list[PreTrainedModel],
        rows: EncodedRows,
        dev: EncodedRows,
        domains: list[str],
        labels: Labels,
        accelerator: Accelerator,
        select_by: SelectBy | None = None,
        own_labels: bool = False,
    ) -> None:
        weights = {"label": np.ones(len(rows))}
        super().__init__(MultiTaskObjective(models, labels.problem), rows, {"label": 1.0}, weights, weights)
        self.models, self.dev, self.domains, self.labels = models, dev, domains, labels
        self.accelerator, self.select_by, self.own_labels = accelerator, select_by, own_labels

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        return (to_device(self.rows.batch(rows), device),)

    def score(self) -> dict[str, float] | None:
        if not len(self.dev):
            return None
        by_domain = {}
        for k, (name, model) in enumerate(zip(self.domains, self.models, strict=True)):
            dev = self.dev.of_domain(k)
            if len(dev):
                predictions = dev_predictions(self, model, dev, f"dev {name}")
                by_domain[name] = headline(predictions, dev.labels, self.labels.problem, self.select_by)
        return {"score": float(np.mean(list(by_domain.values()))), **by_domain}


class DistillationJob(TrainingJob):
    """Train a student on one stage's objective; epochs are compared by the dev score, if the stage says so.

    Args:
        objective: of the stage.
        stage: of the method.
        rows: what the student is shown.
        dev: rows that each epoch is scored on; None for none.
        row_weights: of each row [n]; the label term gives rows without label weight 0.
        teacher: outputs of the frozen teacher.
        labels: the student's.
        accelerator: of this process.
        select_by: the dev score, see `metakd.config.Task`.
    """

    rows: EncodedRows

    def __init__(
        self,
        objective: DistillationObjective,
        stage: Stage,
        rows: EncodedRows,
        dev: EncodedRows | None,
        row_weights: np.ndarray,
        teacher: TeacherOutputs,
        labels: Labels,
        accelerator: Accelerator,
        select_by: SelectBy | None = None,
    ) -> None:
        super().__init__(objective, rows, {b.name: b.term.scale for b in objective.terms}, {}, {})
        self.stage, self.dev, self.teacher, self.accelerator = stage, dev, teacher, accelerator
        self.student, self.terms, self.labels = objective.student, objective.terms, labels
        self.projections = objective.projections
        self.row_weights, self.select_by = row_weights, select_by
        self.keeps_best, self.dropout = stage.select == "dev", stage.dropout
        self.set_weights(row_weights)

    def set_weights(self, weights: np.ndarray) -> None:
        """Set each term's weights and denominators, so that over all steps the label term is a mean over labelled rows.

        A step may hold any number of labelled rows. Divided by those of the step, a lone one would weigh as much as a
        whole batch. So every row adds the labelled fraction of the weight to the denominator.
        """
        per_row = weights if self.stage.divide_by == "weights" else np.ones(len(self.rows))
        for b in self.terms:
            counted = self.rows.labelled if b.term.feature == "label" else np.ones(len(self.rows))
            self.weights[b.name] = weights * counted
            labelled_fraction = 1.0 if counted.all() else (per_row * counted).sum() / per_row.sum()
            self.denominators[b.name] = per_row * labelled_fraction

    def start_epoch(self, steps: list[np.ndarray], generator: np.random.Generator) -> None:
        self.teacher.start()
        if self.stage.row_weight == "expertise_easynlp":
            self.set_weights(batch_means(self.row_weights, steps))

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        batch = to_device(self.rows.batch(rows), device)
        return batch, self.teacher(rows, batch), self.progress

    def score(self) -> dict[str, float] | None:
        if self.dev is None:
            return None
        predictions = self.labels.predicted(predict_logits(self.student, self.dev, self.accelerator, "dev"))
        return {"score": headline(predictions, self.dev.labels, self.labels.problem, self.select_by)}
