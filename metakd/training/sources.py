"""What a student can be shown: its domain's rows with and without label, other domains' rows, an unlabelled table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from metakd.config import Task
from metakd.data.encoding import encode
from metakd.data.few_labels import check_weights, hide_labels
from metakd.data.labels import Labels
from metakd.data.logits_files import read_logits
from metakd.data.tables import TRAINING, UNLABELLED
from metakd.errors import InputError
from metakd.methods import Method, Stage
from metakd.training.students import row_weights
from metakd.training.teacher_outputs import Table, logits_of_teachers
from metakd.training.teachers import Teacher


@dataclass(frozen=True)
class Target:
    """What a student is distilled for.

    Args:
        labels, domains: the task's.
        domain: the student's; "" for all rows.
        fraction: share of its labels that may be seen.
    """

    labels: Labels
    domains: list[str]
    domain: str = ""
    fraction: float = 1.0


class Sources:
    """The rows that stages can be shown, and what the teachers say of them.

    Args:
        tokenizer: the student's.
        stages: that are run.
        logits_file: logits in place of a teacher's, or None.
        beside: folder for logits of teachers that are no folders.
    """

    def __init__(
        self, task: Task, method: Method, target: Target, stages: Sequence[Stage], tokenizer: PreTrainedTokenizerBase,
        logits_file: str | None, beside: Path, accelerator: Accelerator,
    ) -> None:  # fmt: skip
        self.task, self.method, self.target, self.stages = task, method, target, stages
        self.logits_file, self.beside, self.accelerator = logits_file, beside, accelerator
        self.own = target.domains.index(target.domain) if target.domain else None
        rows = encode(task.train, tokenizer, task.max_length, target.labels, target.domains, TRAINING)
        of_domain = np.ones(len(rows), dtype=bool) if self.own is None else rows.domains == self.own
        if not of_domain.any():
            raise InputError(f"{task.train} has no row of domain {target.domain!r}")
        rows = hide_labels(rows, of_domain, target.fraction, task.training.seed, task.problem)
        self.uses_extra = any("extra" in stage.rows for stage in stages)
        self.extra = np.zeros(len(rows), dtype=bool)
        if self.uses_extra:
            assert task.unlabelled is not None
            more = encode(task.unlabelled, tokenizer, task.max_length, required=UNLABELLED)
            nothing = np.zeros(len(more), dtype=bool)
            more = replace(
                more, labels=target.labels.targets([""] * len(more)), labelled=nothing,
                domains=np.full(len(more), self.own or 0), weights=np.full(len(more), np.nan),
            )  # fmt: skip
            self.extra = np.concatenate([self.extra, ~nothing])
            rows = rows.followed_by(more)
        self.rows = rows
        self.of_domain = ~self.extra
        self.of_domain[: len(of_domain)] &= of_domain

    def chosen(self, stage: Stage) -> np.ndarray:
        """Numbers of the rows that the stage shows.

        Raises:
            InputError: there are none.
        """
        kinds = {
            "labelled": self.of_domain & self.rows.labelled,
            "unlabelled": self.of_domain & ~self.rows.labelled,
            "other_domains": ~self.of_domain & ~self.extra,
            "extra": self.extra,
        }
        found = np.flatnonzero(np.any([kinds[kind] for kind in stage.rows], axis=0))
        if not len(found):
            where = f" of domain {self.target.domain}" if self.target.domain else ""
            raise InputError(f"stage {stage.name}: {self.task.train} has no {' or '.join(stage.rows)} rows{where}; the "
                             "method file can name other rows, e.g. [unlabelled]")  # fmt: skip
        if "label" in stage.features and not self.rows.labelled[found].any():
            raise InputError(f"stage {stage.name} learns from labels, but none of its rows has one")
        return found

    def weights(self, stage: Stage, logits: np.ndarray | None) -> np.ndarray:
        """Weight of each of the stage's rows [n].

        Args:
            logits: of all rows, or None.

        Raises:
            InputError: see `check_weights` and `row_weights`.
        """
        chosen = self.chosen(stage)
        rows = self.rows.select(chosen)
        if stage.row_weight != "uniform" and rows.labelled.any():
            shown = np.zeros(len(self.rows), dtype=bool)
            shown[chosen] = True
            check_weights(self.rows, shown & self.rows.labelled, self.task.train)
        return row_weights(stage, rows, None if logits is None else logits[chosen], self.target.labels)

    def logits(self, teachers: Sequence[Teacher], from_file: bool) -> np.ndarray:
        """Logits [n, C] of all rows, NaN where no stage is shown them."""
        shown = np.zeros(len(self.rows), dtype=bool)
        for stage in self.stages:
            shown[self.chosen(stage)] = True
        if from_file:
            assert self.logits_file is not None
            return read_logits(self.logits_file, self.target.labels, self.rows.guids[:], shown)
        domains = self.target.domains
        everything = bool((shown & ~self.of_domain & ~self.extra).any())
        tables = [Table(self.task.train, TRAINING, domains, "" if everything else self.target.domain)]
        if self.uses_extra:
            assert self.task.unlabelled is not None
            tables.append(Table(self.task.unlabelled, UNLABELLED))
        return logits_of_teachers(
            teachers, tables, self.method, self.task.max_length, self.target.labels, self.beside, self.accelerator
        )
