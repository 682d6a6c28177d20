"""The models of a distillation, loaded and tried together: teachers, student, and each stage's terms bound to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import Task
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.methods.method import Method
from metakd.models.attention import enable_reading
from metakd.models.classifier import labels_of
from metakd.models.domain_head import DomainHead
from metakd.objectives.features import TRANSFERABLE, FeatureLayer, request_for
from metakd.objectives.terms import BoundTerm, wanted_features
from metakd.training.dry_run import try_features
from metakd.training.plan import DistillationPlan, DomainSelection, plan_distillation
from metakd.training.runtime import seed_everything
from metakd.training.student_setup import StudentStart, bind_stage, start_student
from metakd.training.teachers import Teacher, load_teacher


@dataclass(frozen=True)
class BoundModels:
    """The models of a plan.

    Args:
        teachers: whose logits are averaged.
        stage_teachers: teachers that stages name themselves, by stage name.
        start: the untrained student.
        labels: the student's, in its order, which may be its teacher's.
        bound: the teacher whose features are matched, or None, and the bound terms, by stage name.
    """

    teachers: list[Teacher]
    stage_teachers: dict[str, Teacher]
    start: StudentStart
    labels: Labels
    bound: dict[str, tuple[Teacher | None, list[BoundTerm]]]

    @property
    def all_teachers(self) -> list[Teacher]:
        """Every teacher once."""
        return list({id(t): t for t in [*self.teachers, *self.stage_teachers.values()]}.values())


def load_models(
    plan: DistillationPlan, labels: Labels, domains: list[str], device: torch.device, untrained: bool = False
) -> BoundModels:
    """Load a plan's models, bind its stages to them, and read every feature once.

    Args:
        labels, domains: the task's.
        device: of the teachers.
        untrained: pretrained encoders stand in for the teachers, with a fresh domain head if the method trains one.

    Raises:
        InputError: models, layers or losses that do not fit each other.
    """

    def load(role: str) -> Teacher:
        return load_teacher(plan.inputs[role], plan.task, labels, domains, device)

    if plan.method.trains_classifier:
        labels.require_classes()
    teachers = [load(role) for role in plan.teachers]
    if untrained and plan.method.teacher.domain_loss_weight and len(domains) > 1:
        for teacher in teachers:
            teacher.head = DomainHead(teacher.model.config.hidden_size, len(domains))
            read_once(
                teacher.model, teacher.tokenizer, plan.task.max_length, [TRANSFERABLE], teacher.head, teacher.name
            )
    seed_everything(plan.task.training.seed)  # a fresh head is the same whoever teaches
    start = start_student(plan, labels, teachers)
    if not plan.method.trains_classifier and start.student.base_model is start.student:
        raise InputError(
            f"this method trains an encoder and no classifier, but a {start.student.config.model_type} has no encoder "
            "of its own; add a stage on logits or labels"
        )
    stage_teachers = {s.name: load(role) for s in plan.stages if (role := plan.stage_teacher(s)) is not None}
    labels = replace(labels, names=labels_of(start.student.config).names)
    bound: dict[str, tuple[Teacher | None, list[BoundTerm]]] = {}
    for stage in plan.stages:
        matched = stage_teachers.get(stage.name, teachers[0] if teachers else None) if stage.needs_activations else None
        terms = bind_stage(stage, matched, start, labels)
        of_teacher, of_student = wanted_features(terms)
        if matched is not None:
            read_once(matched.model, matched.tokenizer, plan.task.max_length, of_teacher, matched.head, matched.name)
        read_once(start.student, start.tokenizer, plan.task.max_length, of_student, None, "the student")
        bound[stage.name] = matched, terms
    return BoundModels(teachers, stage_teachers, start, labels, bound)


def try_method(task: Task, method: Method, labels: Labels, domains: Sequence[str]) -> None:
    """Refuse whatever a distillation would refuse about models, layers and losses, before a teacher is trained.

    The pretrained encoder stands in for the teachers, which will have its configuration.
    """
    teachers = [] if method.teacher.kind == "none" else [task.teacher]
    plan = plan_distillation(task, method, DomainSelection(), Path(), teachers)
    load_models(plan, labels, list(domains), torch.device("cpu"), untrained=True)


def read_once(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    wanted: list[FeatureLayer],
    head: DomainHead | None,
    name: str,
) -> None:
    """Let a model's attention be read where features need it, and read the features in a dry run."""
    if request_for(wanted).reads_attention:
        enable_reading(model)
    try_features(model, tokenizer, max_length, wanted, head, name)
