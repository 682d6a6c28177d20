"""The meta-teacher's objective: prototype-weighted cross-entropy and the domain loss on false labels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from metakd.config import MetaTeacher
from metakd.data.encoding import Batch, EncodedRows
from metakd.data.labels import ProblemType
from metakd.errors import InputError
from metakd.models.domain_head import DomainHead
from metakd.models.views import Need, view
from metakd.objectives.features import LABEL
from metakd.objectives.losses import cross_entropy


class MetaTeacherObjective(nn.Module):
    """t_i CE(y_i) + g1 CE_domain(z_i) per row, as two terms (Meta-KD, section 3.2).

    Args:
        teacher: a classifier.
        head: its domain head; None trains without the domain loss.
        problem: of the task.
    """

    def __init__(self, teacher: PreTrainedModel, head: DomainHead | None, problem: ProblemType) -> None:
        super().__init__()
        self.teacher, self.head = teacher, head
        self.label_loss = LABEL[problem][1]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses [B] by term; the batch holds label and, with a domain head, false_domain."""
        views = view(self.teacher, batch, Need(transferable=self.head is not None), self.head)
        assert views.logits is not None
        losses = {"label": self.label_loss(views.logits, batch["label"])}
        if self.head is not None:
            assert views.transferable is not None
            losses["domain"] = cross_entropy(self.head.domain_logits(views.transferable), batch["false_domain"])
        return losses


def scales_and_weights(
    rows: EncodedRows, settings: MetaTeacher, with_domain: bool
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Factor and row weights of each term.

    The loop divides each term by its weights' sum; the table's mean weight as a factor gives back the ratio of
    the two terms that the paper's plain sum over rows has.

    Raises:
        InputError: every weight is 0.
    """
    ones = np.ones(len(rows))
    score = rows.weights if settings.row_weight == "prototype" else ones
    if not score.any():
        raise InputError("every row has weight 0; make the weights again, or train with --meta.row_weight uniform")
    scales, weights = {"label": float(score.mean())}, {"label": score}
    if with_domain:
        weights["domain"] = score if settings.domain_row_weight == "released" else ones
        scales["domain"] = settings.domain_loss_weight * float(weights["domain"].mean())
    return scales, weights


def false_domains(
    domains: np.ndarray,
    steps: list[np.ndarray],
    count: int,
    variant: Literal["paper", "released"],
    generator: np.random.Generator,
) -> np.ndarray:
    """A domain label z for each row [n].

    "paper": drawn uniformly from the other domains, so z != k (Meta-KD, section 3.2).
    "released": the true labels of each step's rows, permuted; some stay true (distill_metakd_application.py).

    Args:
        domains: true domains [n].
        steps: rows of each optimizer step.
        count: number of domains K, at least 2.
    """
    if variant == "paper":
        return (domains + generator.integers(1, count, size=len(domains))) % count
    drawn = domains.copy()
    for rows in steps:
        drawn[rows] = generator.permutation(domains[rows])
    return drawn
