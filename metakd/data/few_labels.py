"""Few-shot and zero-shot: which labels of a domain may be seen, and weights that must not know the others."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metakd.data.labels import ProblemType
from metakd.errors import InputError

if TYPE_CHECKING:
    from metakd.data.encoding import EncodedRows


def visible(guids: Sequence[str], strata: Sequence[Hashable], fraction: float, seed: int) -> np.ndarray:
    """Which rows [n] keep their label: a share of each stratum (rounded up), the same rows for the same seed.

    The order in which rows become visible is fixed by guid and seed alone, so a smaller fraction is always inside
    a larger one, whatever the order of the table; 0 hides every label.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"--fraction {fraction}: it is a share of the domain's labelled rows, from 0 to 1")
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, stratum in enumerate(strata):
        members[stratum].append(row)
    kept = np.zeros(len(guids), dtype=bool)
    for rows in members.values():
        rows.sort(key=lambda row: hashlib.blake2b(f"{seed} {guids[row]}".encode()).digest())
        kept[rows[: math.ceil(fraction * len(rows) - 1e-9)]] = True
    return kept


def hide_labels(rows: EncodedRows, chosen: np.ndarray, fraction: float, seed: int, problem: ProblemType) -> EncodedRows:
    """The same rows, of which the chosen ones (bool [n]) keep a label only in a fraction, stratified by class."""
    if fraction == 1:
        return rows
    where = np.flatnonzero(chosen & rows.labelled)
    guids = rows.tokens.select(where)["guid"][:]
    # The numbers of a regression have no classes; see `metakd.data.labels.stratum`.
    classes = np.zeros(len(where)) if problem == "regression" else rows.labels[where]
    keep = visible(guids, [tuple(np.atleast_1d(value)) for value in classes], fraction, seed)
    hidden = np.zeros(len(rows), dtype=bool)
    hidden[where[~keep]] = True
    return rows.without_labels(hidden)


def check_weights(rows: EncodedRows, used: np.ndarray, table: str) -> None:
    """Refuse prototype weights that are missing, or that were made with labels which may not be seen.

    Args:
        used: rows (bool [n]) whose weight is wanted; the others must have none where they have no label to be seen.
    """
    remedy = (
        "make the table again with data_prep/prototype_weights.py and the same --domain, --fraction, --exclude_domain "
        "and --seed, or use uniform row weights (to a student, an excluded domain is --fraction 0 with rows: "
        "[unlabelled])"
    )
    if not rows.weighted:
        raise InputError(f"{table} has no weight column; make it with data_prep/prototype_weights.py")
    missing = np.flatnonzero(used & np.isnan(rows.weights))
    if len(missing):
        raise InputError(f"{table}: row {missing[0] + 1} has no weight ({len(missing)} rows have none); {remedy}")
    known = np.flatnonzero(~rows.labelled & ~np.isnan(rows.weights))
    if len(known):
        raise InputError(
            f"{table}: row {known[0] + 1} has a weight, but its label may not be seen ({len(known)} such rows): the "
            f"weights were made with hidden labels; {remedy}"
        )
