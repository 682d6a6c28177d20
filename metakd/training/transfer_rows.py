"""The rows that a student can be shown: its domain's, other domains', and those of an unlabelled table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from metakd.data.encoding import EncodedRows, encode
from metakd.data.few_labels import hide_labels, random_order
from metakd.data.labels import Labels
from metakd.data.logits_files import read_logits
from metakd.data.tables import TRAINING, UNLABELLED
from metakd.errors import InputError
from metakd.methods.stage import Stage
from metakd.training.plan import DistillationPlan
from metakd.training.teacher_outputs import TableSpec, teacher_logits
from metakd.training.teachers import Teacher
from metakd.weighting.row_weights import check_prototype_weights, row_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferRows:
    """All rows that the stages of a plan may show, hidden labels removed.

    Args:
        rows: of the training table, followed by those of the unlabelled table.
        of_domain: which rows belong to the student's domain, of either table (bool [n]).
        extra: which rows come from the unlabelled table (bool [n]).
        labels: the student's.
        domains: the task's.
    """

    plan: DistillationPlan
    rows: EncodedRows
    of_domain: np.ndarray
    extra: np.ndarray
    labels: Labels
    domains: list[str]

    def of_stage(self, stage: Stage) -> np.ndarray:
        """Numbers of the rows that a stage shows.

        Raises:
            InputError: there are none, or the stage learns from labels alone and no row has one.
        """
        kinds = {
            "labelled": self.of_domain & self.rows.labelled,
            "unlabelled": self.of_domain & ~self.rows.labelled,
            "other_domains": ~self.of_domain & ~self.extra,
            "extra": self.extra & ~self.of_domain,
        }
        if stage.most_unlabelled is not None:
            kinds["unlabelled"] = self.sample(kinds["unlabelled"], stage.most_unlabelled)
        numbers = np.flatnonzero(np.any([kinds[kind] for kind in stage.rows], axis=0))
        if not len(numbers):
            domain = self.plan.selection.domain
            raise InputError(
                f"stage {stage.name}: {self.plan.inputs['train']} has no {' or '.join(stage.rows)} rows"
                f"{f' of domain {domain}' if domain else ''}; the method file can name other rows, e.g. [unlabelled]"
            )
        if stage.features == {"label"} and not self.rows.labelled[numbers].any():
            raise InputError(f"stage {stage.name} learns from labels, but none of its rows has one")
        return numbers

    def sample(self, chosen: np.ndarray, most: int) -> np.ndarray:
        """At most so many of the chosen rows (bool [n])."""
        candidates = np.flatnonzero(chosen)
        guids = self.rows.tokens.select(candidates)["guid"][:]
        sample = np.zeros(len(chosen), dtype=bool)
        sample[candidates[random_order(guids, self.plan.task.training.seed)[:most]]] = True
        return sample

    def weights(self, stage: Stage, logits: np.ndarray | None) -> np.ndarray:
        """Weight of each of the stage's rows.

        Args:
            logits: the teacher's, of the stage's rows, or None.

        Raises:
            InputError: prototype weights are missing, know hidden labels, or do not fit the task.
        """
        numbers = self.of_stage(stage)
        rows = self.rows.select(numbers)
        if stage.needs_prototypes and rows.labelled.any():
            shown = np.zeros(len(self.rows), dtype=bool)
            shown[numbers] = True
            check_prototype_weights(self.rows, shown & self.rows.labelled, self.plan.inputs["train"])
        return row_weights(stage, rows, logits, self.labels.problem, self.plan.task.training.seed)

    def teacher_logits(self, teachers: Sequence[Teacher], accelerator: Accelerator) -> np.ndarray:
        """The teachers' averaged logits [n, C] of all rows; NaN for rows that no stage shows."""
        task, selection = self.plan.task, self.plan.selection
        all_domains = bool((self._shown() & ~self.of_domain & ~self.extra).any())
        domain = "" if all_domains else selection.domain
        tables = [TableSpec(self.plan.inputs["train"], TRAINING, self.domains, domain)]
        if self.extra.any():
            tables.append(TableSpec(self.plan.inputs["unlabelled"], UNLABELLED))
        recipe, logits_dir = self.plan.method.teacher, self.plan.logits_dir
        return teacher_logits(teachers, tables, recipe, task.max_length, self.labels, logits_dir, accelerator)

    def logits_from_file(self) -> np.ndarray:
        """The logits [n, C] of the plan's file; NaN for rows that no stage shows and the file lacks."""
        return read_logits(self.plan.inputs["logits"], self.labels, self.rows.guids[:], self._shown())

    def _shown(self) -> np.ndarray:
        shown = np.zeros(len(self.rows), dtype=bool)
        for stage in self.plan.stages:
            shown[self.of_stage(stage)] = True
        return shown


def warn_of_others(plan: DistillationPlan, count: int, extra: int) -> None:
    """Say that no stage shows some rows of the unlabelled table, or that it has none of those that a stage shows.

    Args:
        count: of rows that have no domain of the task.
        extra: how many rows are not of the student's domains.
    """
    shown, table = any("extra" in stage.rows for stage in plan.stages), plan.inputs["unlabelled"]
    if count and not shown:
        log.warning(
            "NOTE: %s: %d rows have no domain of the task, and no stage shows them; correct field 'domain', or add "
            "extra to the rows of a stage", table, count,
        )  # fmt: skip
    if shown and not extra:
        log.warning("NOTE: %s has no row of another domain, such as data_prep/other_text.py makes, for extra", table)


def load_transfer_rows(
    plan: DistillationPlan, labels: Labels, domains: list[str], tokenizer: PreTrainedTokenizerBase
) -> TransferRows:
    """Read and tokenise the tables of a plan.

    Args:
        labels: the student's.
        domains: the task's.
        tokenizer: the student's.
    """
    task, selection, train = plan.task, plan.selection, plan.inputs["train"]
    number = domains.index(selection.domain) if selection.domain else None
    rows = encode(train, tokenizer, task.max_length, labels, domains, TRAINING)
    of_domain = np.ones(len(rows), dtype=bool) if number is None else rows.domains == number
    if not of_domain.any():
        raise InputError(f"{train} has no row of domain {selection.domain!r}")
    if labels.domain:  # labels of other domains are no classes of this student, so their prototype weights say nothing
        rows = replace(rows, weights=np.where(of_domain, rows.weights, np.nan))
    rows = hide_labels(rows, of_domain, selection.fraction, task.training.seed, task.problem)
    extra = np.zeros(len(rows), dtype=bool)
    if "unlabelled" in plan.inputs:
        more = encode(plan.inputs["unlabelled"], tokenizer, task.max_length, domains=domains, required=UNLABELLED)
        more_of_domain = more.domains >= 0 if number is None else more.domains == number
        warn_of_others(plan, int((more.domains < 0).sum()), int((~more_of_domain).sum()))
        more = replace(
            more,
            labels=labels.targets([""] * len(more)),
            labelled=np.zeros(len(more), dtype=bool),
            domains=np.where(more.domains < 0, number or 0, more.domains),
            weights=np.full(len(more), np.nan),
        )
        rows = rows.concatenate(more)
        of_domain = np.concatenate([of_domain, more_of_domain])
        extra = np.concatenate([extra, np.ones(len(more), dtype=bool)])
    return TransferRows(plan, rows, of_domain, extra, labels, domains)
