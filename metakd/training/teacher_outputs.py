"""What frozen teachers say of the training rows: logits once per table, on disk; the rest as needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from metakd.config import folder_name
from metakd.data.encoding import Batch, encode
from metakd.data.labels import Labels
from metakd.data.row_store import RowStore
from metakd.errors import InputError
from metakd.methods import Method
from metakd.models.classifier import label_order
from metakd.models.views import Need, Views, view
from metakd.steps import Step
from metakd.training.inference import fill_store, logits_by
from metakd.training.runtime import Together
from metakd.training.teacher_cache import TeacherCache
from metakd.training.teachers import Teacher, average_logits


@dataclass(frozen=True)
class Table:
    """Rows of a table whose teacher outputs are wanted.

    Args:
        path: of the table.
        required: its columns, see `metakd.data.tables.read_rows`.
        domains: the names that may occur; None for any.
        domain: whose rows are wanted; "" for all.
    """

    path: str
    required: tuple[str, ...]
    domains: list[str] | None = None
    domain: str = ""


def logits_of_teachers(
    teachers: Sequence[Teacher], tables: Sequence[Table], method: Method, max_length: int, labels: Labels, beside: Path,
    accelerator: Accelerator,
) -> np.ndarray:  # fmt: skip
    """Logits [n, C] of the tables' rows one after the other, averaged over the teachers; NaN for rows not wanted.

    Args:
        labels: of the student, whose order the columns have.
        beside: folder for the logits of teachers that are no folders.
    """
    found = []
    for teacher in teachers:
        if teacher.labels is None:
            raise InputError(f"{teacher.name} has no trained classifier, so no logits to learn from")
        folder = Path(teacher.name)
        place = folder.with_name(folder.name + ".logits") if folder.is_dir() else beside / folder_name(teacher.name)
        parts = [cached_logits(place, teacher, table, max_length, accelerator) for table in tables]
        order = label_order(teacher.labels.names, labels.names, teacher.name)
        found.append(np.concatenate(parts)[:, order])
    return (
        found[0] if len(found) == 1 else average_logits(found, method.teacher_weights, method.average, labels.problem)
    )


def cached_logits(place: Path, teacher: Teacher, table: Table, max_length: int, accelerator: Accelerator) -> np.ndarray:
    """The teacher's logits [n, C] of a table, kept in a folder of `place`; computed if they are not there.

    The step's inputs are the table and the teacher, so a store of another table or teacher is never used.
    """
    every = encode(table.path, teacher.tokenizer, max_length, domains=table.domains, required=table.required)
    wanted = np.arange(len(every))
    if table.domain:
        assert table.domains is not None
        wanted = np.flatnonzero(every.domains == table.domains.index(table.domain))
    rows = every.select(wanted)
    step = Step(
        place / (folder_name(table.domain) if table.domain else f"all-{folder_name(Path(table.path).stem)}"),
        {"max_length": max_length, "domain": table.domain, "precision": accelerator.mixed_precision},
        {"train": table.path, "teacher": teacher.name},
    )
    width = teacher.model.config.num_labels
    with step.workspace(Together(accelerator)) as folder:
        if folder is not None:
            fill_store(folder, rows, width, teacher.model, logits_by(teacher.model), accelerator, "teacher logits")
    store = RowStore(step.out)
    store.check(rows.guids)
    values = np.full((len(every), width), np.nan, dtype=np.float32)
    values[wanted] = store.values
    return values


class TeacherViews:
    """A frozen teacher's views of a batch: logits by row number, its inside from a cache or a forward pass.

    Args:
        logits: [n, C] in the student's label order; None where no term needs them.
        teacher: runs only if its inside is needed and not cached.
        need: what is needed of its inside.
        keep: makes a cache of its inside, or None where that does not pay; called before the first epoch, so that a
            stage which an earlier run has finished is spared it.
    """

    def __init__(
        self, logits: np.ndarray | None, teacher: Teacher | None, need: Need,
        keep: Callable[[], TeacherCache | None] | None = None,
    ) -> None:  # fmt: skip
        self.logits, self.teacher, self.need, self.keep = logits, teacher, need, keep
        self.cache: TeacherCache | None = None

    def start(self) -> None:
        """Called by all processes before rows are wanted."""
        if self.keep is not None:
            self.cache, self.keep = self.keep(), None

    @torch.no_grad()
    def __call__(self, rows: np.ndarray, batch: Batch) -> Views:
        """Views of these rows, given as a batch on the device."""
        logits = None
        if self.logits is not None:
            logits = torch.as_tensor(self.logits[rows], device=batch["label"].device)
        if self.need == Need():
            return Views(logits)
        if self.cache is not None:
            return replace(self.cache.read(rows), logits=logits)
        assert self.teacher is not None
        return replace(view(self.teacher.model, batch, self.need, self.teacher.head), logits=logits)
