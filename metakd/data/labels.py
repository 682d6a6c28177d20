"""What the label column means: one class, several classes, or a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ProblemType = Literal["single_label", "multi_label", "regression"]
SEPARATOR = "|"
SCORE = "score"  # the one output of a regression
# What transformers calls the problem types, as a model's configuration holds them.
PROBLEM_TYPES: dict[ProblemType, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(frozen=True)
class Labels:
    """The names of a model's outputs, in the order of its logits, and how a label is read.

    "single_label": one name. "multi_label": names separated by `|`; a lone `|` is a row to which no class
    applies. "regression": a number; the one output is called "score". An empty label is no label at all.
    """

    names: tuple[str, ...]
    problem: ProblemType = "single_label"

    def wrong(self, label: str) -> str | None:
        """The first part of a label that is not among the names, or is no number; None if all is well."""
        if self.problem == "regression":
            return None if is_number(label) else label
        return next((part for part in parts(label, self.problem) if part not in self.names), None)

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Class numbers [n]; 0/1 [n, C] for multi-label; numbers [n] for a regression. Empty labels give zeros."""
        if self.problem == "regression":
            return np.array([float(label or 0) for label in labels], dtype=np.float32)
        number = {name: i for i, name in enumerate(self.names)}
        if self.problem == "single_label":
            return np.array([number.get(label, 0) for label in labels], dtype=np.int64)
        found = np.zeros((len(labels), len(self.names)), dtype=np.float32)
        for row, label in enumerate(labels):
            found[row, [number[part] for part in parts(label, self.problem)]] = 1
        return found

    def predicted(self, logits: np.ndarray) -> np.ndarray:
        """Targets as the logits [n, C] have them: the likeliest class, the classes above 0.5, or the number."""
        if self.problem == "regression":
            return logits[:, 0]
        return logits.argmax(1) if self.problem == "single_label" else (logits > 0).astype(np.float32)

    def spelt(self, target: np.ndarray | np.generic) -> str:
        """One target as the label column has it."""
        if self.problem == "regression":
            return f"{float(target):.6g}"
        if self.problem == "single_label":
            return self.names[int(target)]
        return SEPARATOR.join(self.names[i] for i in np.flatnonzero(target)) or SEPARATOR


def parts(label: str, problem: ProblemType) -> list[str]:
    """The class names in a label."""
    if problem == "multi_label":
        return [part for part in label.split(SEPARATOR) if part]
    return [label]


def stratum(label: str, problem: ProblemType) -> str:
    """What prototypes and few-label samples take for a label's class: several classes are one, numbers have none."""
    if problem == "regression":
        return ""
    return SEPARATOR.join(sorted(parts(label, problem))) if problem == "multi_label" else label


def names_in(labels: Iterable[str], problem: ProblemType) -> list[str]:
    """The class names that occur in labels, sorted."""
    if problem == "regression":
        return [SCORE]
    return sorted({part for label in labels if label for part in parts(label, problem)})


def is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
