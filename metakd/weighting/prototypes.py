"""Prototype scores: how typical a row is of its class, in its own domain and in the others.

Meta-KD, section 3.2. A first pass over the embeddings sums the centroids, a second one scores the rows. Both read
blocks of rows, so the process holds a few numbers per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from metakd.errors import InputError

Variant = Literal["paper", "easynlp"]
BLOCK = 8192  # rows at a time


def prototype_scores(
    embeddings: np.ndarray,
    labels: np.ndarray,
    domains: np.ndarray,
    variant: Variant = "paper",
    alpha: float = 0.5,
) -> np.ndarray:
    """t of every row [n], in [0, 1]; NaN where the label is hidden (domain -1).

    "paper": t_i = alpha cos(p_k^m, E_i) + (1 - alpha) mean_{k' != k} cos(p_k'^m, E_i) for a row of domain k
    and class m, with p_k^m the mean embedding of the domain's rows of the class.
    "easynlp": t_i = (cos(p_k, E_i) + cos(mean of the other p_k', E_i)) / 2, with p_k the mean of all of the
    domain's rows (generate_meta_weights.py of EasyNLP).

    Where a formula has no value: with one domain every score is 1, since nothing is transferred. Domains without
    a row of the class are left out of the mean; where no other domain has the class, the row's own prototype counts
    alone. The cosine of a zero vector is 0. Negative scores become 0: a row may be ignored, but is never unlearned.

    Args:
        embeddings: E [n, D], may be memory-mapped.
        labels, domains: numbers [n]; rows of domain -1 are in no prototype and have no score.
        alpha: weight of the own domain, 0 to 1.
    """
    visible = domains >= 0
    if domains.min(where=visible, initial=domains.max()) == domains.max():  # one domain
        return np.where(visible, 1.0, np.nan)
    if variant == "easynlp":
        labels, alpha = np.zeros_like(labels), 0.5
    prototypes, present = centroids(embeddings, labels, domains)
    directions = unit(prototypes)
    counts = present.sum(0)  # domains that have the class [C]
    if variant == "easynlp":
        others = [np.delete(prototypes[:, 0], k, axis=0).mean(0) for k in range(len(prototypes))]
        elsewhere, group = unit(np.stack(others)), domains
    else:
        # A sum of cosines is the product with a sum of directions: one product for any number of domains.
        elsewhere, group = (directions * present[..., None]).sum(0), labels
    columns = np.concatenate([directions.reshape(-1, embeddings.shape[1]), elsewhere]).T
    scores = np.empty(len(labels))
    for rows, block in blocks(embeddings):
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        products = block @ columns.astype(block.dtype)
        cosines = products / np.where(lengths > 0, lengths, 1)[:, None]
        each = np.arange(len(block))
        cells = domains[rows] * prototypes.shape[1] + labels[rows]
        own, other = cosines[each, cells], cosines[each, len(prototypes) * prototypes.shape[1] + group[rows]]
        weight = np.full(len(block), alpha)
        if variant == "paper":
            domains_left = counts[labels[rows]] - 1
            other = (other - own) / np.maximum(domains_left, 1)
            weight[domains_left < 1] = 1.0
        scores[rows] = weight * own + (1 - weight) * other
    np.clip(scores, 0.0, 1.0, out=scores)
    scores[~visible] = np.nan
    return scores


def centroids(embeddings: np.ndarray, labels: np.ndarray, domains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean embedding per domain and class [K, C, D] in float64, and which of them have rows [K, C]."""
    shape = (int(domains.max()) + 1, int(labels.max()) + 1)
    last = shape[0] * shape[1]  # collects the hidden rows
    sums, counts = np.zeros((last + 1, embeddings.shape[1])), np.zeros(last + 1, dtype=np.int64)
    for rows, block in blocks(embeddings):
        each = np.arange(len(block))
        cells = np.where(domains[rows] >= 0, domains[rows] * shape[1] + labels[rows], last)
        of_cell = csr_array((np.ones(len(block), block.dtype), (cells, each)), (len(sums), len(block)))
        block_sums = of_cell @ block
        if not np.isfinite(block_sums).all():
            wrong = rows.start + int(np.flatnonzero(~np.isfinite(block).all(1))[0]) + 1
            raise InputError(f"the embedding of row {wrong} is not finite; extract the embeddings again")
        sums += block_sums
        counts += np.bincount(cells, minlength=len(counts))
    means = sums[:-1] / np.maximum(counts[:-1], 1)[:, None]
    return means.reshape(*shape, -1), (counts[:-1] > 0).reshape(shape)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 along the last axis; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)


def blocks(embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Row slices and their embeddings, in a type that matrix products are computed in."""
    for start in range(0, len(embeddings), BLOCK):
        rows = slice(start, min(start + BLOCK, len(embeddings)))
        block = np.asarray(embeddings[rows])
        yield rows, block if block.dtype in (np.float32, np.float64) else block.astype(np.float32)
