"""What is trained: a teacher on all its domains, a teacher per domain on one encoder, the student of one stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from metakd.config import MetaTeacher
from metakd.data.encoding import Batch, EncodedRows, model_inputs
from metakd.data.labels import Labels, ProblemType
from metakd.evaluation.metrics import headline, headline_by_domain
from metakd.methods import Stage
from metakd.models.domain_head import DomainHead
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.features import LABEL
from metakd.objectives.meta_teacher import MetaTeacherObjective, false_domains, scales_and_weights
from metakd.training.inference import logits_of, to_device
from metakd.training.loop import Problem
from metakd.training.teacher_outputs import TeacherViews


class MetaTeacherProblem(Problem):
    """Train a teacher on all domains; an epoch is as good as its macro-averaged dev accuracy.

    Args:
        teacher: a classifier.
        head: its domain head, or None.
        rows, dev: encoded tables.
        domains: their domain names.
        settings: what makes it a meta-teacher.
        labels: the task's.
        accelerator: of this process.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        head: DomainHead | None,
        rows: EncodedRows,
        dev: EncodedRows,
        domains: list[str],
        settings: MetaTeacher,
        labels: Labels,
        accelerator: Accelerator,
    ) -> None:
        super().__init__(
            MetaTeacherObjective(teacher, head, labels.problem), rows, *scales_and_weights(rows, settings, bool(head))
        )
        self.teacher, self.dev, self.labels, self.accelerator = teacher, dev, labels, accelerator
        self.domains, self.variant = domains, settings.false_labels
        self.false_domain: np.ndarray | None = None

    def start_epoch(self, steps: list[np.ndarray], generator: np.random.Generator) -> None:
        if "domain" in self.scales:
            self.false_domain = false_domains(self.rows.domains, steps, len(self.domains), self.variant, generator)

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        batch = self.rows.batch(rows)
        if self.false_domain is not None:
            batch["false_domain"] = torch.as_tensor(self.false_domain[rows])
        return (to_device(batch, device),)

    def score(self) -> dict[str, float]:
        found = self.labels.predicted(logits_of(self.teacher, self.dev, self.accelerator, "dev"))
        by_domain = headline_by_domain(found, self.dev.labels, self.dev.domains, self.domains, self.labels.problem)
        return {"score": float(np.mean(list(by_domain.values()))), **by_domain}


class MultiTaskObjective(nn.Module):
    """Cross-entropy of each row under its domain's model; the models share their encoder."""

    def __init__(self, models: list[PreTrainedModel], problem: ProblemType) -> None:
        super().__init__()
        self.models, self.loss = nn.ModuleList(models), LABEL[problem][1]
        shared = {id(p) for p in models[0].base_model.parameters()}
        self.heads = {name for name, p in self.models.named_parameters() if id(p) not in shared}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses [B]."""
        # Every head has a part in the graph of every step, since DistributedDataParallel waits for all gradients.
        heads = [p for name, p in self.models.named_parameters() if name in self.heads]
        nothing = torch.stack([p.sum() for p in heads]).sum() * 0.0
        losses = nothing.float().expand(len(batch["label"]))
        for k, model in enumerate(self.models):
            rows = (batch["domain"] == k).nonzero().squeeze(-1)
            if len(rows):
                own = {name: values[rows] for name, values in batch.items()}
                losses = losses.index_add(0, rows, self.loss(model(**model_inputs(own)).logits, own["label"]))
        return {"label": losses}


class MultiTaskProblem(Problem):
    """Train one model per domain on a shared encoder; an epoch is as good as its macro-averaged dev score.

    Args:
        models: a classifier per domain, in the order of `domains`.
        rows, dev: encoded tables.
        labels: the task's.
        accelerator: of this process.
    """

    def __init__(
        self, models: list[PreTrainedModel], rows: EncodedRows, dev: EncodedRows, domains: list[str], labels: Labels,
        accelerator: Accelerator,
    ) -> None:  # fmt: skip
        super().__init__(
            MultiTaskObjective(models, labels.problem), rows, {"label": 1.0}, {"label": np.ones(len(rows))}
        )
        self.models, self.dev, self.domains, self.labels = models, dev, domains, labels
        self.accelerator = accelerator

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        return (to_device(self.rows.batch(rows), device),)

    def score(self) -> dict[str, float]:
        found = {}
        for k, (name, model) in enumerate(zip(self.domains, self.models, strict=True)):
            dev = self.dev.of_domain(k)
            if len(dev):
                predicted = self.labels.predicted(logits_of(model, dev, self.accelerator, f"dev {name}"))
                found[name] = headline(predicted, dev.labels, self.labels.problem)
        return {"score": float(np.mean(list(found.values()))), **found}


class DistillationProblem(Problem):
    """Train a student on one stage's objective; an epoch is as good as its dev score, if the stage says so.

    Args:
        objective: of the stage.
        stage: of the method.
        rows: what the student is shown.
        dev: rows that the epochs are compared on; None where the last one is handed on.
        weights: of each row [n]; the label term has weight 0 where there is no label.
        teacher: views of the frozen teacher.
        labels: the task's.
        accelerator: of this process.
    """

    def __init__(
        self,
        objective: DistillationObjective,
        stage: Stage,
        rows: EncodedRows,
        dev: EncodedRows | None,
        weights: np.ndarray,
        teacher: TeacherViews,
        labels: Labels,
        accelerator: Accelerator,
    ) -> None:
        scales = {b.name: b.term.scale for b in objective.terms}
        super().__init__(objective, rows, scales, {})
        self.stage, self.dev, self.teacher, self.accelerator = stage, dev, teacher, accelerator
        self.student, self.terms, self.projections = objective.student, objective.terms, objective.projections
        self.labels = labels
        self.set_weights(weights)
        self.row_weights = weights

    def set_weights(self, weights: np.ndarray) -> None:
        """Weights and norms of each term; over all steps the label term is a mean over labelled rows.

        A step may hold any number of labelled rows; dividing by those of the step would give a lone one the weight
        of a whole batch. So every row adds the share of labelled weight to the norm.
        """
        norm = weights if self.stage.normalised else np.ones(len(self.rows))
        for b in self.terms:
            counted = self.rows.labelled if b.term.feature == "label" else np.ones(len(self.rows))
            self.weights[b.name] = weights * counted
            self.norms[b.name] = norm if counted.all() else norm * (norm * counted).sum() / norm.sum()

    def start_epoch(self, steps: list[np.ndarray], generator: np.random.Generator) -> None:
        self.teacher.start()
        if self.stage.row_weight == "expertise_released":
            self.set_weights(batch_means(self.row_weights, steps))

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        batch = to_device(self.rows.batch(rows), device)
        return batch, self.teacher(rows, batch), self.share

    def score(self) -> dict[str, float] | None:
        if self.dev is None:
            return None
        found = self.labels.predicted(logits_of(self.student, self.dev, self.accelerator, "dev"))
        return {"score": headline(found, self.dev.labels, self.labels.problem)}


def batch_means(weights: np.ndarray, steps: list[np.ndarray]) -> np.ndarray:
    """Each row's weight [n] replaced by the mean of its step.

    The released code reduces every loss to one number per batch before the weights meet it, so that their mean
    multiplies the batch's mean loss (distill_metakd_application.py, compute_loss).
    """
    means = weights.copy()
    for rows in steps:
        means[rows] = weights[rows].mean()
    return means
