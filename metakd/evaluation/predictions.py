"""A model's predictions row by row, as evaluations keep them: guid, label and probabilities, never text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metakd.data.labels import ProblemType

DECIMALS = 4


def prediction_rows(
    guids: Sequence[str], targets: np.ndarray, values: np.ndarray, problem: ProblemType
) -> dict[str, list[Any]]:
    """Guids, labels and probabilities as lists that JSON can hold.

    Args:
        targets: class numbers [n], 0/1 [n, C], or numbers [n] (see `Labels.targets`).
        values: probabilities [n, C], see `Labels.probabilities`.
    """
    return {
        "guid": list(guids),
        "label": targets.tolist() if problem == "regression" else targets.astype(int).tolist(),
        "probabilities": rounded(values, problem).tolist(),
    }


def predicted(values: np.ndarray, problem: ProblemType) -> np.ndarray:
    """Targets (see `Labels.targets`) that probabilities [n, C] predict."""
    if problem == "regression":
        return values[:, 0]
    return values.argmax(axis=1) if problem == "single_label" else (values > 0.5).astype(np.float32)


def rounded(values: np.ndarray, problem: ProblemType) -> np.ndarray:
    """Probabilities [n, C] with four decimals that predict the same: near a tie the winner keeps a lead of 0.0001."""
    unit = 10.0**-DECIMALS
    result = values.round(DECIMALS)
    if problem == "multi_label":
        result = np.where((values > 0.5) & (result <= 0.5), 0.5 + unit, result)
    elif problem == "single_label":
        each, winners = np.arange(len(values)), values.argmax(axis=1)
        tied = result.argmax(axis=1) != winners
        result[each[tied], winners[tied]] += unit
    return result.round(DECIMALS)
