"""The records of a plan: cells of a study, and the steps that they need, each step once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from metakd.manifests import to_jsonable
from metakd.studies.study import Cell
from metakd.training.plan import DomainSelection

StepKind = Literal[
    "check", "embeddings", "weights", "teacher", "student", "control", "evaluation", "analysis",
    "translator", "teacher translator", "targets", "translation", "scores",
]  # fmt: skip
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
        table: the training table of a teacher or student; the test table of an evaluation; of an analysis, the weighted
            training table.
        embeddings: of the training table.
        teachers: that the student learns from.
        model: to evaluate or to analyse.
        options: more options of the script, of evaluations and of steps that make translations.
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
    options: tuple[str, ...] = ()


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
        beam_evaluation: file with the scores of a translator's beam search; `evaluation` is of its greedy translations.
    """

    key: str
    cell: Cell
    settings: dict[str, Any]
    steps: tuple[Path, ...]
    evaluation: Path
    teacher_evaluation: Path | None = None
    student: Path | None = None
    teacher: Path | None = None
    beam_evaluation: Path | None = None

    @property
    def title(self) -> str:
        return self.cell.title


def key_of(content: dict[str, Any]) -> str:
    """The key of a result that depends on this content."""
    text = json.dumps(to_jsonable(content), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class PlannedAnalysis:
    """What a teacher does with its training rows; the report shows it, and no score depends on it.

    Args:
        title: in words.
        steps: outputs of all its steps, in order; the last one is the analysis.
        teacher: model folder.
    """

    title: str
    steps: tuple[Path, ...]
    teacher: Path


@dataclass
class Plan:
    """Planned cells by cell, their steps by output, and analyses of teachers."""

    cells: dict[Cell, PlannedCell] = field(default_factory=dict)
    steps: dict[Path, StudyStep] = field(default_factory=dict)
    analyses: list[PlannedAnalysis] = field(default_factory=list)

    def unfinished(self, finished: Callable[[PlannedCell], bool]) -> Plan:
        """The cells that are not finished, each key once, open analyses, and the steps that these need.

        An analysis is open where its teacher is in use anew, or is there and was never analysed. No teacher is trained
        for an analysis alone: a finished study may have lost its models.
        """
        first_of_key = {planned.key: planned for planned in reversed(self.cells.values())}
        cells = {cell: p for cell, p in self.cells.items() if first_of_key[p.key] is p and not finished(p)}
        needed = dict.fromkeys(out for planned in cells.values() for out in planned.steps)
        analyses = [
            a for a in self.analyses if a.teacher in needed or (a.teacher.is_dir() and not a.steps[-1].is_file())
        ]
        needed |= dict.fromkeys(out for analysis in analyses for out in analysis.steps)
        return Plan(cells, {out: self.steps[out] for out in needed}, analyses)
