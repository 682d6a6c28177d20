"""What a study file says, and the cells of its grid. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from metakd.config import Student
from metakd.data.labels import SelectBy
from metakd.errors import InputError, nearest
from metakd.ranges import Fraction, Seed, check_fields

Control = Literal["majority", "tfidf", "embeddings", "teacher"]
CellKind = Literal["method", "control", "teacher"]


@dataclass
class StudyMethod:
    """A method of a study.

    Args:
        file: method file (YAML).
        change: changed values by their place in the file, e.g. {teacher.domain_loss_weight: 0.0}. A stage is addressed
            by its name and a term by its feature: {stages.prediction.row_weight: uniform}. null removes a stage, a
            term or a value.
        student: what the method's students start from, if not from the study's `students`.
    """

    file: str
    change: dict[str, Any] = field(default_factory=dict)
    student: Student | None = None


@dataclass
class Study:
    """A comparison of methods on the same rows and seeds.

    Args:
        tasks: task files (YAML).
        methods: method files by the name that results call them; an ablation is a method and a changed value.
        reference: the method that every other one is compared with.
        controls: "majority": the most frequent class. "tfidf": logistic regression on words. "embeddings": logistic
            regression on the pretrained encoder's embeddings. "teacher": each method's teacher itself.
        domains: the students' domains; all of each task by default.
        seeds: of the training (task.training.seed); they also choose the visible labels.
        fractions: of the domain's labels that are visible, 0 to 1.
        exclude_domain: prototypes and teachers see no label of the student's domain.
        students: what the students start from, see `metakd.config.Task`; each task's own by default.
        overrides: changed values of every task, e.g. {task.epochs_scale: 0.2}.
        folds: the tasks are folds of the same rows, each with its own test rows: their means are compared too.
        select_by: the score that epochs are chosen by and that stands first in the report; each task's by default.
    """

    tasks: list[str]
    methods: dict[str, StudyMethod]
    reference: str
    controls: list[Control] = field(default_factory=list)
    domains: list[str] | None = None
    seeds: list[Seed] = field(default_factory=lambda: [1, 2, 3])
    fractions: list[Fraction] = field(default_factory=lambda: [1.0])
    exclude_domain: bool = False
    students: list[Student] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    folds: bool = False
    select_by: SelectBy | None = None

    def __post_init__(self) -> None:
        check_fields(self, "study.")
        require_distinct("tasks", [Path(file).stem for file in self.tasks])
        require_distinct("seeds", self.seeds)
        require_distinct("fractions", self.fractions)
        require_distinct("methods", list(self.methods))
        if self.folds and len(self.tasks) == 1:
            raise InputError("study.folds is true, and there is one task; name a task for each fold")
        if self.domains is not None:
            require_distinct("domains", self.domains)
        changes = [method.change for method in self.methods.values()]
        for names in (self.methods, self.overrides, *changes):
            if not all(isinstance(name, str) for name in names):
                raise InputError(f"study: the names {list(names)} are not all text; put quotes around them")
        for name in set(self.methods) & set(get_args(Control)):
            raise InputError(f"study.methods: {name!r} is the name of a control; choose another one")
        if self.reference not in self.methods:
            hint = nearest(self.reference, self.methods)
            raise InputError(f"study.reference is {self.reference!r}; the methods are {list(self.methods)}{hint}")
        for place in self.overrides:
            if not place.startswith("task."):
                raise InputError(f"study.overrides: {place!r} is no value of a task; say e.g. task.epochs_scale")
            if place in ("task.training.seed", "task.student", "task.select_by"):
                remedy = "seeds, students or select_by"
                raise InputError(f"study.overrides: {place} is set by the study's {remedy}; leave it out")

    def task_changes(self, seed: int, student: Student | None) -> dict[str, Any]:
        """The changed values of a task for one seed and one student, by their place in the task file."""
        changes = {place.removeprefix("task."): value for place, value in self.overrides.items()}
        changes["training.seed"] = seed
        if student is not None:
            changes["student"] = student
        if self.select_by is not None:
            changes["select_by"] = self.select_by
        return changes


@dataclass(frozen=True)
class Cell:
    """One point of a study's grid.

    Args:
        method: name of the method or control; for kind "teacher" the method whose teacher it is.
        fraction: of the domain's labels that are visible.
        exclude_domain: whether prototypes and teacher see no label of the domain.
        student: what the student starts from, see `student_text`; empty for controls and teachers.
    """

    task: str
    method: str
    kind: CellKind
    domain: str
    seed: int
    fraction: float
    exclude_domain: bool
    student: str = ""

    @property
    def title(self) -> str:
        """The cell in words."""
        who = f"teacher of {self.method}" if self.kind == "teacher" else self.method
        parts = [self.task, self.domain, f"seed {self.seed}", who]
        parts += [f"({self.student})"] * bool(self.student) + [f"{self.fraction:.1%} of the labels"] * (
            self.fraction < 1
        )
        return " ".join(parts + ["domain excluded"] * self.exclude_domain)


def student_text(student: Student) -> str:
    """What a student starts from as a task file says it, without default values, e.g. "layers: 3, of: pretrained"."""
    if isinstance(student, str):
        return student
    values = {f.name: getattr(student, f.name) for f in fields(student)}
    defaults = {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(student)}
    return ", ".join(f"{name}: {value}" for name, value in values.items() if value != defaults[name])


def require_distinct(name: str, values: Sequence[Hashable]) -> None:
    """Refuse a list of a study that is empty or has a value twice."""
    if not values or len(set(values)) != len(values):
        raise InputError(f"study.{name} are {list(values)}; name at least one, and each once")
