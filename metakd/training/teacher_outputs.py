"""Outputs of frozen teachers on the training rows: logits, computed once per table, and features, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from metakd.cpu.teacher_cache import FeatureCache, cache_features
from metakd.data.encoding import Batch, EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.row_store import RowStore
from metakd.errors import InputError
from metakd.methods.method import TeacherRecipe
from metakd.models.classifier import label_order
from metakd.objectives.features import FeatureLayer, FeatureValues, compute_features
from metakd.paths import beside, folder_name
from metakd.steps import ReadOnlyError, Step
from metakd.training.inference import batches_over, fill_store, logits_fn, require_finite
from metakd.training.runtime import Together
from metakd.training.teachers import Teacher, average_logits


@dataclass(frozen=True)
class TableSpec:
    """Rows of a table whose teacher logits are needed.

    Args:
        path: of the table.
        required: its required columns, see `metakd.data.tables.read_rows`.
        domains: domain names that may occur; None for any.
        domain: whose rows are needed; "" for all.
    """

    path: str
    required: tuple[str, ...]
    domains: list[str] | None = None
    domain: str = ""


def teacher_logits(
    teachers: Sequence[Teacher],
    tables: Sequence[TableSpec],
    recipe: TeacherRecipe,
    max_length: int,
    labels: Labels,
    logits_dir: Path,
    accelerator: Accelerator,
) -> np.ndarray:
    """Logits [n, C] of the tables' rows one after the other, averaged over the teachers; NaN for rows not needed.

    Args:
        recipe: says how several teachers are averaged.
        labels: of the student; the columns have their order.
        logits_dir: folder for logits of teachers that are no folders, or lie where nothing can be written.
    """
    by_teacher = []
    for teacher in teachers:
        if teacher.labels is None:
            raise InputError(f"{teacher.name} has no trained classifier, so no logits to learn from")
        stores = [logits_dir / folder_name(teacher.name)]
        if Path(teacher.name).is_dir():
            stores.insert(0, beside(teacher.name, ".logits"))
        by_table = [cached_logits(stores, teacher, table, max_length, accelerator) for table in tables]
        order = label_order(teacher.labels.names, labels, teacher.name)
        by_teacher.append(np.concatenate(by_table)[:, order])
    if len(by_teacher) == 1:
        return by_teacher[0]
    return average_logits(by_teacher, recipe.average_weights, recipe.average, labels.problem)


def cached_logits(
    stores: Sequence[Path], teacher: Teacher, table: TableSpec, max_length: int, accelerator: Accelerator
) -> np.ndarray:
    """The teacher's logits [n, C] of a table; computed unless the first of the `stores` that can be used has them.

    The step depends on the teacher and on guids and token ids of the rows, so logits of other rows are never used, and
    a table with and without weights shares them.
    """
    all_rows = encode(table.path, teacher.tokenizer, max_length, domains=table.domains, required=table.required)
    needed = np.arange(len(all_rows))
    if table.domain:
        assert table.domains is not None
        needed = np.flatnonzero(all_rows.domains == table.domains.index(table.domain))
    rows = all_rows.select(needed)
    name = folder_name(table.domain) if table.domain else f"all-{folder_name(Path(table.path).stem)}"
    settings = {"rows": rows.content_hash(), "domain": table.domain, "precision": accelerator.mixed_precision}
    step = first_usable_step([store / name for store in stores], settings, {"teacher": teacher.name})
    width = teacher.model.config.num_labels
    with step.workspace(Together(accelerator)) as folder:
        if folder is not None:
            compute = logits_fn(teacher.model)
            fill_store(folder, rows, width, teacher.model, compute, accelerator, "teacher logits")
    store = RowStore(step.out)
    store.require_guids(rows.guids)
    values = np.full((len(all_rows), width), np.nan, dtype=np.float32)
    values[needed] = store.values
    return values


def first_usable_step(places: Sequence[Path], settings: dict[str, Any], inputs: dict[str, str]) -> Step:
    """The step at the first of these places that is finished or can be written to."""
    for place in places[:-1]:
        with suppress(ReadOnlyError):
            return Step(place, settings, inputs, remake=True)  # logits of other code are cheap to compute anew
    return Step(places[-1], settings, inputs, remake=True)


class TeacherOutputs:
    """A frozen teacher's outputs for a batch: logits by row number, features from a cache or a forward pass.

    Args:
        logits: [n, C] in the student's label order; None where no term needs them.
        teacher: whose features are matched; None where none are.
        wanted: features and layers.
        rows: the stage's rows.
    """

    def __init__(
        self, logits: np.ndarray | None, teacher: Teacher | None, wanted: Sequence[FeatureLayer], rows: EncodedRows
    ) -> None:
        self.logits, self.teacher, self.wanted, self.rows = logits, teacher, wanted, rows
        self.cache: FeatureCache | None = None

    def start(self) -> None:
        """Called before each epoch by all processes."""

    @torch.no_grad()
    def __call__(self, rows: np.ndarray, batch: Batch) -> FeatureValues:
        """Outputs for these rows, given as a batch on the device."""
        logits = None
        if self.logits is not None:
            logits = torch.as_tensor(self.logits[rows], device=batch["label"].device)
        if not self.wanted:
            return FeatureValues(logits)
        if self.cache is not None:
            return FeatureValues(logits, self.cache.read(rows))
        return FeatureValues(logits, self.features(rows, batch))

    def features(self, rows: np.ndarray, batch: Batch) -> dict[FeatureLayer, torch.Tensor]:
        """The teacher's features of these rows, all finite."""
        assert self.teacher is not None
        model = self.teacher.model
        features = compute_features(model, batch, self.wanted, self.teacher.head).features
        require_finite(features.values(), model, self.rows, rows, "teacher features")
        return features


class CachedTeacherOutputs(TeacherOutputs):
    """The same, with the features computed once before the first epoch and then read from disk, if they fit there.

    Args:
        folder: of the cache.
        limit: largest size in bytes.
    """

    def __init__(
        self,
        logits: np.ndarray | None,
        teacher: Teacher,
        wanted: Sequence[FeatureLayer],
        rows: EncodedRows,
        folder: Path,
        limit: float,
        accelerator: Accelerator,
    ) -> None:
        super().__init__(logits, teacher, wanted, rows)
        self.folder, self.limit, self.accelerator = folder, limit, accelerator
        self.started = False

    def start(self) -> None:
        """Fill the cache before the first epoch, so that a stage which was finished earlier is spared it."""
        if self.started:
            return
        self.started = True

        @torch.no_grad()
        def compute(rows: np.ndarray, batch: Batch) -> dict[FeatureLayer, torch.Tensor]:
            with self.accelerator.autocast():
                return self.features(rows, batch)

        batches = batches_over(self.rows, self.accelerator, "teacher features")
        precision = self.accelerator.mixed_precision
        self.cache = cache_features(
            self.folder, compute, batches, self.rows, precision, self.limit, Together(self.accelerator)
        )
