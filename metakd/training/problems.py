"""What is trained: the meta-teacher on all domains, the student of one stage on one domain."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from metakd.config import MetaTeacher
from metakd.data.encoding import EncodedRows
from metakd.evaluation.metrics import domain_accuracies
from metakd.methods import Stage
from metakd.models.domain_head import DomainHead
from metakd.objectives.distillation import DistillationObjective
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
        accelerator: Accelerator,
    ) -> None:
        super().__init__(MetaTeacherObjective(teacher, head), rows, *scales_and_weights(rows, settings, bool(head)))
        self.teacher, self.dev, self.accelerator = teacher, dev, accelerator
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
        found = logits_of(self.teacher, self.dev, self.accelerator, "dev").argmax(1)
        by_domain = domain_accuracies(found, self.dev.labels, self.dev.domains, self.domains)
        return {"score": float(np.mean(list(by_domain.values()))), **by_domain}


class DistillationProblem(Problem):
    """Train a student on one stage's objective; an epoch is as good as its dev accuracy, if the stage says so.

    Args:
        objective: of the stage.
        stage: of the method.
        rows, dev: encoded rows of the domain.
        weights: of each row [n], for every term.
        teacher: views of the frozen teacher.
        accelerator: of this process.
    """

    def __init__(
        self,
        objective: DistillationObjective,
        stage: Stage,
        rows: EncodedRows,
        dev: EncodedRows,
        weights: np.ndarray,
        teacher: TeacherViews,
        accelerator: Accelerator,
    ) -> None:
        scales = {b.name: b.term.scale for b in objective.terms}
        super().__init__(objective, rows, scales, dict.fromkeys(scales, weights))
        self.stage, self.dev, self.teacher, self.accelerator = stage, dev, teacher, accelerator
        self.student = objective.student

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        batch = to_device(self.rows.batch(rows), device)
        return batch, self.teacher(rows, batch)

    def score(self) -> dict[str, float] | None:
        if self.stage.select == "last":
            return None
        found = logits_of(self.student, self.dev, self.accelerator, "dev").argmax(1)
        return {"score": float((found == self.dev.labels).mean())}
