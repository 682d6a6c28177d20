"""Prototype scores: how typical a row is of its class, in its own domain and in the others.

Meta-KD, section 3.2. One pass over the embeddings sums the centroids, a second one scores the
rows; both read blocks, so memory does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from metakd.errors import InputError

Variant = Literal["paper", "released"]
BLOCK = 8192  # rows at a time


def prototype_scores(
    embeddings: np.ndarray,
    labels: np.ndarray,
    domains: np.ndarray,
    variant: Variant = "paper",
    alpha: float = 0.5,
) -> np.ndarray:
    """t of every row [n], in [0, 1]; NaN where the label may not be seen (domain -1).

    "paper": t_i = alpha cos(p_k^m, E_i) + (1 - alpha) mean_{k' != k} cos(p_k'^m, E_i) for a row of domain k
    and class m, with p_k^m the mean embedding of the domain's rows of the class.
    "released": t_i = (cos(p_k, E_i) + cos(mean of the other p_k', E_i)) / 2, with p_k the mean of all of the
    domain's rows (generate_meta_weights.py of the released code).

    Where a formula has no value: with one domain every score is 1, since nothing can be transferred;
    domains without a row of the class are left out of the mean; where no other domain has the class, the own
    prototype counts alone; the cosine of a zero vector is 0. Negative scores become 0: a row may be ignored,
    but is never unlearned.

    Args:
        embeddings: E [n, D], may be memory-mapped.
        labels, domains: numbers [n]; rows of domain -1 neither count in a prototype nor have a score.
        alpha: weight of the own domain, 0 to 1.
    """
    seen = domains >= 0
    if len(np.unique(domains[seen])) == 1:
        return np.where(seen, 1.0, np.nan)
    if variant == "released":
        labels, alpha = np.zeros_like(labels), 0.5
    prototypes, present = centroids(embeddings, labels, domains)
    if variant == "released":
        others = np.stack([np.delete(prototypes[:, 0], k, axis=0).mean(0) for k in range(len(prototypes))])
        others = unit(others)
    directions = unit(prototypes)
    scores = np.empty(len(labels))
    for rows, block in blocks(embeddings):
        vectors = unit(block)
        own = np.einsum("nd,nd->n", vectors, directions[domains[rows], labels[rows]])
        if variant == "released":
            elsewhere, weight = (
                np.einsum("nd,nd->n", vectors, others[domains[rows]]),
                np.full(len(own), alpha),
            )
        else:
            elsewhere, counts = _mean_of_other_domains(vectors, labels[rows], domains[rows], directions, present)
            weight = np.where(counts > 0, alpha, 1.0)
        scores[rows] = weight * own + (1 - weight) * elsewhere
    return np.where(seen, np.clip(scores, 0.0, 1.0), np.nan)


def centroids(embeddings: np.ndarray, labels: np.ndarray, domains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean embedding per domain and class [K, C, D] in float64, and which of them have rows [K, C]."""
    shape = (int(domains.max()) + 1, int(labels.max()) + 1)
    unseen = shape[0] * shape[1]  # a cell of its own for rows of domain -1
    cells = np.where(domains >= 0, domains * shape[1] + labels, unseen)
    sums = np.zeros((unseen + 1, embeddings.shape[1]))
    for rows, block in blocks(embeddings):
        for cell in np.unique(cells[rows]):
            sums[cell] += block[cells[rows] == cell].sum(0, dtype=np.float64)
    counts = np.bincount(cells, minlength=len(sums))
    means = sums / np.maximum(counts, 1)[:, None]
    return means[:unseen].reshape(*shape, -1), (counts[:unseen] > 0).reshape(shape)


def _mean_of_other_domains(
    vectors: np.ndarray, labels: np.ndarray, domains: np.ndarray, directions: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine to the class prototypes of the other domains [n], and how many of those there are [n]."""
    total, counts = np.zeros(len(vectors)), np.zeros(len(vectors))
    for k in range(len(directions)):
        cosines = np.einsum("nd,nd->n", vectors, directions[k, labels])
        counted = (domains != k) & present[k, labels]
        total += np.where(counted, cosines, 0.0)
        counts += counted
    return total / np.maximum(counts, 1), counts


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 along the last axis; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)


def blocks(embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(embeddings), BLOCK):
        rows = slice(start, start + BLOCK)
        block = np.asarray(embeddings[rows], dtype=np.float64)
        if not np.isfinite(block).all():
            wrong = start + int(np.flatnonzero(~np.isfinite(block).all(1))[0]) + 1
            raise InputError(f"the embedding of row {wrong} is not finite; extract the embeddings again")
        yield rows, block
