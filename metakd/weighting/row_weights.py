"""The weight of each row in a stage, and the checks that prototype weights know no hidden label."""

from __future__ import annotations

import logging

import numpy as np

from metakd.data.encoding import EncodedRows
from metakd.data.labels import ProblemType
from metakd.errors import InputError
from metakd.methods.stage import Stage
from metakd.weighting.expertise import expertise_weights, prototype_weights

log = logging.getLogger(__name__)


def row_weights(stage: Stage, rows: EncodedRows, logits: np.ndarray | None, problem: ProblemType) -> np.ndarray:
    """Weight of each row [n] in every term of the stage.

    Args:
        logits: the teacher's [n, C]; needed for expertise, and for rows without label.

    Raises:
        InputError: rows without label would be weighted by the teacher's confidence, but the task has not one class
            per row.
    """
    if stage.row_weight == "uniform":
        return np.ones(len(rows))
    unlabelled = int((~rows.labelled).sum())
    if unlabelled and problem != "single_label":
        raise InputError(
            f"stage {stage.name} weights rows without label by the teacher's confidence in one class, which a "
            f"{problem} task does not have; use row_weight: uniform"
        )
    if unlabelled:
        log.info(
            "stage %s: for %d rows without label, the teacher's confidence replaces prototype score and p(y)",
            stage.name, unlabelled,
        )  # fmt: skip
    if stage.row_weight == "prototype":
        return rows.weights if logits is None else prototype_weights(rows.weights, logits, rows.labelled)
    assert logits is not None
    return expertise_weights(rows.weights, logits, rows.labels, rows.labelled)


def check_prototype_weights(rows: EncodedRows, used: np.ndarray, table: str) -> None:
    """Refuse prototype weights that are missing, or that were computed with labels which must stay hidden.

    Args:
        rows: all rows of the table.
        used: rows (bool [n]) whose weight is used.

    Raises:
        InputError: names the first such row.
    """
    remedy = (
        "make the table again with data_prep/prototype_weights.py for the same domain, fraction, excluded domain and "
        "seed, or use uniform row weights (for a student, an excluded domain is fraction 0 with rows: [unlabelled])"
    )
    if not rows.weighted:
        raise InputError(f"{table} has no weight column; make it with data_prep/prototype_weights.py")
    missing = np.flatnonzero(used & np.isnan(rows.weights))
    if len(missing):
        raise InputError(f"{table}: row {missing[0] + 1} has no weight ({len(missing)} rows have none); {remedy}")
    leaking = np.flatnonzero(~rows.labelled & ~np.isnan(rows.weights))
    if len(leaking):
        raise InputError(
            f"{table}: row {leaking[0] + 1} has a weight, but its label is hidden ({len(leaking)} such rows): the "
            f"weights were computed with hidden labels; {remedy}"
        )


def batch_means(weights: np.ndarray, steps: list[np.ndarray]) -> np.ndarray:
    """Each row's weight [n] replaced by the mean of its step.

    The released code reduces every loss to one number per batch before it multiplies by the weights, so their mean
    multiplies the batch's mean loss (distill_metakd_application.py, compute_loss).
    """
    means = weights.copy()
    for rows in steps:
        means[rows] = weights[rows].mean()
    return means
