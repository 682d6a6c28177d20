"""What can be matched in a model, and which per-row losses fit it: the vocabulary of method files."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedConfig

from metakd.data.labels import ProblemType
from metakd.objectives import losses, matches

STATES = ("embedding", "hidden", "cls")
ATTENTION = ("attention_scores", "attention_probabilities")
RELATIONS = ("query_key_relation", "value_relation")
LAYERED = ("hidden", "cls", *ATTENTION, *RELATIONS)
# Features of the teacher's inside, for which its tokens must be the student's.
TOKEN_FEATURES = (*STATES, *ATTENTION, *RELATIONS, "transferable")
STATE_LOSSES = {"mse": matches.hidden_mse, "cosine": matches.hidden_cosine, "gram_mse": matches.gram_mse}
# Losses of the inside: (student, teacher, mask), but for "transferable", which has no tokens.
MATCHES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "embedding": STATE_LOSSES,
    "hidden": STATE_LOSSES,
    "cls": {"mse": matches.cls_mse, "normalised_mse": matches.cls_normalised_mse},
    "attention_scores": {"mse": matches.attention_score_mse},
    "attention_probabilities": {
        "mse": matches.attention_probability_mse,
        "cross_entropy": matches.attention_cross_entropy,
        "kl": matches.attention_kl,
    },
    "query_key_relation": {"kl": matches.relation_kl},
    "value_relation": {"kl": matches.relation_kl},
    "transferable": {"mse": matches.feature_mse},
}
# Losses of the outputs by problem type; those of SOFT take a temperature.
SOFT: dict[ProblemType, dict[str, Callable[[Tensor, Tensor, float | Tensor], Tensor]]] = {
    "single_label": {
        "soft_cross_entropy": losses.soft_cross_entropy,
        "kl": losses.kl_divergence,
        "reverse_kl": losses.reverse_kl,
        "jensen_shannon": losses.jensen_shannon,
    },
    "multi_label": {"soft_cross_entropy": losses.soft_binary_cross_entropy, "kl": losses.binary_kl},
    "regression": {},
}
HARD: dict[ProblemType, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "single_label": {"mse": losses.logits_mse, "cosine": losses.logits_cosine},
    "multi_label": {"mse": losses.logits_mse},
    "regression": {"mse": losses.logits_mse},
}
LABEL: dict[ProblemType, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "single_label": ("cross_entropy", losses.cross_entropy),
    "multi_label": ("binary_cross_entropy", losses.binary_cross_entropy),
    "regression": ("squared_error", losses.squared_error),
}


def losses_of(feature: str, problem: ProblemType) -> list[str]:
    """Names of the losses that a feature has."""
    if feature == "label":
        return [LABEL[problem][0]]
    return [*SOFT[problem], *HARD[problem]] if feature == "logits" else list(MATCHES[feature])


def features_of(config: PreTrainedConfig) -> list[str]:
    """What can be matched in a model: all of it in a transformer, what has no attention otherwise."""
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        return ["hidden", "transferable", "logits", "label"]
    grouped = (getattr(config, "num_key_value_heads", None) or heads) != heads  # keys narrower than queries
    return [
        "embedding",
        "hidden",
        "cls",
        *ATTENTION,
        *(() if grouped else RELATIONS),
        "transferable",
        "logits",
        "label",
    ]
