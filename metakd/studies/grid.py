"""The plan of a study: every point of its grid becomes a cell with its steps. Nothing here imports torch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metakd.config import Student, Task
from metakd.data.tables import label_and_domain_names
from metakd.data.task_names import labels_and_domains, require_known_elsewhere
from metakd.errors import InputError, nearest
from metakd.manifests import content_hash, to_jsonable
from metakd.methods.method import Method
from metakd.paths import folder_name, settings_key
from metakd.studies.changes import option_text, read_settings
from metakd.studies.plan import Plan, PlannedAnalysis, PlannedCell, StepKind, StudyStep, key_of
from metakd.studies.study import Cell, CellKind, Study, student_text
from metakd.training.plan import DomainSelection, RunFolder, hidden_from_teacher, plan_distillation, plan_teacher


def plan_study(study: Study, folder: Path) -> Plan:
    """All cells of a study and their steps, which write to FOLDER/runs, and analyses, which write to FOLDER/analyses.

    Raises:
        InputError: a file is missing, or a method does not fit a task or a student.
    """
    source = Source(study, folder)
    shared = [name for name, method in study.methods.items() if method.student is None]
    students: list[Student | None] = [*study.students] if study.students else [None]
    starts = [(student, shared) for student in students]
    starts += [(method.student, [name]) for name, method in study.methods.items() if method.student is not None]
    starts.sort(key=lambda start: study.reference not in start[1])  # a task's analysis is of the first teacher
    for file in study.tasks:
        for seed in study.seeds:
            for student, methods in starts:
                TaskPlanner(source, file, seed, student).add_cells(methods)
    return source.plan


class Source:
    """What all parts of a plan read: the study, its methods, and hashes and names, each looked up once.

    Attributes:
        methods: each method, and the options that make it, by name.
        hash_of: the content hash of a path or Hub name.
        names_of: label and domain names of a table.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.runs, self.plan = study, folder / "runs", Plan()
        self.analyses = folder / "analyses"
        self.methods = {
            name: read_settings("method", Method, variant.file, variant.change)
            for name, variant in study.methods.items()
        }
        self.hash_of, self.names_of = functools.cache(content_hash), functools.cache(label_and_domain_names)


class TaskPlanner:
    """Adds the cells of one task, seed and student to a plan.

    Args:
        student: what students start from; None for what the task says.
    """

    def __init__(self, source: Source, file: str, seed: int, student: Student | None) -> None:
        self.source, self.plan, self.study, self.seed = source, source.plan, source.study, seed
        self.task, self.options = read_settings("task", Task, file, self.study.task_changes(seed, student))
        self.task.require("train", "dev", "test")
        self.name, self.student = Path(file).stem, student_text(self.task.student)
        _, self.domains = labels_and_domains(self.task, names_of=source.names_of)
        for domain in self.study.domains or []:
            if domain not in self.domains:
                hint = nearest(domain, self.domains)
                raise InputError(f"study.domains: task {self.name} has no {domain!r}, but {self.domains}{hint}")
        self.of_all_seeds = source.runs / folder_name(self.name)
        self.root = source.runs / folder_name(f"{self.name}-seed{seed}")
        self.embeddings = self.of_all_seeds / "embeddings"
        self.analyses: dict[str, StudyStep] = {}  # of a teacher, by method; one of them is made

    def add_cells(self, methods: Sequence[str]) -> None:
        """Add the cells of these methods, and of the controls."""
        domains = self.study.domains or self.domains
        points = [(domain, fraction) for fraction in self.study.fractions for domain in domains]
        for name in methods:
            method, options = self.source.methods[name]
            try:
                method.check_student(self.task)
                for domain, fraction in points:
                    MethodPlanner(self, name, method, options, domain, fraction).add_cells()
            except InputError as error:
                raise InputError(f"study.methods: {name} on task {self.name}: {error}") from None
        if self.analyses and self.seed == self.study.seeds[0] and self.task.problem == "single_label":
            self.add_analysis()
        for control in self.study.controls:
            for domain, fraction in points:
                if control != "teacher":  # comes with its method
                    self.add_control(control, domain, fraction)

    def add_analysis(self) -> None:
        """Add the analysis of one teacher: the reference's, or the first that there is."""
        name = self.study.reference if self.study.reference in self.analyses else next(iter(self.analyses))
        step = self.analyses[name]
        if step.out not in self.plan.steps:  # it comes again with every student
            assert step.model is not None
            title = f"{self.name} seed {self.seed} analysis of the teacher of {name}"
            self.plan.steps[step.out] = step
            self.plan.analyses.append(PlannedAnalysis(title, (*step.needs, step.out), step.model))

    def add_control(self, control: str, domain: str, fraction: float) -> None:
        """Add the cell of a majority class or a logistic regression."""
        if self.task.problem != "single_label":
            raise InputError(
                f"study.controls: {control} needs one class per row, which the {self.task.problem} task {self.name} "
                "does not have; leave the control out, or compare this task in a study of its own"
            )
        variant = f"{control}-{fraction!r}{'-excluded' if self.study.exclude_domain else ''}"
        out = self.root / "controls" / variant / f"{folder_name(domain)}.json"
        content = {"control": control, "domain": domain, "fraction": fraction, "labels": self.classes(domain)}
        content |= {"select_by": self.task.select_by, "seed": self.seed if fraction < 1 else None}
        inputs, steps = {"train": self.task.train, "dev": self.task.dev}, []
        if control == "embeddings":
            steps.append(self.add_embeddings())
            content["max_length"], inputs["pretrained"] = self.task.max_length, self.task.teacher
        selection, embeddings = DomainSelection(domain, fraction), self.embeddings if steps else None
        steps.append(self.add_step("control", out, steps, name=control, selection=selection, embeddings=embeddings))
        key, settings = self.key("control", content, inputs), to_jsonable({"task": self.task})
        self.add_cell(PlannedCell(key, self.cell("control", control, domain, fraction), settings, tuple(steps), out))

    def add_step(self, kind: StepKind, out: Path, needs: Iterable[Path] = (), **options: Any) -> Path:
        """Add a step of this task unless the plan has its output, which is returned."""
        self.plan.steps.setdefault(out, StudyStep(kind, out, tuple(needs), self.options, **options))
        return out

    def add_embeddings(self) -> Path:
        return self.add_step("embeddings", self.embeddings)

    def add_evaluation(self, model: Path, made_by: Path, domain: str) -> Path:
        """Add the evaluation of a model on a domain's test rows; returns its file.

        Args:
            made_by: output of the step that trains the model.
        """
        out = self.root / "evaluations" / made_by.relative_to(self.root) / f"{folder_name(domain)}.json"
        selection, table = DomainSelection(domain), Path(self.task.test)
        options = (f"--classes={option_text(self.classes(domain))}",) if self.task.own_labels else ()
        return self.add_step(
            "evaluation", out, [made_by], selection=selection, table=table, model=model, options=options
        )

    def classes(self, domain: str) -> list[str]:
        """The classes that a domain's models answer with."""
        return list(labels_and_domains(self.task, domain, self.source.names_of)[0].names)

    def add_cell(self, planned: PlannedCell) -> None:
        """Add a cell; controls and teachers come again with every student."""
        self.plan.cells.setdefault(planned.cell, planned)

    def cell(self, kind: CellKind, name: str, domain: str, fraction: float) -> Cell:
        student = self.student if kind == "method" else ""
        return Cell(self.name, name, kind, domain, self.seed, fraction, self.study.exclude_domain, student)

    def key(self, kind: CellKind, content: dict[str, Any], inputs: dict[str, str]) -> str:
        """The key of a result.

        Args:
            content: settings that it depends on.
            inputs: path or Hub name of all that it depends on beside the test table, by role.
        """
        hashes = {role: self.source.hash_of(path) for role, path in {**inputs, "test": self.task.test}.items()}
        return key_of({"kind": kind, **content, "inputs": hashes})


class MethodPlanner:
    """Adds a method's cell of one domain and fraction to a plan, and the cell of its teacher if the study asks for it.

    Args:
        task: the planner of the task.
        options: that make the method.
    """

    def __init__(
        self, task: TaskPlanner, name: str, method: Method, options: tuple[str, ...], domain: str, fraction: float
    ) -> None:
        self.planner, self.name, self.method, self.options = task, name, method, options
        self.domain, self.fraction = domain, fraction
        excluded = task.study.exclude_domain
        self.hidden = hidden_from_teacher(domain, fraction, excluded)
        if task.task.own_labels and method.teacher.kind != "none" and (excluded or fraction == 0):
            require_known_elsewhere(domain, {name: task.classes(name) for name in task.domains})
        variant = f"{folder_name(name)}-{settings_key([task.student, fraction, excluded])}"
        self.folder = RunFolder(task.root, task.root / "methods" / variant, self.hidden)
        self.settings = to_jsonable({"task": task.task, "method": method})

    def add_cells(self) -> None:
        task, method = self.planner.task, self.method
        check = self.planner.of_all_seeds / "checks" / f"{folder_name(self.name)}-{settings_key(self.planner.student)}"
        steps = [self.add_step("check", check)]
        weighted = None if method.prototypes is None else self.add_weights(steps)
        trained = self.folder.teachers(task, method, self.planner.domains)
        if method.teacher.kind == "single":  # only the one that the student learns from
            trained = [(path, selection) for path, selection in trained if selection.domain == self.domain]
        for path, selection in trained:
            table = weighted if method.teacher.needs_prototypes else None
            steps.append(self.add_training("teacher", path, table, selection=selection))
        teachers = self.folder.teachers_of(task, method, self.planner.domains, self.domain)
        teacher, teacher_evaluation = None, None
        if len(teachers) == 1:  # an average of several teachers is no model to evaluate
            teacher = teachers[0]
            teacher_evaluation = self.planner.add_evaluation(teacher, trained[0][0], self.domain)
            steps.append(teacher_evaluation)
            if "teacher" in self.planner.study.controls:
                self.add_teacher_cell(teacher, trained[0][1], steps)
        table = weighted if any(stage.needs_prototypes for stage in method.stages) else None
        student, selection = self.folder.student(task, method, self.domain, self.fraction)
        self.add_training(
            "student", student, table, [check, *(path for path, _ in trained)], name=self.name, selection=selection,
            teachers=tuple(teachers),
        )  # fmt: skip
        steps += [student, self.planner.add_evaluation(student, student, self.domain)]
        cell = self.planner.cell("method", self.name, self.domain, self.fraction)
        self.planner.add_cell(PlannedCell(
            self.student_key(student, selection, teachers), cell, self.settings, tuple(steps), steps[-1],
            teacher_evaluation, student, teacher,
        ))  # fmt: skip
        if weighted is not None and teacher is not None and teacher == trained[0][0]:  # not one model of several
            self.offer_analysis(weighted, teacher, steps[: steps.index(teacher) + 1])

    def offer_analysis(self, weighted: Path, teacher: Path, steps: list[Path]) -> None:
        """Name an analysis of the method's first teacher.

        Args:
            weighted: the training table with prototype weights.
            steps: up to the teacher.
        """
        planner = self.planner
        out = planner.source.analyses / f"{planner.root.name}.json.gz"
        step = StudyStep(
            "analysis", out, tuple(steps), planner.options, table=weighted, embeddings=planner.embeddings, model=teacher
        )
        planner.analyses.setdefault(self.name, step)

    def add_weights(self, steps: list[Path]) -> Path:
        """Add the steps to the weighted training table, which is returned."""
        assert self.method.prototypes is not None
        embeddings = self.planner.add_embeddings()
        table = self.folder.weighted_table(self.method.prototypes)
        weights = self.add_step("weights", table, [embeddings], selection=self.hidden, embeddings=embeddings)
        steps += [embeddings, weights]
        return table

    def add_training(
        self, kind: StepKind, out: Path, weighted: Path | None, needs: Iterable[Path] = (), **options: Any
    ) -> Path:
        """Add the training of a teacher or student on the weighted table, or on the task's."""
        table = weighted or Path(self.planner.task.train)
        return self.add_step(kind, out, [*needs, *filter(None, [weighted])], table=table, **options)

    def add_step(self, kind: StepKind, out: Path, needs: Iterable[Path] = (), **options: Any) -> Path:
        return self.planner.add_step(kind, out, needs, method=self.options, **options)

    def add_teacher_cell(self, teacher: Path, selection: DomainSelection, steps: list[Path]) -> None:
        """Add the cell of the method's teacher.

        Args:
            steps: up to its evaluation.
        """
        plan = plan_teacher(self.planner.task, self.method, selection)
        key = self.planner.key("teacher", {"settings": plan.settings, "domain": self.domain}, plan.inputs)
        cell = self.planner.cell("teacher", self.name, self.domain, self.fraction)
        self.planner.add_cell(
            PlannedCell(key, cell, self.settings, tuple(steps), steps[-1], steps[-1], teacher=teacher)
        )

    def student_key(self, student: Path, selection: DomainSelection, teachers: list[Path]) -> str:
        task = self.planner.task
        plan = plan_distillation(task, self.method, selection, student, [str(path) for path in teachers])
        inputs = {role: path for role, path in plan.inputs.items() if role not in plan.teachers}
        inputs |= {"dev": task.dev, "pretrained": task.teacher}
        content: dict[str, Any] = {"settings": plan.settings, "hidden": asdict(self.hidden)}
        if not selection.domain:  # one student for all domains
            content["evaluated on"] = self.domain
        return self.planner.key("method", content, inputs)
