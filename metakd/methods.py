"""A distillation method is data: stages, each a sum of terms, each term one match of teacher and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from metakd.config import Task
from metakd.errors import InputError, nearest

Feature = Literal[
    "embedding", "hidden", "attention_scores", "attention_probabilities", "transferable", "logits", "label"
]


@dataclass
class Term:
    """One term of a stage's objective: a number per row, weighted per row, then averaged and scaled.

    Args:
        feature: what is matched. "embedding" is the output of the embedding layer, "hidden" that of the
            mapped layers, "attention_scores" the raw scores (before the softmax), "transferable" the
            domain head's feature h; "label" needs no teacher.
        loss: name of the per-row loss in metakd/objectives/losses.py that fits the feature.
        scale: factor of the term in the objective.
        layers: layer map of "hidden" and the attention features: "uniform" (student layer j learns from
            teacher layer j*Lt/Ls), "last", or [[teacher, student], ...], counted from 1.
        temperature: divides both logits; the loss is multiplied by its square.
    """

    feature: Feature
    loss: str
    scale: float = 1.0
    layers: Literal["uniform", "last"] | list[list[int]] = "uniform"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")


@dataclass
class Stage:
    """A training run with one objective.

    Args:
        name: names its folder; `--stage NAME` runs it alone.
        terms: summed.
        epochs: passes over the rows, unless the task file says otherwise.
        learning_rate: peak rate.
        row_weight: weight of each row in every term: "uniform", "prototype" (t) or "expertise" (lambda).
        select: which epoch is handed on: the one with the best dev accuracy, or the last.
    """

    name: str
    terms: list[Term]
    epochs: int
    learning_rate: float
    row_weight: Literal["uniform", "prototype", "expertise"] = "uniform"
    select: Literal["dev", "last"] = "dev"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.learning_rate <= 0 or not self.terms:
            raise ValueError(f"stage {self.name}: needs epochs of at least 1, a learning_rate above 0, and terms")


@dataclass
class Method:
    """A distillation method.

    Args:
        stages: run in this order, each from the student that the one before left.
    """

    stages: list[Stage] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a method needs stages with different names, not {names}")

    def check_stages(self, task: Task) -> None:
        """Refuse a task file with epochs or rates for a stage that neither the method nor the teacher has."""
        known = ["teacher", *(stage.name for stage in self.stages)]
        for name in (*task.epochs, *task.learning_rates):
            if name not in known:
                raise InputError(f"task.epochs, learning_rates: no stage {name!r} among {known}{nearest(name, known)}")
