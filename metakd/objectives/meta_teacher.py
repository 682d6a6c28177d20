"""The meta-teacher's objective: prototype-weighted cross-entropy, and the domain loss on false domain labels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from metakd.data.encoding import Batch
from metakd.data.labels import ProblemType
from metakd.models.domain_head import DomainHead
from metakd.models.views import ViewRequest, compute_views
from metakd.objectives.losses import cross_entropy
from metakd.objectives.outputs import LABEL


class MetaTeacherObjective(nn.Module):
    """CE(y_i) and CE_domain(z_i) per row, as two terms; the loop forms t_i CE + g1 CE_domain (Meta-KD, section 3.2).

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
        views = compute_views(self.teacher, batch, ViewRequest(transferable=self.head is not None), self.head)
        losses = {"label": self.label_loss(views.logits, batch["label"])}
        if self.head is not None:
            assert views.transferable is not None
            losses["domain"] = cross_entropy(self.head.domain_logits(views.transferable), batch["false_domain"])
        return losses


def false_domains(
    domains: np.ndarray,
    steps: list[np.ndarray],
    count: int,
    variant: Literal["other_domains", "permuted"],
    generator: np.random.Generator,
) -> np.ndarray:
    """A domain label z for each row [n].

    "other_domains": drawn uniformly from the other domains, so z != k (Meta-KD, section 3.2).
    "permuted": the true labels of each step's rows, permuted; some stay true (EasyNLP,
    distill_metakd_application.py).

    Args:
        domains: true domains [n].
        steps: rows of each optimizer step.
        count: number of domains K, at least 2.
    """
    if variant == "other_domains":
        return (domains + generator.integers(1, count, size=len(domains))) % count
    permuted = domains.copy()
    for rows in steps:
        permuted[rows] = generator.permutation(domains[rows])
    return permuted
