"""The jobs that the benchmarks time in metakd: train a teacher, one stage of a student, and a whole student."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from common import empty_folder
from transformers import PreTrainedModel

from metakd.config import StudentFromTeacher, Task, Training
from metakd.data.encoding import EncodedRows
from metakd.data.labels import Labels
from metakd.data.tables import label_and_domain_names, read_rows, write_rows
from metakd.methods.method import Method, TeacherRecipe
from metakd.methods.stage import Stage, Term
from metakd.models.attention import enable_reading
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.features import compute_features
from metakd.objectives.terms import bind, wanted_features
from metakd.training.distillation import distill, stage_job
from metakd.training.inference import BATCH_SIZE
from metakd.training.jobs import DistillationJob
from metakd.training.loop import TrainingJob, fit
from metakd.training.plan import DomainSelection, plan_distillation, plan_teacher
from metakd.training.prepared import DistillationRun, prepare
from metakd.training.progress import Progress
from metakd.training.runtime import start
from metakd.training.teacher_training import prepare_teacher

LEARNING_RATE = 5e-5
TEMPERATURE = 2.0
STUDENT = StudentFromTeacher(layers=3)


def make_task(train: Path, encoder: str, max_length: int, training: Training) -> Task:
    """A task over one training table, whose student has 3 layers; its dev table has two rows, so scoring takes no time.

    Args:
        encoder: the pretrained encoder that the teacher starts from.
    """
    dev = train.with_name("dev.tsv")
    write_rows(dev, islice(read_rows(train), 2))
    return Task(str(train), str(dev), str(dev), encoder, STUDENT, max_length=max_length, training=training)


def make_method(epochs: int) -> Method:
    """The method that every library trains: activations in stage 1, logits in stage 2, all rows weigh the same.

    Attention is matched in probabilities, since a transformers model returns no raw scores.

    Args:
        epochs: of each stage.
    """
    activations = [Term("embedding", "mse"), Term("hidden", "mse"), Term("attention_probabilities", "mse")]
    logits = [Term("logits", "soft_cross_entropy", temperature=TEMPERATURE)]
    stages = [
        Stage("intermediate", activations, epochs, LEARNING_RATE, select="last"),
        Stage("prediction", logits, epochs, LEARNING_RATE, select="last"),
    ]
    return Method(TeacherRecipe("mix", epochs=1, learning_rate=LEARNING_RATE), stages)


class MetakdJobs:
    """Jobs on one task, in this process.

    Args:
        folder: for models and caches. The teacher lies in its folder `teacher`; students need it.
        task: see `make_task`.
        method: see `make_method`.
        whole_table: training table of the whole run; the task's is for single epochs.
    """

    def __init__(self, folder: Path, task: Task, method: Method, whole_table: Path | None = None) -> None:
        self.folder, self.task, self.method = folder, task, method
        self.whole_task = task if whole_table is None else replace(task, train=str(whole_table))
        self.teacher = folder / "teacher"
        label_names, self.domains = label_and_domain_names(task.train)
        self.labels = Labels(tuple(label_names))
        self.accelerator = start(task.training.precision, task.training.cpu_tuning)

    def train_teacher(self) -> float:
        """Train the teacher for an epoch, save it, and return the seconds of its training."""
        plan = plan_teacher(self.task, self.method, DomainSelection())
        teacher = prepare_teacher(plan, self.labels, self.domains, self.accelerator)
        seconds, _ = self.train_epoch(teacher.job)
        teacher.save(empty_folder(self.teacher))
        return seconds

    def train_stage(self, number: int) -> float:
        """Train a student for an epoch of a stage, and return the seconds; what is computed once is not counted."""
        seconds, _ = self.train_epoch(self.stage_job(number))
        return seconds

    def train_student(self) -> tuple[float, PreTrainedModel]:
        """Train a student through both stages.

        Returns:
            the seconds of all of it, loading models and the teacher's passes included; and the student.
        """
        shutil.rmtree(self.teacher.with_name("teacher.logits"), ignore_errors=True)
        begun = time.perf_counter()
        run = self.prepare_student(self.whole_task)
        distill(run, empty_folder(self.folder / "student"))
        return time.perf_counter() - begun, run.student

    def prepare_student(self, task: Task) -> DistillationRun:
        """A student before its first stage, with the teacher's logits."""
        plan = plan_distillation(task, self.method, DomainSelection(), self.folder / "logits", [str(self.teacher)])
        return prepare(plan, self.labels, self.domains, self.accelerator)

    def stage_job(self, number: int) -> DistillationJob:
        """A stage that is ready to train: the teacher's activations are cached if cpu_tuning is on."""
        run = self.prepare_student(self.task)
        epochs = 2  # a stage of one epoch caches nothing
        job = stage_job(run, run.stages[number], epochs, empty_folder(self.folder / "cache"))
        job.teacher.start()
        return job

    def train_epoch(self, job: TrainingJob) -> tuple[float, Progress]:
        """Train a job for an epoch; returns the seconds and the losses."""
        folder = empty_folder(self.folder / "training")
        begun = time.perf_counter()
        progress = fit(job, self.accelerator, 1, LEARNING_RATE, self.task.training, folder)
        return time.perf_counter() - begun, progress


@torch.no_grad()
def stage_losses(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: EncodedRows, stages: Sequence[Stage]
) -> dict[str, float]:
    """Mean loss over the rows of each stage by name, in fp32 and without dropout, whichever library trained."""
    for model in (student, teacher):
        enable_reading(model.eval())
    losses = {}
    for stage in stages:
        terms = bind(stage.terms, teacher.config, student.config, "single_label")
        wanted, _ = wanted_features(terms)
        objective = DistillationObjective(student, terms, teacher.config, None)
        total = 0.0
        for first in range(0, len(rows), BATCH_SIZE):
            batch = rows.batch(np.arange(first, min(first + BATCH_SIZE, len(rows))))
            by_term = objective(batch, compute_features(teacher, batch, wanted))
            total += sum(float(values.sum()) for values in by_term.values())
        losses[stage.name] = total / len(rows)
    return losses
