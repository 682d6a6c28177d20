"""Where a student starts, and what surrounds it in a stage."""

from __future__ import annotations

import logging

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import StudentFromTeacher, Task
from metakd.data.encoding import EncodedRows, load_tokenizer, same_tokens
from metakd.errors import InputError
from metakd.methods import Method, Stage, Term
from metakd.models import attention
from metakd.models.classifier import check_tokenizer, cut_student, label_names, load_classifier
from metakd.models.domain_head import DomainHead
from metakd.models.folders import load_domain_head
from metakd.objectives.terms import TOKEN_FEATURES, BoundTerm, bind, needs
from metakd.weighting.expertise import expertise_weights

log = logging.getLogger(__name__)


def start_student(
    task: Task, teacher: PreTrainedModel, teacher_tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The untrained student and its tokenizer."""
    if isinstance(task.student, StudentFromTeacher):
        return cut_student(teacher, task.student.layers), teacher_tokenizer
    student = load_classifier(task.student, label_names(teacher.config))
    tokenizer = load_tokenizer(task.student)
    check_tokenizer(student, tokenizer, task.max_length, task.student)
    return student, tokenizer


def bind_method(
    method: Method,
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerBase,
    tokenizer: PreTrainedTokenizerBase,
    teacher_head: DomainHead | None,
) -> dict[str, list[BoundTerm]]:
    """The terms of every stage, checked against both models, so that the last stage cannot fail after the first.

    Raises:
        InputError: a term that these models cannot serve.
    """
    bound = {}
    for stage in method.stages:
        terms = stage.terms
        if teacher_head is None and any(term.feature == "transferable" for term in terms):
            log.info("stage %s: no transferable term, since the teacher has no domain head", stage.name)
            terms = [term for term in terms if term.feature != "transferable"]
        check_tokenizers(stage.name, terms, teacher_tokenizer, tokenizer)
        if not terms:
            raise InputError(f"stage {stage.name} has no terms left")
        bound[stage.name] = bind(terms, teacher.config, student.config)
        for model, need in zip((teacher, student), needs(bound[stage.name]), strict=True):
            if need.attention:
                attention.enable(model)  # here, so that a family without it is refused before any stage runs
    return bound


def check_tokenizers(
    stage: str, terms: list[Term], teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase
) -> None:
    """Refuse terms on the teacher's inside if its tokens are not the student's."""
    inner = [term.feature for term in terms if term.feature in TOKEN_FEATURES]
    if inner and not same_tokens(student, teacher):
        raise InputError(
            f"stage {stage} matches {inner}, for which teacher and student must share a tokenizer; use a student of "
            "the teacher's family, or a method with logits alone"
        )


def student_head(teacher_head: DomainHead | None, student: PreTrainedModel, start: object) -> DomainHead | None:
    """The student's own domain head: that of an earlier stage's folder, else the teacher's where the widths agree.

    Args:
        start: what the student starts from (`Task.student`).
    """
    if teacher_head is None:
        return None
    earlier = load_domain_head(start, student.config.hidden_size) if isinstance(start, str) else None
    if earlier is not None:
        return earlier[0]
    domains, width = teacher_head.domain_embedding.weight.shape
    head = DomainHead(student.config.hidden_size, domains)
    if width == student.config.hidden_size:
        head.load_state_dict(teacher_head.state_dict())
    return head


def row_weights(stage: Stage, rows: EncodedRows, teacher_logits: np.ndarray) -> np.ndarray:
    """Weight of each row [n] in every term of the stage.

    Raises:
        InputError: the stage needs prototype scores, and the table has none.
    """
    if stage.row_weight == "uniform":
        return np.ones(len(rows))
    if not rows.weighted:
        raise InputError(
            f"stage {stage.name} has row_weight {stage.row_weight}, but the training table has no weight column; make "
            "it with data_prep/prototype_weights.py"
        )
    if stage.row_weight == "prototype":
        return rows.weights
    return expertise_weights(rows.weights, teacher_logits, rows.labels)
