"""From a term of a method file to a number per row: which layers, which loss, and whether it fits the models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedConfig

from metakd.data.encoding import Batch
from metakd.errors import InputError, nearest
from metakd.methods import Term
from metakd.models.views import Need, Views
from metakd.objectives import losses
from metakd.objectives.layer_maps import Pairs, resolve

log = logging.getLogger(__name__)

STATES = ("embedding", "hidden")
ATTENTION = ("attention_scores", "attention_probabilities")
# Features of the teacher's inside, for which its tokens must be the student's.
TOKEN_FEATURES = (*STATES, *ATTENTION, "transferable")
LOSSES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "embedding": {"mse": losses.hidden_mse},
    "hidden": {"mse": losses.hidden_mse},
    "attention_scores": {"mse": losses.attention_score_mse},
    "attention_probabilities": {"mse": losses.attention_probability_mse},
    "transferable": {"mse": losses.feature_mse},
    "logits": {"mse": losses.logits_mse},
    "label": {"cross_entropy": losses.cross_entropy},
}
# Losses of logits that take a temperature.
SOFT_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "soft_cross_entropy": losses.soft_cross_entropy,
    "kl": losses.kl_divergence,
}


@dataclass(frozen=True)
class BoundTerm:
    """A term for a certain teacher and student.

    Args:
        name: unique in its stage.
        pairs: (teacher, student) layers, [(0, 0)] for the embedding, empty for features without layers.
    """

    name: str
    term: Term
    pairs: Pairs


def bind(terms: Sequence[Term], teacher: PreTrainedConfig, student: PreTrainedConfig) -> list[BoundTerm]:
    """Resolve layers and refuse what does not fit, before anything is computed.

    Raises:
        InputError: a loss that the feature does not have, a layer that does not exist.
    """
    bound: list[BoundTerm] = []
    for term in terms:
        known = [*LOSSES[term.feature], *(SOFT_LOSSES if term.feature == "logits" else ())]
        if term.loss not in known:
            hint = nearest(term.loss, known)
            raise InputError(f"loss {term.loss!r} does not fit feature {term.feature!r}; it has {known}{hint}")
        pairs: Pairs = [(0, 0)] if term.feature == "embedding" else []
        if term.feature in ("hidden", *ATTENTION):
            pairs = resolve(term.layers, teacher.num_hidden_layers, student.num_hidden_layers)
        if term.feature in ATTENTION and teacher.num_attention_heads != student.num_attention_heads:
            log.info("%s: the teacher has %d heads, the student %d; both are averaged over their heads",
                     term.feature, teacher.num_attention_heads, student.num_attention_heads)  # fmt: skip
        name = term.feature if term.feature not in {b.term.feature for b in bound} else f"{term.feature}_{len(bound)}"
        bound.append(BoundTerm(name, term, pairs))
    return bound


def needs(terms: Sequence[BoundTerm]) -> tuple[Need, Need]:
    """What the terms ask of the teacher and of the student."""

    def need(side: int) -> Need:
        def layers(features: tuple[str, ...]) -> frozenset[int]:
            return frozenset(pair[side] for b in terms if b.term.feature in features for pair in b.pairs)

        transferable = any(b.term.feature == "transferable" for b in terms)
        return Need(layers(STATES), layers(ATTENTION), transferable)

    return need(0), need(1)


def rows_loss(
    bound: BoundTerm, student: Views, teacher: Views, batch: Batch, project: Callable[[Tensor, str], Tensor]
) -> Tensor:
    """The term per row [B], summed over its layers, not scaled.

    Args:
        project: brings a feature of the student (by kind, "hidden" or "transferable") to the teacher's width.
    """
    term, mask = bound.term, batch["attention_mask"]
    if term.loss in SOFT_LOSSES:
        return SOFT_LOSSES[term.loss](student.logits, teacher.logits, term.temperature)
    loss = LOSSES[term.feature][term.loss]
    if term.feature == "label":
        return loss(student.logits, batch["label"])
    if term.feature == "logits":
        return loss(student.logits, teacher.logits)
    if term.feature == "transferable":
        assert student.transferable is not None
        return loss(project(student.transferable, "transferable"), teacher.transferable)
    if term.feature in STATES:
        found = [loss(project(student.hidden[s], "hidden"), teacher.hidden[t], mask) for t, s in bound.pairs]
    else:
        found = [loss(student.attention[s], teacher.attention[t], mask) for t, s in bound.pairs]
    total = found[0]
    for value in found[1:]:
        total = total + value
    return total


def formula(terms: Sequence[BoundTerm], row_weight: str) -> str:
    """The objective in one line, e.g. `mean over rows of expertise * (embedding/mse + 0.5 transferable/mse)`."""
    parts = []
    for b in terms:
        scale = "" if b.term.scale == 1 else f"{b.term.scale:g} "
        layers = f" {' '.join(f'{t}-{s}' for t, s in b.pairs)}" if b.term.feature in ("hidden", *ATTENTION) else ""
        heat = f" T={b.term.temperature:g}" if b.term.loss in SOFT_LOSSES else ""
        parts.append(f"{scale}{b.term.feature}/{b.term.loss}{layers}{heat}")
    return f"weighted mean over rows, weight {row_weight}, of " + " + ".join(parts)
