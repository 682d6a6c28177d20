"""A distillation stage's objective: the sum of its terms, one number per row and term."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from metakd.data.encoding import Batch
from metakd.models.domain_head import DomainHead
from metakd.models.views import Views, view
from metakd.objectives.features import STATES
from metakd.objectives.terms import BoundTerm, needs, rows_loss


class DistillationObjective(nn.Module):
    """Compares the student with the teacher's views; trains the student, its domain head and the projections.

    Projections bring the student's features to the teacher's width where they differ (TinyBERT, equation 8):
    they and the domain head are trained beside the student and are no part of it.

    Args:
        student: a classifier; `attention.enable` was called where a term looks at its attention.
        terms: of the stage.
        teacher_config: for the teacher's width; None where no term looks inside it.
        head: the student's domain head, where a term needs it.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        terms: Sequence[BoundTerm],
        teacher_config: PreTrainedConfig | None,
        head: DomainHead | None,
    ) -> None:
        super().__init__()
        self.student, self.terms, self.head = student, terms, head
        _, self.need = needs(terms)
        self.projections = nn.ModuleDict(projections(terms, student.config, teacher_config))

    def forward(self, batch: Batch, teacher: Views, share: float = 0.0) -> dict[str, Tensor]:
        """Losses [B] by term name; `share` of the stage's steps are done."""
        student = view(self.student, batch, self.need, self.head)
        return {b.name: rows_loss(b, student, teacher, batch, share, self.project) for b in self.terms}

    def project(self, values: Tensor, kind: str) -> Tensor:
        """Student features [..., D_student] in the teacher's width [..., D_teacher]."""
        return self.projections[kind](values) if kind in self.projections else values


def projections(
    terms: Sequence[BoundTerm], student: PreTrainedConfig, teacher: PreTrainedConfig | None
) -> dict[str, nn.Linear]:
    """A linear map for states and one for the transferable feature, where terms compare them and widths differ."""
    if teacher is None or student.hidden_size == teacher.hidden_size:
        return {}
    compared = {b.term.feature for b in terms if b.loss != "gram_mse"}  # Gram matrices have no width
    kinds = ["hidden"] * bool(compared & set(STATES)) + ["transferable"] * ("transferable" in compared)
    return {kind: nn.Linear(student.hidden_size, teacher.hidden_size) for kind in kinds}
