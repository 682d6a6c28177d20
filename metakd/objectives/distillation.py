"""A distillation stage's objective: the sum of its terms, one number per row and term."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from metakd.data.encoding import Batch
from metakd.models import attention
from metakd.models.domain_head import DomainHead
from metakd.models.views import Views, view
from metakd.objectives.terms import STATES, BoundTerm, needs, rows_loss


class DistillationObjective(nn.Module):
    """Compares the student with the teacher's views; trains the student, its domain head and the projections.

    Projections bring the student's features to the teacher's width where they differ (TinyBERT, equation 8):
    they and the domain head are trained beside the student and are no part of it.

    Args:
        student: a classifier.
        terms: of the stage.
        teacher_config: for the teacher's width.
        head: the student's domain head, where a term needs it.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        terms: Sequence[BoundTerm],
        teacher_config: PreTrainedConfig,
        head: DomainHead | None,
    ) -> None:
        super().__init__()
        self.student, self.terms, self.head = student, terms, head
        _, self.need = needs(terms)
        features = {b.term.feature for b in terms}
        kinds = ["hidden"] * bool(features & set(STATES)) + ["transferable"] * ("transferable" in features)
        widths = student.config.hidden_size, teacher_config.hidden_size
        self.projections = nn.ModuleDict({k: nn.Linear(*widths) for k in kinds if widths[0] != widths[1]})
        if self.need.attention:
            attention.enable(student)

    def forward(self, batch: Batch, teacher: Views) -> dict[str, Tensor]:
        """Losses [B] by term name."""
        student = view(self.student, batch, self.need, self.head)
        return {b.name: rows_loss(b, student, teacher, batch, self.project) for b in self.terms}

    def project(self, values: Tensor, kind: str) -> Tensor:
        """Student features [..., D_student] in the teacher's width [..., D_teacher]."""
        return self.projections[kind](values) if kind in self.projections else values
