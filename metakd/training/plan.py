"""What a run reads and writes, decided without torch: the same plan is hashed, checked and loaded from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from metakd.config import Task, scaled, starts_from_teacher
from metakd.errors import InputError, name_list, nearest
from metakd.methods.method import Method, Prototypes, TeacherRecipe
from metakd.methods.stage import PRETRAINED, Stage
from metakd.paths import folder_name, settings_key

Part = TypeVar("Part", TeacherRecipe, Stage)


@dataclass(frozen=True)
class DomainSelection:
    """Which rows and labels may be used.

    Args:
        domain: whose rows a single teacher or a student is for, and whose labels `fraction` limits; "" for all.
        fraction: fraction of that domain's labels that are visible, stratified by class and nested: 0.01 lies
            inside 0.02.
        exclude_domain: a domain whose labels are all hidden from prototypes and teacher; "" for none.
    """

    domain: str = ""
    fraction: float = 1.0
    exclude_domain: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise InputError(f"fraction is {self.fraction}; it must be from 0 to 1")
        if self.fraction != 1 and not self.domain:
            raise InputError(f"fraction is {self.fraction}, but of no domain; name the domain")

    def check_domains(self, domains: Sequence[str]) -> None:
        """Refuse a domain that the task does not have."""
        for field in ("domain", "exclude_domain"):
            name = getattr(self, field)
            if name and name not in domains:
                raise InputError(
                    f"{field} is {name!r}; the task's domains are {name_list(domains)}{nearest(name, domains)}"
                )

    def options(self) -> list[str]:
        """The selection as command-line options."""
        options = [f"--domain={self.domain}"] * bool(self.domain)
        options += [f"--fraction={self.fraction!r}"] * (self.fraction != 1)
        return options + [f"--exclude_domain={self.exclude_domain}"] * bool(self.exclude_domain)


def hidden_from_teacher(domain: str, fraction: float, exclude: bool) -> DomainSelection:
    """What prototypes and teacher may see, if a student of a domain sees a fraction of its labels.

    Args:
        exclude: hide all of the domain's labels from them, whatever the student sees.
    """
    if exclude:
        return DomainSelection(exclude_domain=domain)
    return DomainSelection(domain, fraction) if fraction < 1 else DomainSelection()


@dataclass(frozen=True)
class TeacherPlan:
    """One training run of a teacher.

    Args:
        recipe: of the method, with the epochs of this task.
        inputs: path or Hub name of everything that is read, by role.
    """

    task: Task
    recipe: TeacherRecipe
    prototypes: Prototypes | None
    selection: DomainSelection
    inputs: dict[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """What the teacher depends on beside the content of its inputs."""
        return {**self.task.settings(), **teacher_facts(self.recipe, self.prototypes), **asdict(self.selection)}


def plan_teacher(task: Task, method: Method, selection: DomainSelection) -> TeacherPlan:
    """Plan a teacher's training.

    Raises:
        InputError: a table that does not exist, or a selection that does not fit the kind of teacher.
    """
    recipe = scaled_budget(method.teacher, task)
    if recipe.kind == "none":
        raise InputError("teacher.kind is none: this method trains no teacher")
    one_domain = recipe.kind in ("single", "multi")
    if one_domain and not selection.domain:
        raise InputError(f"teacher.kind is {recipe.kind}: each teacher is trained on one domain; name the domain")
    if not one_domain and selection.domain and selection.fraction == 1:
        raise InputError(
            f"domain is {selection.domain!r}, but a teacher of kind {recipe.kind} is trained on all domains; leave it "
            "out, or limit the domain's labels with fraction"
        )
    if selection.domain and selection.domain == selection.exclude_domain:
        raise InputError(f"domain and exclude_domain are both {selection.domain!r}")
    recipe.check_task(task)
    task.require("train", "dev")
    inputs = {"train": task.train, "dev": task.dev, "pretrained": task.teacher}
    return TeacherPlan(task, recipe, method.prototypes, selection, inputs)


@dataclass(frozen=True)
class DistillationPlan:
    """One distillation of a student.

    Args:
        stages: to run, in order.
        selection: the student's domain and the fraction of its labels that it may see.
        teachers: roles of the teachers whose logits are averaged.
        inputs: path or Hub name of everything that is read, by role: train, dev, unlabelled, pretrained, student,
            logits, "teacher 1", ..., "teacher of STAGE".
        logits_dir: folder for logits of teachers that are no folders.
    """

    task: Task
    method: Method
    stages: tuple[Stage, ...]
    selection: DomainSelection
    teachers: tuple[str, ...]
    inputs: dict[str, str]
    logits_dir: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What the student depends on beside the content of its inputs."""
        method = asdict(self.method)
        for part in (method, method["teacher"], *method["stages"]):
            leave_out_what_is_off(part)
        settings = {**self.task.settings(), "epochs_scale": self.task.epochs_scale, "method": method}
        settings |= {"stages": [stage.name for stage in self.stages], **asdict(self.selection)}
        if not isinstance(self.task.student, str):
            settings["student"] = self.task.student
        return settings

    def stage_teacher(self, stage: Stage) -> str | None:
        """The role of the teacher that a stage names itself; None if it learns from the method's."""
        if stage.teacher is None:
            return None
        return "pretrained" if stage.teacher == PRETRAINED else f"teacher of {stage.name}"


def plan_distillation(
    task: Task,
    method: Method,
    selection: DomainSelection,
    logits_dir: Path,
    teachers: Sequence[str] = (),
    logits: str | None = None,
    stage_name: str | None = None,
) -> DistillationPlan:
    """Plan a distillation.

    Args:
        logits_dir: folder for logits of teachers that are no folders.
        teachers: model folders or names; several are averaged.
        logits: file with the teacher's logits, used instead of computing them.
        stage_name: the only stage to run; by default all of the method's.

    Raises:
        InputError: a table, teacher or file that the stages need is missing.
    """
    known = [stage.name for stage in method.stages]
    stages = tuple(stage for stage in method.stages if stage_name in (None, stage.name))
    if not stages:
        raise InputError(f"stage {stage_name!r}: the method's stages are {known}{nearest(str(stage_name), known)}")
    method.check_task(task)
    check_teachers(task, stages, teachers, logits)
    inputs = {"train": task.train}
    if isinstance(task.student, str):
        inputs["student"] = task.student
    elif not starts_from_teacher(task.student):
        inputs["pretrained"] = task.teacher
    roles = tuple(f"teacher {number}" for number in range(1, len(teachers) + 1))
    inputs |= dict(zip(roles, teachers, strict=True))
    for stage in stages:
        if stage.teacher == PRETRAINED:
            inputs["pretrained"] = task.teacher
        elif stage.teacher is not None:
            inputs[f"teacher of {stage.name}"] = stage.teacher
    if selection.fraction == 1 and any(stage.select == "dev" for stage in stages):
        task.require("dev")
    if selection.fraction == 1 and any(s.trains_classifier for s in stages) and Path(task.dev).is_file():
        inputs["dev"] = task.dev
    if task.unlabelled and any({"extra", "unlabelled"} & set(stage.rows) for stage in stages):
        task.require("unlabelled")
        inputs["unlabelled"] = task.unlabelled
    if logits is not None:
        inputs["logits"] = logits
    return DistillationPlan(task, method, stages, selection, roles, inputs, logits_dir)


def check_teachers(task: Task, stages: Sequence[Stage], teachers: Sequence[str], logits: str | None) -> None:
    """Refuse a distillation that lacks a teacher or logits."""
    task.require("train")
    if logits is not None and not Path(logits).is_file():
        raise InputError(f"logits: no file {logits!r}; write the logits of the training table first")
    for stage in stages:
        if not stage.needs_method_teacher:
            continue
        if stage.needs_activations and len(teachers) != 1:
            features = ", ".join(sorted(stage.features - {"logits", "label"}))
            raise InputError(f"stage {stage.name} matches {features}, which needs one teacher, not {len(teachers)}")
        if stage.needs_logits and not teachers and logits is None:
            raise InputError(f"stage {stage.name} learns from a teacher's logits; name a teacher or a file of logits")
    if starts_from_teacher(task.student) and len(teachers) != 1:
        raise InputError(
            f"task.student starts from the teacher, but {len(teachers)} teachers are named; let it start from the "
            "pretrained encoder: add of: pretrained"
        )


def scaled_budget(part: Part, task: Task) -> Part:
    """A teacher's recipe or a stage with the epochs and steps of this task."""
    epochs, min_steps = scaled(part, task.epochs_scale)
    return replace(part, epochs=epochs, min_steps=min_steps) if part.epochs else part


def teacher_facts(recipe: TeacherRecipe, prototypes: Prototypes | None) -> dict[str, Any]:
    """What a teacher is trained by: the recipe, without the average, and the prototypes if its rows are weighted."""
    facts: dict[str, Any] = {"teacher": asdict(recipe)}
    leave_out_what_is_off(facts["teacher"])
    for name in ("average", "average_weights"):  # matter to students only
        del facts["teacher"][name]
    if recipe.kind == "multi":  # its teachers are single ones
        facts["teacher"]["kind"] = "single"
    if recipe.needs_prototypes and prototypes is not None:
        facts["prototypes"] = asdict(prototypes)
    return facts


def leave_out_what_is_off(settings: dict[str, Any]) -> None:
    """Drop later settings where they change nothing, so that results from before there were these stay valid."""
    for name, off in (("one_student", False), ("most_unlabelled", None), ("soup", 1)):
        if name in settings and settings[name] == off:
            del settings[name]


def differences(trained: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Each setting in which a teacher's recipe differs from the method file, as "teacher.kind is mix, not meta"."""
    lines: list[str] = []
    for name in dict.fromkeys([*wanted, *trained]):
        one, other, place = trained.get(name), wanted.get(name), f"{prefix}{name}"
        if isinstance(one, dict) or isinstance(other, dict):
            lines += differences(one or {}, other or {}, f"{place}.")
        elif one != other:
            lines.append(f"{place} is {one}, not {other}")
    return lines


@dataclass(frozen=True)
class RunFolder:
    """Where a run's results lie. Methods that share embeddings, weights or a teacher share their folders.

    Args:
        root: the run folder.
        method_folder: what belongs to one method alone.
        hidden: the labels that prototypes and teachers may not see.
    """

    root: Path
    method_folder: Path
    hidden: DomainSelection = DomainSelection()

    @property
    def embeddings(self) -> Path:
        return self.root / "embeddings"

    def weighted_table(self, prototypes: Prototypes) -> Path:
        """The training table with the prototype weights."""
        alpha = f"-{prototypes.alpha!r}" if prototypes.variant == "paper" else ""
        suffix = "" if self.hidden == DomainSelection() else "-" + settings_key(asdict(self.hidden))
        return self.root / "weights" / f"{prototypes.variant}{alpha}{suffix}.tsv"

    def teachers(self, task: Task, method: Method, domains: Sequence[str]) -> list[tuple[Path, DomainSelection]]:
        """The folder of each teacher that the method trains, and what the teacher may see."""
        kind, hidden = method.teacher.kind, self.hidden
        if kind == "none":
            return []
        selections = [hidden]
        if kind in ("single", "multi"):
            fractions = {hidden.domain: hidden.fraction}
            trained_on = [name for name in domains if name != hidden.exclude_domain]
            selections = [DomainSelection(name, fractions.get(name, 1.0)) for name in trained_on]
        return [(self.teacher(task, method, selection), selection) for selection in selections]

    def teacher(self, task: Task, method: Method, selection: DomainSelection) -> Path:
        """A teacher's folder; methods with the same recipe share it."""
        facts = teacher_facts(scaled_budget(method.teacher, task), method.prototypes)
        name = f"{facts['teacher']['kind']}-{settings_key({**facts, **asdict(selection)})}"
        if facts["teacher"]["kind"] == "single":
            name += f"-{folder_name(selection.domain)}"
        return self.root / "teachers" / name

    def teachers_of(self, task: Task, method: Method, domains: Sequence[str], domain: str) -> list[Path]:
        """Folders of the teachers that a domain's student learns from."""
        teachers = self.teachers(task, method, domains)
        if method.teacher.kind == "single":
            return [folder for folder, selection in teachers if selection.domain == domain]
        if method.teacher.kind == "mtl":
            return [folder / folder_name(domain) for folder, _ in teachers]
        return [folder for folder, _ in teachers]

    def student(self, task: Task, method: Method, domain: str, fraction: float = 1.0) -> tuple[Path, DomainSelection]:
        """The folder of a domain's student, and what the student sees.

        It may be the student of all domains, unless labels are hidden or each domain has classes of its own.
        """
        if method.one_student and fraction == 1 and self.hidden == DomainSelection() and not task.own_labels:
            return self.method_folder / "student", DomainSelection()
        return self.method_folder / "students" / folder_name(domain), DomainSelection(domain, fraction)

    def evaluation(self, domain: str) -> Path:
        """The file of the evaluation of a domain's student."""
        return self.method_folder / "students" / f"{folder_name(domain)}.json"
