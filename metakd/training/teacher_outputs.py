"""What the frozen teacher says of the training rows: logits once per table, on disk; the rest as needed."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from metakd.data.encoding import Batch, EncodedRows, model_inputs
from metakd.data.row_store import RowStore
from metakd.models import attention
from metakd.models.domain_head import DomainHead
from metakd.models.views import Need, Views, view
from metakd.steps import Step
from metakd.training.inference import fill_store
from metakd.training.runtime import Together


def cached_logits(
    step: Step, teacher: PreTrainedModel, rows: EncodedRows, order: list[int], accelerator: Accelerator
) -> np.ndarray:
    """The teacher's logits [n, C], from the step's folder; computed if it is not finished.

    The step's inputs are the table and the teacher, so a store of another table or teacher is never used.

    Args:
        order: column of the teacher's logits for each of the student's labels.
    """

    def logits(batch: Batch) -> torch.Tensor:
        return teacher(**model_inputs(batch)).logits

    with step.workspace(Together(accelerator)) as folder:
        if folder is not None:
            fill_store(folder, rows, len(order), teacher, logits, accelerator, "teacher logits")
    store = RowStore(step.out)
    store.check(rows.guids)
    return store.values[:, order]


class TeacherViews:
    """The frozen teacher's views of a batch: logits from the cache, inner features from a forward pass.

    Args:
        logits: [n, C] by row number, in the student's label order.
        teacher: in eval mode; runs only if something else than logits is needed.
        need: what is needed of it.
        head: its domain head, or None.
    """

    def __init__(self, logits: np.ndarray, teacher: PreTrainedModel, need: Need, head: DomainHead | None) -> None:
        self.logits, self.teacher, self.need, self.head = logits, teacher.eval(), need, head
        self.live = need != Need()
        for module in filter(None, (teacher, head)):
            module.requires_grad_(False)
        if need.attention:
            attention.enable(teacher)

    @torch.no_grad()
    def __call__(self, rows: np.ndarray, batch: Batch) -> Views:
        """Views of these rows, given as a batch on the device."""
        logits = torch.as_tensor(self.logits[rows], device=batch["label"].device)
        if not self.live:
            return Views(logits)
        views = view(self.teacher, batch, self.need, self.head)
        return Views(logits, views.hidden, views.attention, views.transferable)
