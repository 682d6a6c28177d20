"""Losses of a model's outputs by problem type: of its logits against a teacher's, and against the label."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from metakd.data.labels import ProblemType
from metakd.objectives import losses

# Losses of logits that take a temperature, and losses that do not.
SOFT: dict[ProblemType, Mapping[str, Callable[[Tensor, Tensor, float], Tensor]]] = {
    "single_label": {
        "soft_cross_entropy": losses.soft_cross_entropy,
        "kl": losses.kl_divergence,
        "reverse_kl": losses.reverse_kl,
        "jensen_shannon": losses.jensen_shannon,
    },
    "multi_label": {"soft_cross_entropy": losses.soft_binary_cross_entropy, "kl": losses.binary_kl},
    "regression": {},
}
HARD: dict[ProblemType, Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "single_label": {"mse": losses.logits_mse, "cosine": losses.logits_cosine, "hard_label": losses.hard_label},
    "multi_label": {"mse": losses.logits_mse, "hard_label": losses.hard_binary_labels},
    "regression": {"mse": losses.logits_mse},
}
LABEL: dict[ProblemType, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "single_label": ("cross_entropy", losses.cross_entropy),
    "multi_label": ("binary_cross_entropy", losses.binary_cross_entropy),
    "regression": ("squared_error", losses.squared_error),
}
