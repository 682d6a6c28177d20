"""The objective of a distillation stage: its terms, each one loss per row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from metakd.data.encoding import Batch
from metakd.models.domain_head import DomainHead
from metakd.objectives.features import FeatureValues, compute_features
from metakd.objectives.terms import BoundTerm, term_loss, wanted_features


class DistillationObjective(nn.Module):
    """Compares the student with the teacher; holds all that is trained: student, its domain head, projections.

    The domain head and the projections are auxiliary: they are trained with the student and are no part of it.

    Args:
        student: a classifier, prepared by `attention.enable_reading` where a term reads its attention.
        terms: of the stage.
        teacher_config: for the teacher's width; None where no term reads its activations.
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
        _, self.wanted = wanted_features(terms)
        self.projections = nn.ModuleDict(projections(terms, student.config, teacher_config))

    def forward(self, batch: Batch, teacher: FeatureValues, progress: float = 0.0) -> dict[str, Tensor]:
        """Losses [B] by term name; `progress` is the fraction of optimizer steps completed."""
        student = compute_features(self.student, batch, self.wanted, self.head)
        return {b.name: term_loss(b, student, teacher, batch, progress, self.project) for b in self.terms}

    def project(self, values: Tensor, bound: BoundTerm, pair: tuple[int, int]) -> Tensor:
        """Student values [..., D_student] in the teacher's width [..., D_teacher], where the two are compared."""
        name = projection_name(bound, pair)
        return self.projections[name](values) if name in self.projections else values


def projection_name(bound: BoundTerm, pair: tuple[int, int]) -> str:
    """Name of the linear layer that a match goes through; "" for none."""
    if bound.loss in bound.feature.width_free:
        return ""
    shared = bound.feature.projection
    return shared if bound.term.projection == "shared" or not shared else f"{bound.name}-{pair[0]}-{pair[1]}"


def projections(
    terms: Sequence[BoundTerm], student: PreTrainedConfig, teacher: PreTrainedConfig | None
) -> dict[str, nn.Linear]:
    """The linear layers that the terms need by name; none where the widths agree (TinyBERT, equation 8)."""
    if teacher is None or student.hidden_size == teacher.hidden_size:
        return {}
    names = dict.fromkeys(projection_name(b, pair) for b in terms for pair in b.pairs)
    return {name: nn.Linear(student.hidden_size, teacher.hidden_size) for name in sorted(names) if name}
