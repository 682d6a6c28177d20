"""The stages of a method, one after the other: what the student is shown, what it learns from, what is kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import StudentFromTeacher, Task
from metakd.data.encoding import EncodedRows, encode
from metakd.data.tables import LABELLED
from metakd.errors import InputError
from metakd.evaluation.metrics import baseline
from metakd.methods import PRETRAINED, Method, Stage
from metakd.models import attention
from metakd.models.classifier import labels_of
from metakd.models.domain_head import DomainHead
from metakd.models.views import Need
from metakd.objectives.describe import formula, layer_table
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.terms import BoundTerm, needs
from metakd.training.loop import fit
from metakd.training.problems import DistillationProblem
from metakd.training.progress import Progress
from metakd.training.runtime import on_one_machine, seed_everything
from metakd.training.sources import Sources, Target
from metakd.training.students import bind_stage, start_student, student_head, trains_classifier
from metakd.training.teacher_cache import cache_teacher
from metakd.training.teacher_outputs import TeacherViews
from metakd.training.teachers import Teacher, load_teacher

log = logging.getLogger(__name__)


@dataclass
class Run:
    """Everything that the stages of one run need, checked.

    Args:
        stages: to be run, in order.
        student, tokenizer: at their start.
        bound: terms by stage name.
        teachers: whose inside a stage matches, by stage name; None where it matches logits or labels alone.
        logits: what a stage matches of the teachers' logits, [n, C] over all rows, by stage name, or None.
        weights: of each of a stage's rows [n], by stage name.
        sources: the rows.
        dev: what epochs are compared on, or None.
        head: the student's domain head, or None.
    """

    task: Task
    method: Method
    stages: Sequence[Stage]
    target: Target
    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    bound: dict[str, list[BoundTerm]]
    teachers: dict[str, Teacher | None]
    logits: dict[str, np.ndarray | None]
    weights: dict[str, np.ndarray]
    sources: Sources
    dev: EncodedRows | None
    head: DomainHead | None
    accelerator: Accelerator

    def train(self, place: Path) -> tuple[dict[str, Any], dict[str, nn.Module | None]]:
        """Run the stages; returns their histories, and the modules that were trained beside the student.

        Args:
            place: folder for checkpoints.
        """
        histories: dict[str, Any] = {}
        beside: dict[str, nn.Module | None] = {"domain_head": self.head}
        for stage in self.stages:
            epochs = self.task.epochs.get(stage.name, stage.epochs)
            problem = self.problem(stage, epochs, place / f"teacher-{stage.name}")
            beside[f"projections-{stage.name}"] = problem.projections
            learning_rate = self.task.learning_rates.get(stage.name, stage.learning_rate)
            progress = fit(
                problem, self.accelerator, epochs, learning_rate, self.task.training, place / f"training-{stage.name}"
            )
            histories[stage.name] = progress.summary()
            if self.accelerator.is_main_process:  # `fit` has waited for all processes
                shutil.rmtree(place / f"teacher-{stage.name}", ignore_errors=True)
            self.tell_weak(progress)
        return histories, beside

    def tell_weak(self, progress: Progress) -> None:
        """Warn of a student that a constant prediction would beat."""
        if self.dev is None or progress.best is None:
            return
        score, constant = (
            progress.best["dev"]["score"],
            baseline(self.dev.labels, self.dev.domains, self.target.labels.problem),
        )
        if score <= constant:
            log.warning(
                "NOTE: the student's dev score %.4f does not beat a constant prediction (%.4f); train it longer, or at "
                "another rate: task.epochs, task.learning_rates", score, constant,
            )  # fmt: skip

    def problem(self, stage: Stage, epochs: int, cache: Path) -> DistillationProblem:
        """A stage as the training loop takes it.

        Args:
            cache: folder for what the teacher shows of its inside.
        """
        terms, teacher = self.bound[stage.name], self.teachers[stage.name]
        need = needs(terms)[0]
        # Fresh projections are the same in a run that goes on, and in a stage that runs alone.
        seed_everything(self.task.training.seed, self.method.stages.index(stage))
        head = self.head if need.transferable else None
        objective = DistillationObjective(self.student, terms, teacher.model.config if teacher else None, head)
        chosen, logits = self.sources.chosen(stage), self.logits[stage.name]
        rows = self.sources.rows.select(chosen)
        self.accelerator.print(f"stage {stage.name}: {formula(terms, stage, not rows.labelled.all())}")
        if table := layer_table(terms, self.student.config.num_hidden_layers):
            self.accelerator.print(f"teacher layers by student layer:\n{table}")
        log.info("shown: %d rows (%s), %d with label", len(rows), ", ".join(stage.rows), rows.labelled.sum())
        keep = None
        # An accelerator computes faster than a disk delivers, a single epoch would not read what it has written, and
        # processes on several machines write to one file only if they share a disk.
        pays = self.accelerator.device.type == "cpu" and epochs > 1 and on_one_machine(self.accelerator)
        if teacher is not None and need != Need() and pays:
            limit = self.task.training.teacher_cache_gb * 1e9
            keep = partial(cache_teacher, cache, teacher, rows, need, limit, self.accelerator)
        views = TeacherViews(None if logits is None else logits[chosen], teacher, need, keep)
        dev = self.dev if stage.select == "dev" else None
        weights = self.weights[stage.name]
        return DistillationProblem(objective, stage, rows, dev, weights, views, self.target.labels, self.accelerator)


def prepare(
    task: Task, method: Method, stages: Sequence[Stage], target: Target, teachers: Sequence[str],
    logits_file: str | None, beside: Path, accelerator: Accelerator,
) -> Run:  # fmt: skip
    """Load what a run needs and refuse what does not fit, so that the last stage cannot fail after the first.

    Args:
        teachers: folders or names.
        logits_file: the teacher's logits in a file.
        beside: folder for logits of teachers that are no folders.
    """

    def load(name: str) -> Teacher:
        return load_teacher(name, task, target.labels, target.domains, accelerator.device)

    given = [load(name) for name in teachers]
    seed_everything(task.training.seed)  # here, so that a fresh head is the same whoever teaches
    student, tokenizer = start_student(task, target.labels, given)
    target = replace(target, labels=labels_of(student.config))  # its order, which may be the teacher's
    tell(task, method, target, given)
    named = {
        s.teacher: load(task.teacher if s.teacher == PRETRAINED else s.teacher) for s in method.stages if s.teacher
    }
    bound, inside = {}, {}
    for stage in method.stages:
        inside[stage.name] = teacher_inside(stage, given, named)
        bound[stage.name] = bind_stage(stage, inside[stage.name], student.config, tokenizer, target.labels)
        for model, need in zip((inside[stage.name], student), needs(bound[stage.name]), strict=True):
            if need.inside_attention:
                attention.enable(model.model if isinstance(model, Teacher) else model)
    if not trains_classifier(method.stages) and student.base_model is student:
        raise InputError(
            "this method trains no classifier, so its product is an encoder, which a "
            f"{student.config.model_type} has not; add a stage on logits or labels"
        )
    sources = Sources(task, method, target, stages, tokenizer, logits_file, beside, accelerator)
    logits: dict[str, np.ndarray | None] = {}
    main: np.ndarray | None = None
    for stage in stages:
        logits[stage.name] = None
        if stage.needs_logits and stage.teacher:
            logits[stage.name] = sources.logits([named[stage.teacher]], from_file=False)
        elif stage.needs_logits:
            log.info("stage %s: logits from %s", stage.name, logits_file or [teacher.name for teacher in given])
            main = sources.logits(given, from_file=logits_file is not None) if main is None else main
            logits[stage.name] = main
    dev = None
    if target.fraction < 1:
        log.info("the last epoch is handed on: dev labels of %s may not be seen either", target.domain or "the table")
    elif any(stage.select == "dev" for stage in stages):
        dev = encode(task.dev, tokenizer, task.max_length, target.labels, target.domains, LABELLED)
        dev = dev.of_domain(sources.own) if sources.own is not None else dev
        if not len(dev):
            raise InputError(f"{task.dev} has no row of domain {target.domain!r}")
    weights = {stage.name: sources.weights(stage, logits[stage.name]) for stage in stages}
    seed_everything(task.training.seed)
    heads = [t.head for t in inside.values() if t is not None and t.head is not None]
    head = student_head(heads[0], student, task.student, target.domains) if heads else None
    return Run(
        task, method, stages, target, student, tokenizer, bound, inside, logits, weights, sources, dev, head,
        accelerator,
    )  # fmt: skip


def tell(task: Task, method: Method, target: Target, teachers: Sequence[Teacher]) -> None:
    """Say what a reader of the results should know."""
    for teacher in teachers:
        if target.domain and teacher.domains and target.domain not in teacher.domains:
            log.info("%s was trained on %s, not on %s", teacher.name, teacher.domains, target.domain)
    taught = any(stage.needs_logits or stage.needs_inside for stage in method.stages)
    if isinstance(task.student, StudentFromTeacher) and task.student.of == "teacher" and not taught:
        log.warning(
            "NOTE: this method has no teacher, but the student starts from a teacher's weights; for a control "
            "without teacher start it with --task.student '{layers: ..., of: pretrained}'"
        )


def teacher_inside(stage: Stage, given: Sequence[Teacher], named: dict[str, Teacher]) -> Teacher | None:
    """The teacher whose inside the stage matches; None if it matches logits or labels alone."""
    if not stage.needs_inside:
        return None
    return named[stage.teacher] if stage.teacher else given[0]
