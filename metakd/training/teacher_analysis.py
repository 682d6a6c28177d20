"""What a trained teacher does with its training rows: how sure it is, how it weighs them, where it places them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from metakd.config import Task
from metakd.data.encoding import Batch, EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.row_store import RowStore
from metakd.data.tables import TRAINING
from metakd.errors import InputError
from metakd.evaluation.predictions import rounded
from metakd.models.classifier import label_order
from metakd.models.pooling import masked_mean
from metakd.models.views import ViewRequest, compute_views
from metakd.training.inference import infer_batches
from metakd.training.teachers import Teacher, load_teacher
from metakd.weighting.expertise import expertise_weights

FOLDS = 5  # of the rows on which domains are told apart


def analyse_teacher(
    task: Task,
    teacher_name: str,
    embeddings: Path,
    labels: Labels,
    domains: list[str],
    most_rows: int,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Columns of numbers about labelled training rows, as JSON can hold them.

    Args:
        task: its training table must have prototype weights.
        embeddings: row store of E(x) of the same table.
        labels, domains: the task's.
        most_rows: of a longer table a random sample is analysed.

    Returns:
        teacher, recipe: its folder and how it was trained.
        table, table_rows: the training table and its labelled rows.
        labels, domains: names.
        rows: columns of equal length: guid; domain and label as numbers; prototype (t) and expertise (lambda) weights;
            probabilities of each label; before, after: 2-D projections (PCA) of E(x) and of the teacher's feature.
        feature: what "after" shows: "h", the transferable feature, or "mean", the mean of the token states.
        told: fraction of rows whose domain the nearest domain mean tells, of E(x) ("before") and of the feature
            ("after"), on rows that the means were not made of.

    Raises:
        InputError: the task has not one class per row, or its table has no prototype weights.
    """
    if labels.problem != "single_label":
        raise InputError(f"a teacher is analysed on tasks with one class per row; this one is {labels.problem}")
    teacher = load_teacher(teacher_name, task, labels, domains, accelerator.device)
    if teacher.labels is None:
        raise InputError(f"{teacher_name} has no trained classifier")
    all_rows = encode(task.train, teacher.tokenizer, task.max_length, labels, domains, TRAINING)
    store = RowStore(embeddings)
    store.require_guids(all_rows.guids)
    usable = np.flatnonzero(all_rows.labelled & ~np.isnan(all_rows.weights)) if all_rows.weighted else np.array([])
    if not len(usable):
        raise InputError(f"task.train: {task.train} has no prototype weights; name the weighted table")
    sample = usable
    if len(usable) > most_rows:
        sample = np.sort(np.random.default_rng(task.training.seed).choice(usable, most_rows, replace=False))
    rows = all_rows.select(sample)
    logits, features = logits_and_features(teacher, rows, accelerator)
    logits = logits[:, label_order(teacher.labels.names, labels, teacher_name)]
    vectors = {"before": np.asarray(store.values[sample]), "after": features}
    expertise = expertise_weights(rows.weights, logits, rows.labels, rows.labelled)
    return {
        "teacher": teacher_name,
        "recipe": teacher.info.recipe if teacher.info else {},
        "table": task.train,
        "table_rows": int(all_rows.labelled.sum()),
        "labels": list(labels.names),
        "domains": domains,
        "rows": {
            "guid": list(rows.guids),
            "domain": rows.domains.tolist(),
            "label": rows.labels.tolist(),
            "prototype": rows.weights.round(4).tolist(),
            "expertise": expertise.round(4).tolist(),
            "probabilities": rounded(softmax(logits.astype(np.float64), axis=1), labels.problem).tolist(),
            **{name: project(values).round(3).tolist() for name, values in vectors.items()},
        },
        "feature": "h" if teacher.head is not None else "mean",
        "told": {name: domain_told(values, rows.domains) for name, values in vectors.items()},
    }


def logits_and_features(teacher: Teacher, rows: EncodedRows, accelerator: Accelerator) -> tuple[np.ndarray, np.ndarray]:
    """Logits [n, C] and features [n, D]: h of the domain head if the teacher has one, else the mean token state."""
    last = teacher.model.config.num_hidden_layers
    request = ViewRequest(hidden=frozenset({last}), transferable=teacher.head is not None)

    def compute(batch: Batch) -> Tensor:
        views = compute_views(teacher.model, batch, request, teacher.head)
        feature = views.transferable
        if feature is None:
            feature = masked_mean(views.hidden[last], batch["content_mask"])
        return torch.cat([views.logits, feature], dim=1)

    classes = teacher.model.config.num_labels
    values = np.zeros((len(rows), classes + teacher.model.config.hidden_size), dtype=np.float32)
    for chosen, computed in infer_batches(rows, teacher.model, compute, accelerator, "teacher on its training rows"):
        values[chosen] = computed
    return values[:, :classes], values[:, classes:]


def project(values: np.ndarray) -> np.ndarray:
    """The first two principal components [n, 2] of vectors [n, D]; zeros if there are fewer than three rows."""
    if min(values.shape) < 2 or len(values) < 3:
        return np.zeros((len(values), 2))
    return PCA(2, svd_solver="full").fit_transform(values.astype(np.float64))


def domain_told(values: np.ndarray, domains: np.ndarray) -> float | None:
    """Fraction of rows whose nearest domain mean is their own domain's, cross-validated; None if it cannot be told.

    Args:
        values: [n, D].
        domains: numbers [n].
    """
    counts = np.bincount(domains)
    if len(counts[counts > 0]) < 2 or counts[counts > 0].min() < FOLDS:
        return None
    return round(float(cross_val_score(NearestCentroid(), values, domains, cv=FOLDS).mean()), 4)
