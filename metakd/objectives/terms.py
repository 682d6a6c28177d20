"""From a term of a method file to a loss per row: its layers, its loss, and whether the models can serve it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from transformers import PreTrainedConfig

from metakd.data.encoding import Batch
from metakd.data.labels import ProblemType
from metakd.errors import InputError, nearest
from metakd.methods.layer_maps import Pairs, resolve
from metakd.methods.stage import OUTPUTS, Term
from metakd.objectives.features import FEATURES, Feature, FeatureLayer, FeatureValues, Match
from metakd.objectives.outputs import HARD, LABEL, SOFT

log = logging.getLogger(__name__)
Project = Callable[[Tensor, "BoundTerm", tuple[int, int]], Tensor]


@dataclass(frozen=True)
class BoundTerm:
    """A term bound to one teacher and one student.

    Args:
        name: unique in its stage.
        term: as in the method file.
        loss: name of its loss.
        pairs: (teacher, student) layers; [(0, 0)] for a feature without layers, empty for logits and labels.
        problem: of the task.
        match: the loss of its feature; None for logits and labels.
    """

    name: str
    term: Term
    loss: str
    pairs: Pairs
    problem: ProblemType
    match: Match | None = None

    @property
    def feature(self) -> Feature:
        return FEATURES[self.term.feature]

    @property
    def takes_temperature(self) -> bool:
        return self.term.feature == "logits" and self.loss in SOFT[self.problem]


def losses_of(feature: str, problem: ProblemType) -> list[str]:
    """Names of a feature's losses.

    Raises:
        InputError: there is no such feature.
    """
    if feature == "label":
        return [LABEL[problem][0]]
    if feature == "logits":
        return [*SOFT[problem], *HARD[problem]]
    if feature not in FEATURES:
        known = [*FEATURES, *OUTPUTS]
        raise InputError(f"feature {feature!r} is not among {known}{nearest(feature, known)}")
    return list(FEATURES[feature].losses)


def features_of(config: PreTrainedConfig) -> list[str]:
    """Features that a model of this configuration shows."""
    return [name for name, feature in FEATURES.items() if feature.shown_by(config)] + list(OUTPUTS)


def bind(
    terms: Sequence[Term],
    teacher: PreTrainedConfig | None,
    student: PreTrainedConfig,
    problem: ProblemType,
    copied: Sequence[int] | None = None,
) -> list[BoundTerm]:
    """Resolve layers and losses, and refuse what does not fit, before anything is computed.

    Args:
        teacher: None where no term reads the teacher's activations.
        copied: the teacher's layers that the student was cut from; None if it was not.

    Raises:
        InputError: a feature or loss that does not exist, a layer that a model lacks, a feature that a model does not
            show.
    """
    bound: list[BoundTerm] = []
    for term in terms:
        names = {b.name for b in bound}
        name = term.feature if term.feature not in names else f"{term.feature}_{len(bound)}"
        loss = checked_loss(term, problem)
        if term.feature in OUTPUTS:
            bound.append(BoundTerm(name, term, loss, [], problem))
        else:
            assert teacher is not None
            bound.append(bind_feature(name, term, loss, teacher, student, problem, copied))
    return bound


def checked_loss(term: Term, problem: ProblemType) -> str:
    """The name of a term's loss."""
    known = losses_of(term.feature, problem)
    loss = term.loss or LABEL[problem][0]
    if loss in known:
        return loss
    task_kind = f" of a {problem} task" if term.feature in OUTPUTS else ""
    remedy = "; the label and the mse of logits fit every task" if problem != "single_label" else ""
    raise InputError(
        f"loss {loss!r} does not fit feature {term.feature!r}{task_kind}; it has {known}{nearest(loss, known)}{remedy}"
    )


def bind_feature(
    name: str,
    term: Term,
    loss: str,
    teacher: PreTrainedConfig,
    student: PreTrainedConfig,
    problem: ProblemType,
    copied: Sequence[int] | None,
) -> BoundTerm:
    """A term on a feature inside the network, with its layers resolved."""
    feature = FEATURES[term.feature]
    for config, whose in ((teacher, "teacher"), (student, "student")):
        if not feature.shown_by(config):
            raise InputError(
                f"the {whose} is a {config.model_type}, which has no {term.feature}; it can be matched in "
                f"{', '.join(features_of(config))}"
            )
    pairs: Pairs = [(0, 0)]
    if feature.by_layer:
        with_embedding = feature.has_embedding_layer and FEATURES["embedding"].shown_by(student)
        first = 0 if with_embedding else 1
        pairs = resolve(term.layers, teacher.num_hidden_layers, student.num_hidden_layers, first, copied)
    match = feature.losses[loss]
    if feature.relation_heads:
        match = partial(match, heads=relation_heads(term, teacher, student))
    elif "H" in feature.axes and teacher.num_attention_heads != student.num_attention_heads:
        log.info(
            "%s: the teacher has %d heads, the student %d; both are averaged over their heads",
            term.feature, teacher.num_attention_heads, student.num_attention_heads,
        )  # fmt: skip
    return BoundTerm(name, term, loss, pairs, problem, match)


def relation_heads(term: Term, teacher: PreTrainedConfig, student: PreTrainedConfig) -> int:
    """Number of heads that both widths are split into: the term's, or the teacher's attention heads."""
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


def wanted_features(terms: Sequence[BoundTerm]) -> tuple[list[FeatureLayer], list[FeatureLayer]]:
    """The features and layers that the terms read of the teacher and of the student, each once."""
    of_teacher = dict.fromkeys((b.term.feature, t) for b in terms for t, _ in b.pairs)
    of_student = dict.fromkeys((b.term.feature, s) for b in terms for _, s in b.pairs)
    return list(of_teacher), list(of_student)


def term_loss(
    bound: BoundTerm, student: FeatureValues, teacher: FeatureValues, batch: Batch, progress: float, project: Project
) -> Tensor:
    """The term's loss per row [B], summed over its layers, not scaled.

    Args:
        progress: fraction of the stage's optimizer steps completed, for a temperature that changes.
        project: maps the student's values of a feature to the teacher's width.
    """
    term = bound.term
    if bound.match is not None:
        losses = [
            bound.match(
                project(student.features[term.feature, s], bound, (t, s)),
                teacher.features[term.feature, t],
                batch["attention_mask"],
            )
            for t, s in bound.pairs
        ]
        return sum(losses[1:], losses[0])
    assert student.logits is not None
    if term.feature == "label":
        return LABEL[bound.problem][1](student.logits, batch["label"])
    assert teacher.logits is not None
    if bound.takes_temperature:
        return SOFT[bound.problem][bound.loss](student.logits, teacher.logits, term.temperature_at(progress))
    return HARD[bound.problem][bound.loss](student.logits, teacher.logits)
