"""Few-shot and zero-shot training: which labels of a domain a model may see."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metakd.data.labels import ProblemType
from metakd.errors import InputError

if TYPE_CHECKING:  # it imports torch, which `visible_labels` does not need
    from metakd.data.encoding import EncodedRows


def visible_labels(guids: Sequence[str], strata: Sequence[Hashable], fraction: float, seed: int) -> np.ndarray:
    """Which rows keep their label, bool [n]: a fraction of each stratum, rounded up; 0 hides every label.

    A row's rank in its stratum depends on its guid and the seed alone. So the order of the table does not matter,
    and a larger fraction contains every smaller one.

    Raises:
        InputError: the fraction is not from 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction is {fraction}; it is a share of the labelled rows, from 0 to 1")
    rows_by_stratum: dict[Hashable, list[int]] = defaultdict(list)
    for row, stratum in enumerate(strata):
        rows_by_stratum[stratum].append(row)
    visible = np.zeros(len(guids), dtype=bool)
    for rows in rows_by_stratum.values():
        count = math.ceil(fraction * len(rows) - 1e-9)  # 0.07 * 100 is 7.000000000000001
        order = random_order([guids[row] for row in rows], seed)
        visible[[rows[i] for i in order[:count]]] = True
    return visible


def random_order(guids: Sequence[str], seed: int) -> list[int]:
    """The numbers of the guids in a random order; whether one comes before another depends on them and the seed."""
    return sorted(range(len(guids)), key=lambda i: hashlib.blake2b(f"{seed} {guids[i]}".encode()).digest())


def hide_labels(rows: EncodedRows, chosen: np.ndarray, fraction: float, seed: int, problem: ProblemType) -> EncodedRows:
    """The same rows; of the chosen ones (bool [n]), only a fraction keeps its label, stratified by class."""
    if fraction == 1:
        return rows
    candidates = np.flatnonzero(chosen & rows.labelled)
    guids = rows.tokens.select(candidates)["guid"][:]
    # The numbers of a regression have no classes; see `metakd.data.labels.stratum`.
    targets = np.zeros(len(candidates)) if problem == "regression" else rows.labels[candidates]
    visible = visible_labels(guids, [tuple(np.atleast_1d(target)) for target in targets], fraction, seed)
    hidden = np.zeros(len(rows), dtype=bool)
    hidden[candidates[~visible]] = True
    return rows.without_labels(hidden)
