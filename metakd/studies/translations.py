"""The plan of a study of translators. Nothing here imports torch.

A task has one teacher, trained with the study's first seed: seeds vary the students. Every translator is evaluated
twice, with greedy translations, whose BLEU is compared, and with those of a beam.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from metakd.data.tables import domain_names
from metakd.errors import InputError
from metakd.manifests import content_hash, to_jsonable
from metakd.paths import folder_name
from metakd.settings_files import parse_settings
from metakd.studies.changes import read_settings
from metakd.studies.plan import Plan, PlannedCell, StepKind, StudyStep, key_of
from metakd.studies.study import Cell, CellKind, Study
from metakd.translation.plan import plan_translator, reads_teacher
from metakd.translation.settings import PAIRS, TranslationMethod, TranslationTask

ROOT = Path(os.path.relpath(Path(__file__).parents[2]))
TEACHER_METHOD = ROOT / "experiments/translation/methods/translation_reference.yaml"
BEAM = 5  # of the second evaluation


def of_translations(study: Study) -> bool:
    """Whether a study's tasks are translations.

    Raises:
        InputError: some are, and some are not, so no method fits both.
    """
    problems = {file: problem_of(file) for file in study.tasks}
    translations = [file for file, problem in problems.items() if problem == "translation"]
    if translations and len(translations) < len(problems):
        raise InputError(f"study.tasks: {translations} are translations, the others are not; make two studies of them")
    return bool(translations)


def problem_of(file: str) -> str:
    """The problem that a task file names; "" where it cannot be read, which its planner will say."""
    try:
        content = yaml.safe_load(Path(file).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(content.get("problem", "")) if isinstance(content, dict) else ""


def plan_translations(study: Study, folder: Path) -> Plan:
    """All cells of a study whose tasks are translations, and their steps, which write to FOLDER/runs.

    Raises:
        InputError: a file is missing, or the study says what translations do not have.
    """
    refuse_classification(study)
    plan = Plan()
    for file in study.tasks:
        TranslationPlanner(plan, study, file, folder / "runs").add_cells()
    return plan


def refuse_classification(study: Study) -> None:
    """Refuse fields of a study that mean nothing for translations."""
    given = {
        "domains": study.domains, "students": study.students, "select_by": study.select_by,
        "exclude_domain": study.exclude_domain or None, "fractions": None if study.fractions == [1.0] else 1,
    }  # fmt: skip
    for name in (name for name, value in given.items() if value is not None):
        raise InputError(
            f"study.{name} is of classifiers; leave it out, and write a task file for each student or choice of epochs"
        )
    for control in study.controls:
        if control != "teacher":
            raise InputError(f"study.controls: {control} is of classifiers; a translation has the control teacher")
    for name, method in study.methods.items():
        if method.student is not None:
            raise InputError(f"study.methods: {name} has a student; a translation's student is task.student")


class TranslationPlanner:
    """Adds the cells of one task to a plan.

    Args:
        runs: folder of all steps.
    """

    def __init__(self, plan: Plan, study: Study, file: str, runs: Path) -> None:
        self.plan, self.study, self.file, self.name, self.runs = plan, study, file, Path(file).stem, runs
        self.root = runs / folder_name(self.name)
        self.task, self.task_options = self.read_task(study.seeds[0])
        self.task.require("train", "dev", "test")
        self.precision = f"--precision={self.task.training.precision}"
        teacher_option = f"--method={TEACHER_METHOD}"
        self.teacher_method = parse_settings("method", TranslationMethod, [teacher_option])
        teacher = plan_translator(self.task, self.teacher_method, "teacher")
        self.teacher_content = {"settings": teacher.settings, "inputs": hashes(teacher.inputs)}
        self.teacher = self.add(
            "teacher translator", self.root / "teacher", task=self.task_options, method=(teacher_option,),
            options=("--role=teacher",),
        )  # fmt: skip

    def read_task(self, seed: int) -> tuple[TranslationTask, tuple[str, ...]]:
        return read_settings("task", TranslationTask, self.file, self.study.task_changes(seed, None))

    def add_cells(self) -> None:
        """Add the cells of all seeds and methods."""
        for seed in self.study.seeds:
            if "teacher" in self.study.controls:
                for name in self.study.methods:
                    self.add_results("teacher", name, seed, [self.teacher], self.teacher_content)
            for name, variant in self.study.methods.items():
                try:
                    method, options = read_settings("method", TranslationMethod, variant.file, variant.change)
                    self.add_student(name, seed, method, options)
                except InputError as error:
                    raise InputError(f"study.methods: {name} on task {self.name}: {error}") from None

    def add_student(self, name: str, seed: int, method: TranslationMethod, options: tuple[str, ...]) -> None:
        """Add a method's student of one seed, and its results."""
        task, task_options = self.read_task(seed)
        teacher = str(self.teacher) if reads_teacher(task, method, "student") else None
        translations = self.add_targets(method.beam) if method.needs_translations else None
        plan = plan_translator(task, method, "student", teacher, translations)
        needs: list[Path] = []
        more: list[str] = []
        if teacher is not None:
            needs, more = [self.teacher], [f"--teacher={teacher}"]
        if translations is not None:
            needs, more = [self.teacher, translations], [*more, f"--translations={translations}"]
        inputs = {role: path for role, path in plan.inputs.items() if role not in ("teacher", "translations")}
        content = {"settings": plan.settings, "inputs": hashes(inputs)}
        content |= {"teacher": self.teacher_content} if needs else {}
        out = self.runs / folder_name(f"{self.name}-seed{seed}") / folder_name(name) / "student"
        student = self.add("translator", out, needs, task=task_options, method=options, options=tuple(more))
        settings = to_jsonable({"task": task, "method": method})
        self.add_results("method", name, seed, [*needs, student], content, settings)

    def add_targets(self, beam: int) -> Path:
        """Add the teacher's translations of the training table."""
        options = (f"--model={self.teacher}", f"--table={self.task.train}", f"--beam={beam}", f"--nbest={beam}")
        out = self.root / f"train-beam{beam}.tsv"
        return self.add("targets", out, [self.teacher], options=(*options, self.precision))

    def add_results(
        self,
        kind: CellKind,
        name: str,
        seed: int,
        steps: list[Path],
        content: dict[str, Any],
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Add the cells of a translator, one for each domain of the test table.

        Args:
            steps: up to the translator.
            content: all that the translator depends on.
        """
        model = steps[-1]
        greedy, beam = self.add_evaluation(model, 1), self.add_evaluation(model, BEAM)
        settings = settings or to_jsonable({"task": self.task, "method": self.teacher_method})
        for domain in domain_names(self.task.test, required=PAIRS) or [""]:
            cell = Cell(self.name, name, kind, domain, seed, 1.0, False)
            key = key_of({"kind": kind, **content, "domain": domain, "test": content_hash(self.task.test)})
            is_teacher = kind == "teacher"
            planned = PlannedCell(
                key, cell, settings, (*steps, *greedy, *beam), greedy[-1], beam_evaluation=beam[-1],
                student=None if is_teacher else model, teacher=model if is_teacher else None,
            )  # fmt: skip
            self.plan.cells.setdefault(cell, planned)

    def add_evaluation(self, model: Path, beam: int) -> tuple[Path, Path]:
        """Add the translations of the test table, and their scores."""
        translations = model.with_name(f"{model.name}.test-beam{beam}.tsv")
        search = (f"--model={model}", f"--table={self.task.test}", f"--beam={beam}", self.precision)
        self.add("translation", translations, [model], options=search)
        scores, options = translations.with_suffix(".json"), (f"--translations={translations}", "--rows=true")
        return translations, self.add("scores", scores, [translations], options=options)

    def add(self, kind: StepKind, out: Path, needs: Iterable[Path] = (), **options: Any) -> Path:
        """Add a step unless the plan has its output, which is returned."""
        self.plan.steps.setdefault(out, StudyStep(kind, out, tuple(needs), **options))
        return out


def hashes(inputs: dict[str, str | Path]) -> dict[str, str]:
    return {role: content_hash(path) for role, path in inputs.items()}
