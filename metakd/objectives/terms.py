"""From a term of a method file to a number per row: which layers, which loss, and whether it fits the models."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedConfig

from metakd.data.encoding import Batch
from metakd.data.labels import ProblemType
from metakd.errors import InputError, nearest
from metakd.methods import Term
from metakd.models.views import Need, Views
from metakd.objectives.features import (
    ATTENTION,
    HARD,
    LABEL,
    LAYERED,
    MATCHES,
    RELATIONS,
    SOFT,
    STATES,
    TOKEN_FEATURES,
    features_of,
    losses_of,
)  # fmt: skip
from metakd.objectives.layer_maps import Pairs, resolve

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoundTerm:
    """A term for a certain teacher and student.

    Args:
        name: unique in its stage.
        loss: the name of its loss.
        pairs: (teacher, student) layers, [(0, 0)] for the embedding, empty for features without layers.
        problem: of the task.
        heads: relation heads; 0 for other features.
    """

    name: str
    term: Term
    loss: str
    pairs: Pairs
    problem: ProblemType
    heads: int

    @property
    def reads_probabilities(self) -> bool:
        """Whether attention probabilities are compared as they are; other losses take their logarithms of scores."""
        return (self.term.feature, self.loss) == ("attention_probabilities", "mse")


def bind(
    terms: Sequence[Term], teacher: PreTrainedConfig | None, student: PreTrainedConfig, problem: ProblemType
) -> list[BoundTerm]:
    """Resolve layers and refuse what does not fit, before anything is computed.

    Args:
        teacher: None where no term looks inside the teacher.

    Raises:
        InputError: a loss that the feature does not have, a layer that does not exist, a feature that one of the
            models does not have.
    """
    bound: list[BoundTerm] = []
    for term in terms:
        known = losses_of(term.feature, problem)
        loss = term.loss or LABEL[problem][0]
        if loss not in known:
            kind = f" of a {problem} task" if term.feature in ("logits", "label") else ""
            hint = nearest(loss, known)
            fitting = "; label_only.yaml and logits_mse.yaml fit every task" if problem != "single_label" else ""
            raise InputError(
                f"loss {loss!r} does not fit feature {term.feature!r}{kind}; it has {known}{hint}{fitting}"
            )
        pairs: Pairs = [(0, 0)] if term.feature == "embedding" else []
        heads = 0
        if term.feature in TOKEN_FEATURES:
            assert teacher is not None
            for config, whose in ((teacher, "teacher"), (student, "student")):
                check_feature(term.feature, config, whose)
        if term.feature in LAYERED:
            assert teacher is not None
            first = 0 if term.feature in STATES and "embedding" in features_of(student) else 1
            pairs = resolve(term.layers, teacher.num_hidden_layers, student.num_hidden_layers, first)
        if term.feature in RELATIONS:
            assert teacher is not None
            heads = relation_heads(term, teacher, student)
        if term.feature in ATTENTION:
            tell_heads(term.feature, teacher, student)
        name = term.feature if term.feature not in {b.term.feature for b in bound} else f"{term.feature}_{len(bound)}"
        bound.append(BoundTerm(name, term, loss, pairs, problem, heads))
    return bound


def check_feature(feature: str, config: PreTrainedConfig, whose: str) -> None:
    if feature not in features_of(config):
        raise InputError(
            f"the {whose} is a {config.model_type}, which has no {feature}; it can be matched in "
            f"{', '.join(features_of(config))}"
        )


def relation_heads(term: Term, teacher: PreTrainedConfig, student: PreTrainedConfig) -> int:
    """Heads that both widths are split into; those of the term, else the teacher's."""
    heads = term.heads or teacher.num_attention_heads
    widths = teacher.hidden_size, student.hidden_size
    if any(width % heads for width in widths):
        common = math.gcd(*widths)
        fitting = [n for n in range(1, common + 1) if common % n == 0]
        raise InputError(
            f"{term.feature}: {heads} relation heads do not divide the widths {widths[0]} (teacher) and {widths[1]} "
            f"(student); set heads: to one of {fitting}"
        )
    return heads


def tell_heads(feature: str, teacher: PreTrainedConfig | None, student: PreTrainedConfig) -> None:
    assert teacher is not None
    if teacher.num_attention_heads != student.num_attention_heads:
        log.info("%s: the teacher has %d heads, the student %d; both are averaged over their heads",
                 feature, teacher.num_attention_heads, student.num_attention_heads)  # fmt: skip


def needs(terms: Sequence[BoundTerm]) -> tuple[Need, Need]:
    """What the terms ask of the teacher and of the student."""

    def need(side: int) -> Need:
        def layers(features: tuple[str, ...], probabilities: bool = False) -> frozenset[int]:
            chosen = [b for b in terms if b.term.feature in features and b.reads_probabilities == probabilities]
            return frozenset(pair[side] for b in chosen for pair in b.pairs)

        transferable = any(b.term.feature == "transferable" for b in terms)
        return Need(layers(STATES), layers(ATTENTION), layers(ATTENTION, True), layers(RELATIONS), transferable)

    return need(0), need(1)


def rows_loss(
    bound: BoundTerm,
    student: Views,
    teacher: Views,
    batch: Batch,
    share: float,
    project: Callable[[Tensor, str], Tensor],
) -> Tensor:
    """The term per row [B], summed over its layers, not scaled.

    Args:
        share: of the stage's steps that are done, for a temperature that changes.
        project: brings a feature of the student (by kind, "hidden" or "transferable") to the teacher's width.
    """
    term, mask = bound.term, batch["attention_mask"]
    assert student.logits is not None
    if term.feature == "label":
        return LABEL[bound.problem][1](student.logits, batch["label"])
    if term.feature == "logits":
        assert teacher.logits is not None
        if bound.loss in SOFT[bound.problem]:
            return SOFT[bound.problem][bound.loss](student.logits, teacher.logits, term.temperature_at(share))
        return HARD[bound.problem][bound.loss](student.logits, teacher.logits)
    match = MATCHES[term.feature][bound.loss]
    if term.feature == "transferable":
        assert student.transferable is not None
        return match(project(student.transferable, "transferable"), teacher.transferable)
    found = []
    for t, s in bound.pairs:
        if term.feature in RELATIONS:
            both = (relation(term.feature, views, layer) for views, layer in ((student, s), (teacher, t)))
            found.append(match(*both, mask, bound.heads))
        elif bound.reads_probabilities:
            found.append(match(student.probabilities[s], teacher.probabilities[t], mask))
        elif term.feature in ATTENTION:
            found.append(match(student.attention[s], teacher.attention[t], mask))
        else:
            states = student.hidden[s] if bound.loss == "gram_mse" else project(student.hidden[s], "hidden")
            found.append(match(states, teacher.hidden[t], mask))
    total = found[0]
    for value in found[1:]:
        total = total + value
    return total


def relation(feature: str, views: Views, layer: int) -> tuple[Tensor, Tensor]:
    """The two sides of a relation in a layer, each [B, H, L, D/H]."""
    query, key, value = views.projected[layer]
    return (query, key) if feature == "query_key_relation" else (value, value)
