"""The same jobs for all contestants of stages.py: models, rows, and what a student has learned in the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from contestants import TEMPERATURE, fixed_rows, labelled, released_teacher, stage_loss
from transformers import PreTrainedModel

from metakd.config import MetaTeacher, StudentFromTeacher, Task, Training
from metakd.data.encoding import encode, load_tokenizer
from metakd.data.labels import Labels
from metakd.data.tables import names
from metakd.methods import Method, Stage, Term
from metakd.models.classifier import load_classifier
from metakd.models.folders import ModelInfo, save_model
from metakd.models.students import cut_student
from metakd.training.distillation import Run, prepare
from metakd.training.loop import fit
from metakd.training.problems import MetaTeacherProblem
from metakd.training.runtime import start
from metakd.training.sources import Target

LEARNING_RATE = 5e-5
STUDENT = StudentFromTeacher(layers=3)


class Bench:
    """Jobs that return their seconds.

    Args:
        work: folder with train.tsv (an epoch's rows) and few.tsv (the whole run's).
        encoder: that the teacher starts from.
        max_length: of a row.
        batch_size: rows a step.
        precision: of metakd.
        epochs: of each stage of the whole run.
    """

    def __init__(
        self, work: Path, encoder: str, max_length: int, batch_size: int, precision: Literal["auto", "fp32", "bf16"],
        epochs: int,
    ) -> None:  # fmt: skip
        self.work, self.encoder, self.max_length, self.epochs = work, encoder, max_length, epochs
        self.training = Training(batch_size=batch_size, precision=precision)
        found, self.domains = names(work / "train.tsv")
        self.labels, self.accelerator = Labels(tuple(found)), start(precision)
        self.precision = self.accelerator.mixed_precision
        tokenizer = load_tokenizer(encoder)
        self.every, self.few = (
            encode(work / name, tokenizer, max_length, self.labels, self.domains) for name in ("train.tsv", "few.tsv")
        )
        self.fixed, self.fixed_few = (fixed_rows(rows, max_length) for rows in (self.every, self.few))
        # The same terms for all: TextBrewer can be given attention probabilities alone.
        matched = [Term("embedding", "mse"), Term("hidden", "mse"), Term("attention_probabilities", "mse")]
        soft = [Term("logits", "soft_cross_entropy", temperature=TEMPERATURE)]
        self.inner = Stage("intermediate", matched, epochs, LEARNING_RATE, select="last")
        self.last = Stage("prediction", soft, epochs, LEARNING_RATE, select="last")
        self.losses: dict[str, dict[str, list[float]]] = {}

    def teacher(self) -> float:
        """Train it for an epoch; all students learn from what comes out."""
        model = load_classifier(self.encoder, self.labels)
        dev, settings = self.every.select(np.arange(2)), MetaTeacher(row_weight="uniform", domain_loss_weight=0)
        problem = MetaTeacherProblem(
            model, None, self.every, dev, self.domains, settings, self.labels, self.accelerator
        )  # fmt: skip
        seconds = self.fit(problem)
        folder = self.empty("teacher")
        folder.mkdir()
        save_model(folder, model, load_tokenizer(self.encoder), ModelInfo(self.domains, self.max_length), {})
        return seconds

    def released_teacher(self) -> float:
        model, rows = load_classifier(self.encoder, self.labels), labelled(self.fixed, self.every.labels)
        begun = time.perf_counter()
        released_teacher(model, rows, LEARNING_RATE, 1, self.training.batch_size, 1)
        return time.perf_counter() - begun

    def stage(self, stage: Stage) -> float:
        """An epoch of the stage, after what is computed once."""
        problem = self.prepared("train.tsv").problem(stage, 2, self.empty("cache"))
        problem.teacher.start()
        return self.fit(problem)

    def whole(self) -> float:
        """Both stages with everything that belongs to them, loading models included."""
        self.empty("teacher.logits")
        begun = time.perf_counter()
        made = self.prepared("few.tsv")
        made.train(self.empty("whole"))
        seconds = time.perf_counter() - begun
        self.keep("metakd", made.student)
        return seconds

    def others(self, name: str, by: Callable[..., None], stages: Sequence[Stage]) -> float:
        """A stage for an epoch, or both for all of theirs; loading models is not counted."""
        teacher = load_classifier(str(self.work / "teacher"), self.labels)
        student = cut_student(teacher, STUDENT, self.labels)
        whole = len(stages) > 1
        rows, epochs = (self.fixed_few, self.epochs) if whole else (self.fixed, 1)
        begun = time.perf_counter()
        for stage in stages:
            by(student, teacher, rows, stage, epochs, self.training.batch_size, 1)
        seconds = time.perf_counter() - begun
        if whole:
            self.keep(name, student)
        return seconds

    def prepared(self, table: str) -> Run:
        path = str(self.work / table)
        task = Task(path, path, path, self.encoder, STUDENT, labels=list(self.labels.names),
                    max_length=self.max_length, training=self.training)  # fmt: skip
        target, stages = Target(self.labels, self.domains, self.domains[0]), [self.inner, self.last]
        teachers = [str(self.work / "teacher")]
        return prepare(task, Method(stages), stages, target, teachers, None, self.work / "beside", self.accelerator)

    def fit(self, problem: Any) -> float:
        folder = self.empty("training")
        begun = time.perf_counter()
        fit(problem, self.accelerator, 1, LEARNING_RATE, self.training, folder)
        return time.perf_counter() - begun

    def empty(self, name: str) -> Path:
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.work / name

    def keep(self, name: str, student: PreTrainedModel) -> None:
        """Note both stages' losses of a student, computed by the same function for all."""
        teacher = load_classifier(str(self.work / "teacher"), self.labels)
        for stage in (self.inner, self.last):
            value = stage_loss(student, teacher, self.few, stage)
            self.losses.setdefault(name, {}).setdefault(stage.name, []).append(value)
