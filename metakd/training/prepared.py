"""From a plan to prepared stages. All is loaded and checked first, so that no stage fails after a long one has run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import starts_from_teacher
from metakd.cpu.tuning import tune
from metakd.data.encoding import EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED
from metakd.errors import InputError
from metakd.evaluation.metrics import headline
from metakd.methods.stage import Stage
from metakd.models.classifier import label_order
from metakd.models.domain_head import DomainHead
from metakd.objectives.terms import BoundTerm
from metakd.training.bound_models import BoundModels, load_models
from metakd.training.inference import predict_logits
from metakd.training.plan import DistillationPlan, differences, scaled_budget, teacher_facts
from metakd.training.runtime import seed_everything
from metakd.training.student_setup import student_head
from metakd.training.teachers import Teacher, average_logits
from metakd.training.transfer_rows import TransferRows, load_transfer_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedStage:
    """A stage with all that it needs.

    Args:
        stage: of the method file.
        number: its place in the method, which seeds its projections.
        terms: bound to teacher and student.
        teacher: whose features are matched; None where none are.
        rows: what the student is shown.
        logits: the teacher's, of these rows [n, C] in the student's label order; None where none are used.
        weights: of these rows [n].
        dev: rows that each epoch is scored on; None before the classifier is trained, or where dev labels are hidden.
    """

    stage: Stage
    number: int
    terms: list[BoundTerm]
    teacher: Teacher | None
    rows: EncodedRows
    logits: np.ndarray | None
    weights: np.ndarray
    dev: EncodedRows | None


@dataclass
class DistillationRun:
    """The prepared stages of a plan, and the student that goes through them.

    Args:
        student, tokenizer: at their start.
        labels: the student's.
        head: its domain head, or None.
        starts_from: in words, where the student's weights come from.
        notes: what a reader of the results must know.
        teacher_score: of the method's teachers on the student's dev rows; None without dev rows, teacher or classifier.
        auxiliary_modules: modules that were trained with the student, by file name.
    """

    plan: DistillationPlan
    stages: list[PreparedStage]
    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    labels: Labels
    head: DomainHead | None
    starts_from: str
    notes: list[str]
    teacher_score: float | None
    accelerator: Accelerator
    auxiliary_modules: dict[str, nn.Module | None] = field(default_factory=dict)


def prepare(plan: DistillationPlan, labels: Labels, domains: list[str], accelerator: Accelerator) -> DistillationRun:
    """Load what a plan reads, and refuse what does not fit.

    Args:
        labels, domains: the task's.
    """
    task = plan.task
    models = load_models(plan, labels, domains, accelerator.device)
    student, tokenizer, labels = models.start.student, models.start.tokenizer, models.labels
    if task.training.cpu_tuning == "auto" and accelerator.device.type == "cpu":
        for teacher in models.all_teachers:
            tune(teacher.model)
    rows = load_transfer_rows(plan, labels, domains, tokenizer)
    logits = stage_logits(plan, rows, models, accelerator)
    dev = load_dev(plan, tokenizer, labels, domains)
    teacher_score = None if dev is None else score_teachers(plan, models.teachers, labels, domains, accelerator)
    stages, trained = [], False
    for stage in plan.stages:
        trained = trained or stage.trains_classifier
        stage_dev = dev if trained else None
        stages.append(prepare_stage(plan, stage, *models.bound[stage.name], rows, logits[stage.name], stage_dev))
    seed_everything(task.training.seed)
    heads = [teacher.head for teacher, _ in models.bound.values() if teacher is not None and teacher.head is not None]
    head = student_head(heads[0], student, plan.inputs, domains) if heads else None
    notes = [*teacher_notes(plan, models.teachers), *start_notes(plan)]
    for note in notes:
        log.warning("NOTE: %s", note)
    return DistillationRun(
        plan, stages, student, tokenizer, labels, head, models.start.starts_from, notes, teacher_score, accelerator
    )


def stage_logits(
    plan: DistillationPlan,
    rows: TransferRows,
    models: BoundModels,
    accelerator: Accelerator,
) -> dict[str, np.ndarray | None]:
    """The logits [n, C] of all rows that each stage learns from, by stage name; the method's are computed once."""
    logits: dict[str, np.ndarray | None] = {}
    of_method: np.ndarray | None = None
    for stage in plan.stages:
        logits[stage.name] = None
        if not stage.needs_logits:
            continue
        if stage.name in models.stage_teachers:
            logits[stage.name] = rows.teacher_logits([models.stage_teachers[stage.name]], accelerator)
            continue
        if of_method is None:
            from_file = "logits" in plan.inputs
            of_method = rows.logits_from_file() if from_file else rows.teacher_logits(models.teachers, accelerator)
            log.info("logits from %s", plan.inputs.get("logits", ", ".join(t.name for t in models.teachers)))
        logits[stage.name] = of_method
    return logits


def load_dev(
    plan: DistillationPlan, tokenizer: PreTrainedTokenizerBase, labels: Labels, domains: list[str]
) -> EncodedRows | None:
    """The dev rows of the student's domain; None if there are none, or their labels are hidden too."""
    if "dev" not in plan.inputs:
        if plan.selection.fraction < 1:
            log.info("each stage saves its last epoch, since dev labels of %s are hidden too", plan.selection.domain)
        return None
    dev = encode(plan.inputs["dev"], tokenizer, plan.task.max_length, labels, domains, LABELLED)
    if plan.selection.domain:
        dev = dev.of_domain(domains.index(plan.selection.domain))
    if not len(dev) and any(stage.select == "dev" for stage in plan.stages):
        raise InputError(
            f"{plan.inputs['dev']} has no row of domain {plan.selection.domain!r}; add some, or set select: last in "
            "the method's stages"
        )
    return dev if len(dev) else None


def score_teachers(
    plan: DistillationPlan, teachers: Sequence[Teacher], labels: Labels, domains: list[str], accelerator: Accelerator
) -> float | None:
    """The dev score of the method's teachers, averaged as the method says; None without trained teachers."""
    by_teacher, targets = [], None
    for teacher in teachers:
        dev = load_dev(plan, teacher.tokenizer, labels, domains)
        if teacher.labels is None or dev is None:
            return None
        order = label_order(teacher.labels.names, labels, teacher.name)
        by_teacher.append(predict_logits(teacher.model, dev, accelerator, "teacher on dev")[:, order])
        targets = dev.labels
    if targets is None:
        return None
    recipe = plan.method.teacher
    logits = average_logits(by_teacher, recipe.average_weights, recipe.average, labels.problem)
    return headline(labels.predicted(logits), targets, labels.problem, plan.task.select_by)


def prepare_stage(
    plan: DistillationPlan,
    stage: Stage,
    teacher: Teacher | None,
    terms: list[BoundTerm],
    rows: TransferRows,
    logits: np.ndarray | None,
    dev: EncodedRows | None,
) -> PreparedStage:
    """A stage with its rows, and the logits and weights of these rows."""
    numbers = rows.of_stage(stage)
    stage_logits = None if logits is None else logits[numbers]
    weights = rows.weights(stage, stage_logits)
    number = plan.method.stages.index(stage)
    return PreparedStage(stage, number, terms, teacher, rows.rows.select(numbers), stage_logits, weights, dev)


def teacher_notes(plan: DistillationPlan, teachers: Sequence[Teacher]) -> list[str]:
    """Where teachers and logits are not what the method file describes."""
    if plan.method.teacher.kind == "none":
        return []
    wanted = teacher_facts(scaled_budget(plan.method.teacher, plan.task), plan.method.prototypes)
    notes = []
    if "logits" in plan.inputs:
        notes.append(f"logits come from {plan.inputs['logits']}, not from the teacher that the method describes")
    if len(teachers) > 1 and plan.method.teacher.kind != "multi":
        notes.append(f"{len(teachers)} teachers are averaged, the method has one (teacher.kind)")
    for teacher in teachers:
        recipe = teacher.info.recipe if teacher.info else {}
        differing = differences(recipe, wanted) if recipe else ["how it was trained is not known"]
        if differing:
            notes.append(f"{teacher.name} is not the teacher that the method describes: {'; '.join(differing)}")
        domains = teacher.info.domains if teacher.info else []
        domain = plan.selection.domain
        if domain and domains and domain not in domains and plan.method.teacher.kind != "multi":
            notes.append(f"{teacher.name} was trained on {', '.join(domains)}, not on {domain}")
    return notes


def start_notes(plan: DistillationPlan) -> list[str]:
    """A control without teacher that starts from a teacher's weights is none."""
    taught = any(stage.needs_logits or stage.needs_activations for stage in plan.method.stages)
    if starts_from_teacher(plan.task.student) and not taught:
        return ["the method has no teacher, but the student starts from a teacher's weights; say of: pretrained"]
    return []
