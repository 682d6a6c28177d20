"""A student at its start, and what surrounds it in a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import StudentFromTeacher, Task
from metakd.data.encoding import EncodedRows, load_tokenizer, same_tokens
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.methods import Stage, Term
from metakd.models.classifier import check_tokenizer, load_classifier
from metakd.models.domain_head import DomainHead
from metakd.models.folders import load_domain_head
from metakd.models.students import cut_student, fresh_student
from metakd.objectives.features import TOKEN_FEATURES
from metakd.objectives.terms import BoundTerm, bind
from metakd.training.teachers import Teacher
from metakd.weighting.expertise import expertise_weights, prototype_weights

log = logging.getLogger(__name__)


def start_student(
    task: Task, labels: Labels, teachers: Sequence[Teacher]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The untrained student and its tokenizer."""
    spec = task.student
    if isinstance(spec, str):
        student, tokenizer = load_classifier(spec, labels), load_tokenizer(spec)
        check_tokenizer(student, tokenizer, task.max_length, spec)
        return student, tokenizer
    if isinstance(spec, StudentFromTeacher) and spec.of == "teacher":
        return cut_student(teachers[0].model, spec, labels), teachers[0].tokenizer
    pretrained, tokenizer = load_classifier(task.teacher, labels), load_tokenizer(task.teacher)
    check_tokenizer(pretrained, tokenizer, task.max_length, task.teacher)
    if isinstance(spec, StudentFromTeacher):
        return cut_student(pretrained, spec, labels), tokenizer
    return fresh_student(spec, pretrained, labels), tokenizer


def bind_stage(
    stage: Stage, teacher: Teacher | None, student: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, labels: Labels
) -> list[BoundTerm]:
    """The terms of a stage, checked against both models.

    Args:
        teacher: whose inside is matched; None where no term needs it.

    Raises:
        InputError: a term that these models cannot serve.
    """
    terms = stage.terms
    if teacher is not None:
        if teacher.head is None and "transferable" in stage.features:
            log.info("stage %s: no transferable term, since the teacher has no domain head", stage.name)
            terms = [term for term in terms if term.feature != "transferable"]
        check_tokenizers(stage.name, terms, teacher.tokenizer, tokenizer)
    if not terms:
        raise InputError(f"stage {stage.name} has no terms left")
    return bind(terms, teacher.model.config if teacher else None, student, labels.problem)


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


def student_head(
    teacher_head: DomainHead, student: PreTrainedModel, start: object, task_domains: list[str]
) -> DomainHead:
    """The student's own domain head: that of an earlier stage's folder, else the teacher's where the widths agree.

    Args:
        start: what the student starts from (`Task.student`).
    """
    earlier = load_domain_head(start, student.config.hidden_size) if isinstance(start, str) else None
    if earlier is not None:
        return earlier[0].for_domains(earlier[1], task_domains)
    domains, width = teacher_head.domain_embedding.weight.shape
    head = DomainHead(student.config.hidden_size, domains)
    if width == student.config.hidden_size:
        head.load_state_dict({k: v.cpu() for k, v in teacher_head.state_dict().items()})
    return head.requires_grad_(True)


def row_weights(stage: Stage, rows: EncodedRows, logits: np.ndarray | None, labels: Labels) -> np.ndarray:
    """Weight of each row [n] in every term of the stage.

    Args:
        logits: the teacher's [n, C]; needed for expertise, and for rows without label.

    Raises:
        InputError: the teacher's confidence is needed, and the task has not one class per row.
    """
    if stage.row_weight == "uniform":
        return np.ones(len(rows))
    if labels.problem != "single_label" and not rows.labelled.all():
        raise InputError(
            f"stage {stage.name} weighs rows without label by the teacher's confidence in one class, which a "
            f"{labels.problem} task does not have; use row_weight uniform"
        )
    if not rows.labelled.all():
        log.info(
            "stage %s: %d rows without label; the teacher's confidence stands for their prototype score and p(y)",
            stage.name, int((~rows.labelled).sum()),
        )  # fmt: skip
    if stage.row_weight == "prototype":
        return rows.weights if logits is None else prototype_weights(rows.weights, logits, rows.labelled)
    assert logits is not None
    return expertise_weights(rows.weights, logits, rows.labels, rows.labelled)


def trains_classifier(stages: Sequence[Stage]) -> bool:
    """Whether a stage trains the student's classification head; if none does, the product is an encoder."""
    return any({"logits", "label"} & stage.features for stage in stages)
