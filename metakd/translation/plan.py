"""What the training of a translator reads and depends on, decided without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metakd.errors import InputError
from metakd.translation.settings import FreshTranslator, TranslationMethod, TranslationTask, TranslatorFromTeacher

Role = Literal["teacher", "student"]


@dataclass(frozen=True)
class TranslatorPlan:
    """One training of a translator.

    Args:
        settings: what it depends on beside the content of its inputs.
        inputs: path or Hub name of everything that is read, by role.
    """

    settings: dict[str, Any]
    inputs: dict[str, str | Path]


def reads_teacher(task: TranslationTask, method: TranslationMethod, role: Role) -> bool:
    """Whether the training reads the trained teacher: for its logits, or to cut the student from it."""
    cut = role == "student" and isinstance(task.student, TranslatorFromTeacher)
    return method.needs_teacher or cut


def plan_translator(
    task: TranslationTask,
    method: TranslationMethod,
    role: Role,
    teacher: str | None = None,
    translations: Path | None = None,
) -> TranslatorPlan:
    """Plan the training of one of a task's two translators.

    Args:
        teacher: folder of the trained teacher.
        translations: the teacher's, of the training table.

    Raises:
        InputError: a table does not exist, or what the method reads is missing, or what it does not read is there.
    """
    task.require("train", "dev")
    needs = reads_teacher(task, method, role)
    if needs and teacher is None:
        why = "a term compares logits" if method.needs_teacher else "task.student is cut from it"
        raise InputError(f"--teacher is missing, but {why}; name the folder of the trained teacher")
    if not needs and teacher is not None:
        raise InputError(f"--teacher {teacher} is of no use: the method reads no logits; leave it out")
    if method.needs_translations != (translations is not None):
        fault = "is missing" if method.needs_translations else "is of no use"
        raise InputError(f"--translations {fault}: the method's targets are {method.targets!r}")
    start = task.teacher if role == "teacher" else task.student
    inputs: dict[str, str | Path] = {"train": task.train, "dev": task.dev}
    inputs |= {"start": start} if isinstance(start, str) else {}
    inputs |= {"tokenizer": task.tokenizer} if isinstance(start, FreshTranslator) else {}  # others have their own
    inputs |= {"teacher": teacher} if teacher is not None else {}
    inputs |= {"translations": translations} if translations is not None else {}
    settings = {**task.settings(), "role": role, "method": method.settings()}
    settings |= {} if isinstance(start, str) else {"start": start}
    return TranslatorPlan(settings, inputs)
