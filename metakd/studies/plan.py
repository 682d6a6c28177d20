"""The records of a plan: cells of a study, and the steps that they need, each step once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from metakd.studies.study import Cell
from metakd.training.plan import DomainSelection

StepKind = Literal["check", "embeddings", "weights", "teacher", "student", "control", "evaluation"]
ALL_ROWS = DomainSelection()


@dataclass(frozen=True)
class StudyStep:
    """One run of a script. Cells that need the same output share the step.

    Args:
        kind: what the step makes.
        out: the output; it identifies the step.
        needs: outputs of the steps that come before it.
        task, method: options that give a script the task and the method.
        name: of the method or control.
        selection: rows and labels that may be used.
        table: the training table of a teacher or student; the test table of an evaluation.
        embeddings: of the training table.
        teachers: that the student learns from.
        model: to evaluate.
    """

    kind: StepKind
    out: Path
    needs: tuple[Path, ...] = ()
    task: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    name: str = ""
    selection: DomainSelection = ALL_ROWS
    table: Path | None = None
    embeddings: Path | None = None
    teachers: tuple[Path, ...] = ()
    model: Path | None = None


@dataclass(frozen=True)
class PlannedCell:
    """A cell and what it needs.

    Args:
        key: 16 hexadecimal digits that stand for all that the result depends on but the code. Cells of equal keys have
            one result, e.g. those of a control that no seed changes.
        settings: task and method.
        steps: outputs of all its steps, in order.
        evaluation: file with its scores and predictions.
        teacher_evaluation: the same of its teacher; None without teacher, or with several.
        student, teacher: model folders with a training history.
    """

    key: str
    cell: Cell
    settings: dict[str, Any]
    steps: tuple[Path, ...]
    evaluation: Path
    teacher_evaluation: Path | None = None
    student: Path | None = None
    teacher: Path | None = None


@dataclass
class Plan:
    """Planned cells by cell, and their steps by output."""

    cells: dict[Cell, PlannedCell] = field(default_factory=dict)
    steps: dict[Path, StudyStep] = field(default_factory=dict)

    def unfinished(self, finished: Callable[[PlannedCell], bool]) -> Plan:
        """The cells that are not finished, each key once, and the steps that they need."""
        first_of_key = {planned.key: planned for planned in reversed(self.cells.values())}
        cells = {cell: p for cell, p in self.cells.items() if first_of_key[p.key] is p and not finished(p)}
        needed = dict.fromkeys(out for planned in cells.values() for out in planned.steps)
        return Plan(cells, {out: self.steps[out] for out in needed})
