"""The student at its start, and the terms of a stage bound to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import StudentFromTeacher, starts_from_teacher
from metakd.data.labels import Labels
from metakd.data.tokenizers import same_tokens, tokens_around
from metakd.errors import InputError
from metakd.methods.stage import OUTPUTS, Stage, Term
from metakd.models.domain_head import DomainHead
from metakd.models.last_layer import keep_outputs
from metakd.models.loading import labels_to_load
from metakd.models.model_io import load_domain_head
from metakd.models.student_init import cut_student, describe_start, fresh_student, kept_layers
from metakd.objectives.terms import BoundTerm, bind
from metakd.training.dry_run import load_with_tokenizer, try_model
from metakd.training.plan import DistillationPlan
from metakd.training.teachers import Teacher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudentStart:
    """An untrained student.

    Args:
        starts_from: in words, where its weights come from.
        copied: the layers that it was cut from, counted from 1; None if it was not cut.
        source_depth: how many layers it was cut from.
    """

    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    starts_from: str
    copied: list[int] | None
    source_depth: int

    def copied_from(self, teacher: PreTrainedConfig) -> list[int] | None:
        """The teacher's layers that the student's correspond to; None for a teacher of another depth."""
        return self.copied if teacher.num_hidden_layers == self.source_depth else None


def start_student(plan: DistillationPlan, labels: Labels, teachers: Sequence[Teacher]) -> StudentStart:
    """The untrained student of a plan."""
    spec, max_length = plan.task.student, plan.task.max_length
    if starts_from_teacher(spec):
        source, tokenizer = teachers[0].model, teachers[0].tokenizer
    else:
        name = plan.inputs["student" if isinstance(spec, str) else "pretrained"]
        source, tokenizer = load_with_tokenizer(name, labels_to_load(name, labels), max_length)
    if isinstance(spec, str):
        student = source
    elif isinstance(spec, StudentFromTeacher):
        student = cut_student(source, spec)
    else:
        student = fresh_student(spec, source, labels, tokens_around(tokenizer))
    keep_outputs(student, labels)
    if student is not source:
        try_model(student, tokenizer, max_length, "the student")
    depth = getattr(source.config, "num_hidden_layers", 1)
    copied = kept_layers(spec, depth) if isinstance(spec, StudentFromTeacher) else None
    start = StudentStart(student, tokenizer, describe_start(spec, depth), copied, depth)
    log.info("the student starts from %s", start.starts_from)
    return start


def bind_stage(stage: Stage, teacher: Teacher | None, start: StudentStart, labels: Labels) -> list[BoundTerm]:
    """The terms of a stage, bound to teacher and student.

    Args:
        teacher: whose activations are matched; None where no term needs them.

    Raises:
        InputError: a term that these models cannot serve.
    """
    terms = stage.terms
    if teacher is not None:
        if teacher.head is None and "transferable" in stage.features:
            log.info("stage %s: no transferable term, since the teacher has no domain head", stage.name)
            terms = [term for term in terms if term.feature != "transferable"]
        require_same_tokenizer(stage.name, terms, teacher.tokenizer, start.tokenizer)
    if not terms:
        raise InputError(f"stage {stage.name} has no terms left")
    config = teacher.model.config if teacher else None
    copied = start.copied_from(config) if config else None
    return bind(terms, config, start.student.config, labels.problem, copied)


def require_same_tokenizer(
    stage: str, terms: Sequence[Term], teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase
) -> None:
    """Refuse terms on the teacher's activations if teacher and student split text differently."""
    features = [term.feature for term in terms if term.feature not in OUTPUTS]
    if features and not same_tokens(student, teacher):
        raise InputError(
            f"stage {stage} matches {features}, for which teacher and student must share a tokenizer; use a student of "
            "the teacher's family, or a method that matches logits alone"
        )


def student_head(
    teacher_head: DomainHead, student: PreTrainedModel, inputs: Mapping[str, str], domains: list[str]
) -> DomainHead:
    """The student's domain head: that of an earlier stage's folder, else a copy of the teacher's if the widths agree.

    Args:
        inputs: of the plan; "student" is the folder of an earlier stage.
        domains: the task's.
    """
    width = student.config.hidden_size
    earlier = load_domain_head(inputs["student"], width) if "student" in inputs else None
    if earlier is not None:
        return earlier[0].for_domains(earlier[1], domains)
    count, teacher_width = teacher_head.domain_embedding.weight.shape
    head = DomainHead(width, count)
    if teacher_width == width:
        head.load_state_dict({k: v.cpu() for k, v in teacher_head.state_dict().items()})
    return head.requires_grad_(True)
