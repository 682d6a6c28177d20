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
LARGEST_EMBEDDING = 1e15  # of an embedding: its square, and sums of such squares, are finite in fp32


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
        labels = np.zeros_like(labels)
    # A cell is a pair of domain and class that has rows; there are no more of them than rows.
    classes = int(labels.max()) + 1
    pairs, cells = np.unique(np.where(visible, domains * classes + labels, -1), return_inverse=True)
    if pairs[0] < 0:  # the hidden rows
        pairs, cells = pairs[1:], cells - 1
    sums, counts = cell_sums(embeddings, cells, len(pairs))
    if variant == "easynlp":
        sums /= counts[:, None]
        others = unit((sums.sum(0) - sums) / (len(pairs) - 1))
        own, other = cosines(embeddings, cells, unit(sums), others, cells)
        scores = (own + other) / 2
    else:
        # A sum of cosines is the product with a sum of directions: one product for any number of domains.
        directions, class_of_cell = unit(sums), pairs % classes
        del sums
        ones, every = np.ones(len(pairs), directions.dtype), np.arange(len(pairs))
        of_class = csr_array((ones, (class_of_cell, every)), (classes, len(pairs)))  # some may have hidden rows alone
        own, other = cosines(embeddings, cells, directions, of_class @ directions, labels)
        others_count = np.bincount(class_of_cell, minlength=classes)[labels] - 1
        other = (other - own) / np.maximum(others_count, 1)
        weight = np.where(others_count < 1, 1.0, alpha)
        scores = weight * own + (1 - weight) * other
    np.clip(scores, 0.0, 1.0, out=scores)
    scores[~visible] = np.nan
    return scores


def cell_sums(embeddings: np.ndarray, cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the embeddings of each cell [cells, D] in float64, and its number of rows [cells].

    Args:
        cells: cell of each row [n]; -1 for none.
        count: number of cells.

    Raises:
        InputError: an embedding is not finite, or too large to be multiplied in fp32.
    """
    sums = np.zeros((count, embeddings.shape[1]))
    for rows, block in blocks(embeddings):
        if not (np.abs(block) <= LARGEST_EMBEDDING).all():
            wrong = rows.start + int(np.flatnonzero(~(np.abs(block) <= LARGEST_EMBEDDING).all(1))[0]) + 1
            raise InputError(
                f"the embedding of row {wrong} is not finite, or holds numbers above {LARGEST_EMBEDDING:g}; extract "
                "the embeddings again, with a model whose outputs are sound"
            )
        block_cells, cell_of_row = np.unique(cells[rows], return_inverse=True)
        of_cell = csr_array((np.ones(len(block), block.dtype), (cell_of_row, np.arange(len(block)))))
        hidden = int(block_cells[0] < 0)
        sums[block_cells[hidden:]] += (of_cell @ block)[hidden:]
    return sums, np.bincount(cells[cells >= 0], minlength=count)


def cosines(
    embeddings: np.ndarray, cells: np.ndarray, directions: np.ndarray, elsewhere: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Product of each row's direction with directions[cells] [n], and with elsewhere[group] [n]."""
    own, other = np.empty(len(cells)), np.empty(len(cells))
    for rows, block in blocks(embeddings):
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        lengths[lengths == 0] = 1
        own[rows] = np.einsum("nd,nd->n", block, directions[cells[rows]].astype(block.dtype)) / lengths
        other[rows] = np.einsum("nd,nd->n", block, elsewhere[group[rows]].astype(block.dtype)) / lengths
    return own, other


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, D] of length 1, in fp32; a zero vector stays zero."""
    directions = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        lengths = np.linalg.norm(block, axis=-1, keepdims=True)
        lengths[lengths == 0] = 1
        directions[start : start + BLOCK] = block / lengths
    return directions


def blocks(embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Row slices and their embeddings, in a type that matrix products are computed in."""
    for start in range(0, len(embeddings), BLOCK):
        rows = slice(start, min(start + BLOCK, len(embeddings)))
        block = np.asarray(embeddings[rows])
        yield rows, block if block.dtype in (np.float32, np.float64) else block.astype(np.float32)
