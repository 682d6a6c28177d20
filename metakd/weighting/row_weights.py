"""The weight of each row for teacher and student, and the checks that prototype weights know no hidden label."""

from __future__ import annotations

import logging

import numpy as np

from metakd.data.encoding import EncodedRows
from metakd.data.labels import ProblemType
from metakd.errors import InputError
from metakd.methods.stage import SHUFFLED, Stage
from metakd.weighting.expertise import expertise_weights, prototype_weights

log = logging.getLogger(__name__)


def teacher_weights(row_weight: str, rows: EncodedRows, seed: int) -> np.ndarray:
    """Weight of each row [n] in a loss of the teacher: "uniform", "balanced", "prototype" or "shuffled_prototype"."""
    if row_weight == "uniform":
        return np.ones(len(rows))
    if row_weight == "balanced":
        return balanced_weights(rows.labels)
    return shuffle_within_domains(rows.weights, rows.domains, seed) if row_weight.startswith(SHUFFLED) else rows.weights


def row_weights(
    stage: Stage, rows: EncodedRows, logits: np.ndarray | None, problem: ProblemType, seed: int
) -> np.ndarray:
    """Weight of each row [n] in every term of the stage.

    Args:
        logits: the teacher's [n, C]; needed for expertise, and for rows without label. Without them such rows, which
            then learn nothing, have balanced weight 1.
        seed: of a placebo's shuffling.

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
    if stage.row_weight == "balanced":  # both groups by themselves, since a label term sees one of them
        weights = np.ones(len(rows))
        weights[rows.labelled] = balanced_weights(rows.labels[rows.labelled])
        if logits is not None:
            weights[~rows.labelled] = balanced_weights(logits[~rows.labelled].argmax(1))
        return weights
    if unlabelled:
        log.info(
            "stage %s: for %d rows without label, the teacher's confidence replaces prototype score and p(y)",
            stage.name, unlabelled,
        )  # fmt: skip
    if stage.weights_before_shuffling == "prototype":
        weights = rows.weights if logits is None else prototype_weights(rows.weights, logits, rows.labelled)
    else:
        assert logits is not None
        weights = expertise_weights(rows.weights, logits, rows.labels, rows.labelled)
    return shuffle_within_domains(weights, rows.domains, seed) if stage.row_weight.startswith(SHUFFLED) else weights


def balanced_weights(classes: np.ndarray) -> np.ndarray:
    """Weight of each row [n] so that all classes count alike and the mean weight is 1, from class numbers [n]."""
    _, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return len(classes) / (len(counts) * counts[numbers])


def shuffle_within_domains(weights: np.ndarray, domains: np.ndarray, seed: int) -> np.ndarray:
    """The weights [n] dealt out anew: each domain keeps its weights, each of its rows gets one of them at random.

    A placebo: if a method does as well with these weights, their values matter and not the rows that they belong to.
    """
    shuffled, generator = weights.copy(), np.random.default_rng(seed)
    for domain in np.unique(domains):
        rows = np.flatnonzero(domains == domain)
        shuffled[rows] = generator.permutation(weights[rows])
    return shuffled


def check_prototype_weights(rows: EncodedRows, used: np.ndarray, table: str) -> None:
    """Refuse prototype weights that are missing, or that were computed with labels which must stay hidden.

    Args:
        rows: all rows of the table.
        used: rows (bool [n]) whose weight is used.

    Raises:
        InputError: names the first such row.
    """
    remedy = (
        "compute the prototype weights again for the same domain, fraction, excluded domain and "
        "seed, or use uniform row weights (for a student, an excluded domain is fraction 0 with rows: [unlabelled])"
    )
    if not rows.weighted:
        raise InputError(f"{table} has no weight column; compute its prototype weights, and name the weighted table")
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

    EasyNLP reduces every loss to one number per batch before it multiplies by the weights, so their mean
    multiplies the batch's mean loss (distill_metakd_application.py, compute_loss).
    """
    means = weights.copy()
    for rows in steps:
        means[rows] = weights[rows].mean()
    return means
