"""What the label column means: one class, several classes, or a number."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metakd.errors import InputError, name_list

ProblemType = Literal["single_label", "multi_label", "regression"]
SelectBy = Literal["accuracy", "macro_f1"]  # dev scores that epochs can be compared by
SEPARATOR = "|"
SCORE = "score"  # name of a regression's only output
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # float() takes 1_5 and other digits too
LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
LARGEST_FP32 = float(np.finfo(np.float32).max)
# The names of the problem types in the configuration of a transformers model.
PROBLEM_TYPES: dict[ProblemType, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(frozen=True)
class Labels:
    """The names of a model's outputs, in the order of its logits, and how a label is read.

    Args:
        domain: the domain whose classes alone these are; labels of other domains' rows are then not read. "" for
            classes that all domains share.

    "single_label": a label is one name. "multi_label": names separated by `|`; a lone `|` says that no class
    applies. "regression": a number; the only output is called "score". An empty label means that the row has none.
    """

    names: tuple[str, ...]
    problem: ProblemType = "single_label"
    domain: str = ""

    def of_domain(self, domain: str, found: Container[str]) -> Labels:
        """The classes of a domain that has its own: those of these names that are found in it."""
        return Labels(tuple(name for name in self.names if name in found), self.problem, domain)

    def require_classes(self) -> None:
        """Raise InputError where there is nothing to tell apart: a classifier of one class learns nothing."""
        if self.problem == "single_label" and len(self.names) < 2:
            whose, remedy = "the task", "add rows of other classes, or name the classes in task.labels"
            if self.domain:
                whose, remedy = f"domain {self.domain!r}", "add rows of other classes to the training table"
            raise InputError(
                f"{whose} has the classes {name_list(self.names)}, a classifier needs two or more; {remedy}"
            )

    def first_unknown(self, label: str, names: Container[str] | None = None) -> str | None:
        """The first class name of a label that is not in `names`, or a regression's label if it is not a number.

        Args:
            names: the class names as a set, which is faster where there are many.
        """
        if self.problem == "regression":
            return None if finite_number(label) is not None else label
        known = self.names if names is None else names
        return next((name for name in split_label(label, self.problem) if name not in known), None)

    def targets(self, labels: Sequence[str]) -> np.ndarray:
        """Class numbers [n]; for multi-label 0/1 [n, C]; for a regression numbers [n]. Empty labels give zeros."""
        if self.problem == "regression":
            return np.array([float(label or 0) for label in labels], dtype=np.float32)
        class_number = {name: i for i, name in enumerate(self.names)}
        if self.problem == "single_label":
            return np.array([class_number.get(label, 0) for label in labels], dtype=np.int64)
        targets = np.zeros((len(labels), len(self.names)), dtype=np.float32)
        for row, label in enumerate(labels):
            targets[row, [class_number[name] for name in split_label(label, self.problem)]] = 1
        return targets

    def predicted(self, logits: np.ndarray) -> np.ndarray:
        """Predicted targets of logits [n, C]: the likeliest class, all classes above 0.5, or the number."""
        if self.problem == "regression":
            return logits[:, 0]
        return logits.argmax(1) if self.problem == "single_label" else (logits > 0).astype(np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities [n, C] of logits [n, C]; in a regression the numbers themselves."""
        from scipy.special import expit, softmax  # slow to import, and task files need only the names here

        logits = logits.astype(np.float64)
        if self.problem == "regression":
            return logits
        return expit(logits) if self.problem == "multi_label" else softmax(logits, axis=1)

    def to_text(self, target: np.ndarray | np.generic) -> str:
        """One target as text for the label column."""
        if self.problem == "regression":
            return f"{float(target):.6g}"
        if self.problem == "single_label":
            return self.names[int(target)]
        return SEPARATOR.join(self.names[i] for i in np.flatnonzero(target)) or SEPARATOR


def split_label(label: str, problem: ProblemType) -> list[str]:
    """The class names in a label."""
    if problem == "multi_label":
        return [name for name in map(str.strip, label.split(SEPARATOR)) if name]
    return [label]


def stratum(label: str, problem: ProblemType) -> str:
    """The class of a label for prototypes and few-label samples.

    Each set of labels is a class of its own; a regression has one class, the empty string.
    """
    return "" if problem == "regression" else SEPARATOR.join(sorted(set(split_label(label, problem))))


def sorted_label_names(labels: Iterable[str], problem: ProblemType) -> list[str]:
    """The class names that occur in labels, sorted; for a regression the name of its output."""
    if problem == "regression":
        return [SCORE]
    return sorted({name for label in labels if label for name in split_label(label, problem)})


def require_different(names: Iterable[str], place: str) -> None:
    """Refuse names that are one value in two spellings: 1, 1.0 and true, or 0, 0.0 and false.

    Programs that write tables change between these; as text they would be several classes.
    """
    name_of_value: dict[str, str] = {}
    for name in names:
        number = None if LEADING_ZERO.match(name) else finite_number(name)  # 007 may be a code
        value = {"true": "1.0", "false": "0.0"}.get(name.casefold(), name) if number is None else repr(number)
        other = name_of_value.setdefault(value, name)
        if other != name:
            raise InputError(f"{place}: {other!r} and {name!r} are one value in two spellings; write it in one way")


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in case, white space, invisible characters or their form in Unicode; one list a group."""
    groups: dict[str, list[str]] = {}
    for name in names:
        visible = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
        groups.setdefault(" ".join(visible.split()).casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def finite_number(value: Any) -> float | None:
    """A number, or text that is one, as a float; None if fp32 cannot hold it, or it is anything else."""
    if isinstance(value, bool) or (isinstance(value, str) and not NUMBER.fullmatch(value.strip())):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= LARGEST_FP32 else None
